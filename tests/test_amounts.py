"""Money as text: one rule for every message, line of a log, receipt and, by the same numbers, the page."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import airflow_batch_provider
from airflow_batch_provider.amounts import digits, dollars

PACKAGE = Path(airflow_batch_provider.__file__).parent

AMOUNTS = [
    (0, "$0.00"),
    (3, "$3.00"),
    (0.5, "$0.50"),
    (0.01, "$0.01"),
    (0.005, "$0.005"),
    (0.0034567, "$0.0035"),
    (0.12345, "$0.1235"),
    (0.000058, "$0.000058"),
    (5.84e-05, "$0.000058"),
    (1e-10, "$0.0000000001"),
    (2.2512, "$2.2512"),
    (1234567.5, "$1,234,567.50"),
    (Decimal("0.99999"), "$1.00"),
    (Decimal("-0.00002"), "-$0.00002"),
]


@pytest.mark.parametrize(("usd", "shown"), AMOUNTS)
def test_an_amount_is_shown_in_cents_and_a_smaller_one_by_its_first_two_digits(usd, shown):
    """Without an exponent, and with no more decimals than people read."""
    assert dollars(usd) == shown


@given(st.decimals(min_value="1e-18", max_value="1e12", allow_nan=False))
def test_an_amount_that_is_not_nothing_is_never_shown_as_nothing(usd):
    """And is off by at most five in its third digit, or half of a hundredth of a cent."""
    shown = Decimal(dollars(usd).lstrip("$").replace(",", ""))

    assert shown > 0
    assert abs(shown - usd) <= Decimal("0.00005")
    assert abs(shown - usd) <= usd / 19


@pytest.mark.parametrize(
    ("number", "shown"), [(1e-05, "0.00001"), (3.0, "3"), (1234567.5, "1234567.5"), (Decimal("2.25"), "2.25"), (0, "0")]
)
def test_a_limit_is_told_as_it_was_set(number, shown):
    """So that it is found in the DAG again."""
    assert digits(number) == shown


def test_no_other_code_formats_money():
    """A fixed number of decimals shows a small amount as nothing."""
    formats_itself = re.compile(r"\$\{[^}\n]*\.\d+f\}|US\$ ?\{|usd:[.,\d]*(?:\.\d+f|[eg])\}|limit:[eg]\}")
    found = [path.name for path in PACKAGE.rglob("*.py") if formats_itself.search(path.read_text())]

    assert found == []
