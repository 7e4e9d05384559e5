"""Budgets as people write them into Airflow's configuration."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.exceptions import UsageError


@pytest.fixture
def configured(monkeypatch):
    """The amounts for DAG runs, as this text tells them."""

    def read(text):
        monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__RUN_BUDGETS", text)
        return settings.budgets().run

    return read


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("", {}),
        (" ", {}),
        ("{}", {}),
        ("50", {"*": Decimal(50)}),
        ("0", {"*": Decimal(0)}),
        ('{"*": 0.1, "my dag": 1e3}', {"*": Decimal("0.1"), "my dag": Decimal(1000)}),
    ],
)
def test_amounts_are_read_exactly(configured, text, amounts):
    """By id, or one for all."""
    assert configured(text) == amounts


@pytest.mark.parametrize(
    "text",
    [
        "fifty",
        "$50",
        "-1",
        "NaN",
        "Infinity",
        "true",
        "null",
        "[1]",
        '"50"',
        '{"a": "5"}',
        '{"a": -1}',
        '{"a": null}',
        "{",
    ],
)
def test_what_tells_no_amount_is_refused_with_an_example(configured, text):
    """A limit that is misread might be none."""
    with pytest.raises(UsageError, match=r"Write US dollars for each DAG, and \* for any other") as caught:
        configured(text)
    assert f"option run_budgets of [batch_provider] cannot be read: {text!r} " in str(caught.value)
