"""What the batches of a deployment have cost: each once, found by when it was submitted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from upath import UPath

from airflow_batch_provider.models import Cost, Usage
from airflow_batch_provider.spending import SpendingBook, Spent
from airflow_batch_provider.storage import Directory

OCTOBER, NOVEMBER = datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 1, 1, tzinfo=UTC)


def spent(tag, at=NOVEMBER, usd=1.0):
    return Spent(
        tag=tag,
        batch_id=f"batch-of-{tag}",
        provider="openai",
        model="m",
        label="dag/run/task",
        claim="file:///x/dag/run/task/waves/0/00000.claim.json",
        requests=2,
        succeeded=1,
        submitted_at=at,
        usage=Usage(input_tokens=10),
        cost=Cost(usd=usd),
    )


@pytest.fixture
def book(tmp_path):
    return SpendingBook(Directory(UPath(tmp_path / "spent")))


def test_a_batch_that_is_noted_twice_counts_once(book):
    """A worker that died before the rows were there is followed by one that notes the same."""
    book.note(spent("a"))
    book.note(spent("a", usd=2.0))

    assert [one.cost.usd for one in book.since()] == [2.0]


def test_a_batch_that_two_workers_noted_in_two_months_counts_once(book):
    """Their clocks, or their receipts, may differ."""
    book.note(spent("a", at=OCTOBER))
    book.note(spent("a", at=NOVEMBER))

    assert len([*book.since()]) == 1


def test_only_what_was_submitted_since_then_is_told(book):
    """Months that are over are not read."""
    book.note(spent("a", at=OCTOBER))
    book.note(spent("b", at=NOVEMBER))
    book.note(spent("c", at=NOVEMBER + timedelta(hours=2)))

    assert [one.tag for one in book.since(NOVEMBER + timedelta(hours=1))] == ["c"]
    assert [one.tag for one in book.of_month("2026-10")] == ["a"]
    assert [one.tag for one in book.of_month("2026-11")] == ["b", "c"]


def test_a_month_is_one_of_utc(book):
    """Wherever the worker stands."""
    book.note(spent("a", at=datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=2)))))

    assert [one.tag for one in book.of_month("2026-10")] == ["a"]
