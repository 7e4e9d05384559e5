"""Rows of a command as text."""

from __future__ import annotations

import json

import pytest

from airflow_batch_provider.cli.output import rendered


@pytest.mark.parametrize("output", ["table", "plain"])
@pytest.mark.parametrize(
    ("usd", "shown"), [(5.8e-05, "0.000058"), (1e-10, "0.0000000001"), (12.5, "12.5"), (1e16, "10000000000000000")]
)
def test_small_and_large_amounts_are_shown_without_an_exponent(output, usd, shown):
    """People compare them at a glance."""
    assert shown in rendered([{"usd": usd}], output, "").split()


def test_programs_get_numbers():
    """As JSON has them."""
    assert json.loads(rendered([{"usd": 5.8e-05}], "json", "")) == [{"usd": 5.8e-05}]


@pytest.mark.parametrize("output", ["table", "plain"])
@pytest.mark.parametrize("batch", ["12e3", "0x10", "007", "1_000", "inf", "-"])
def test_an_id_that_looks_like_a_number_is_shown_as_it_is(output, batch):
    """It is copied into the next command."""
    assert batch in rendered([{"tag": "a", "batch": batch}], output, "").split()
