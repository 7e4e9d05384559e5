"""What a stage's own client bought is counted once per batch, whoever counts it and however often."""

from __future__ import annotations

import pytest
from upath import UPath

from airflow_batch_provider.client.spending import Record, Spending
from airflow_batch_provider.models import Cost, Usage
from airflow_batch_provider.storage import Directory


def record(batch_id="batch-1", model="m", calls=2, usd=0.5):
    tokens = Usage(input_tokens=10 * calls, output_tokens=calls)
    return Record(batch_id=batch_id, model=model, calls=calls, usage=tokens, cost=Cost(usd=usd))


@pytest.fixture(params=["stored", "in memory"])
def directory(request, tmp_path):
    return Directory(UPath(tmp_path / "spending")) if request.param == "stored" else None


@pytest.fixture
def stored(tmp_path):
    return Directory(UPath(tmp_path / "spending"))


def test_a_batch_is_counted_once(directory):
    """The first record stands."""
    spending = Spending(directory)

    assert spending.get("batch-1") is None
    assert spending.count(record()) == record()
    assert spending.count(record(calls=7)) == record()

    assert spending.get("batch-1") == record()
    assert spending.stats().total_calls == 2


def test_sums_are_over_all_batches_and_by_model(directory):
    """A model without a known price adds its tokens, but no money."""
    spending = Spending(directory)
    for one in (record("batch-1", "m", 2, 0.5), record("batch-2", "n", 3, None), record("batch-3", "m", 4, 0.25)):
        spending.count(one)

    stats = spending.stats()

    assert (stats.total_calls, stats.usage, stats.total_cost) == (9, Usage(input_tokens=90, output_tokens=9), 0.75)
    assert {model: (part.total_calls, part.total_cost) for model, part in stats.per_model.items()} == {
        "m": (6, 0.75),
        "n": (3, 0.0),
    }
    assert stats.per_model["m"].usage == Usage(input_tokens=60, output_tokens=6)


def test_nothing_is_spent_before_anything_is_counted(directory):
    """No file has to be there."""
    stats = Spending(directory).stats()

    assert (stats.total_calls, stats.total_cost, stats.per_model) == (0, 0.0, {})


def test_a_later_process_knows_what_an_earlier_one_counted(stored):
    """And adds its own to it."""
    Spending(stored).count(record("batch-1"))
    later = Spending(stored)

    assert later.get("batch-1") == record("batch-1")
    assert later.count(record("batch-1", calls=7)) == record("batch-1")
    later.count(record("batch-2"))
    assert later.stats().total_calls == 4


def test_of_two_processes_that_count_a_batch_at_once_one_wins(stored, monkeypatch):
    """The other one takes over what the first one wrote."""
    mine, theirs = Spending(stored), Spending(stored)
    create = stored.create

    def overtaken(name, data):
        monkeypatch.undo()
        theirs.count(record(calls=7))
        return create(name, data)

    monkeypatch.setattr(stored, "create", overtaken)

    assert mine.count(record()) == record(calls=7)
    assert mine.stats().total_calls == 7


def test_an_id_never_becomes_a_path(stored):
    """It comes from the provider and may be anything."""
    spending = Spending(stored)
    for batch_id in ("../../outside", "a/b", "CON", "x" * 1000):
        spending.count(record(batch_id))

    assert stored.names() == ["records"]
    assert len(stored.names("records")) == 4
    assert spending.stats().total_calls == 8
