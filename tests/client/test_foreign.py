"""Several batches behind one id, as one status."""

from __future__ import annotations

import pytest

from airflow_batch_provider.client.foreign import combined
from airflow_batch_provider.models import BatchStatus, RequestCounts


def batch(status, counts=None, error=None):
    return BatchStatus(batch_id=f"of {status}", status=status, counts=counts and RequestCounts(**counts), error=error)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["completed", "completed"], "completed"),
        (["completed", "processing"], "processing"),
        (["pending", "completed"], "pending"),
        (["pending", "processing"], "processing"),
        (["failed", "completed"], "completed"),
        (["failed", "expired"], "expired"),
    ],
)
def test_batches_have_ended_when_all_of_them_have(words, word):
    """`completed` when any of them is, because it has rows to read."""
    assert combined("all", [batch(each) for each in words]).status == word


def test_counts_are_the_sums_of_all_batches_or_unknown():
    """A sum that leaves one batch out would look like a whole."""
    one, two = {"total": 5, "succeeded": 3, "failed": 1}, {"total": 7, "succeeded": 2, "failed": 4}

    both = combined("all", [batch("processing", one), batch("processing", two)])
    half = combined("all", [batch("processing", one), batch("pending")])

    assert both.batch_id == "all"
    assert both.counts == RequestCounts(total=12, succeeded=5, failed=5)
    assert half.counts is None


def test_the_first_error_is_told():
    """And one batch is told as it is."""
    failed = batch("failed", error="no file")
    assert combined("all", [batch("completed"), failed, batch("failed", error="later")]).error == "no file"
    assert combined("all", [failed]) is failed
