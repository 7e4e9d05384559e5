"""A key that two rows have is found, however many rows there are, in memory that does not grow with them."""

from __future__ import annotations

from contextlib import closing

import pytest

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger import keys as module
from airflow_batch_provider.ledger.keys import Keys
from airflow_batch_provider.ledger.requests import plan_rows
from airflow_batch_provider.models import Spec


@pytest.fixture(params=["in memory", "on disk"])
def keys(request, monkeypatch):
    """Keys of which few, or nearly all, are put on disk."""
    if request.param == "on disk":
        monkeypatch.setattr(module, "_FULL", 4)
    with closing(Keys()) as keys:
        yield keys


def test_keys_that_all_differ_have_nothing_in_common(keys):
    keys.add([f"row-{number}" for number in range(2_500)])
    keys.add([f"row-{number}" for number in range(2_500, 5_000)])

    assert not keys.doubled()


def test_a_key_that_came_long_ago_is_known(keys):
    keys.add([f"row-{number}" for number in range(2_500)])
    keys.add([f"row-{number}" for number in range(2_500, 5_000)])
    keys.add(["row-17"])

    doubled = keys.doubled()

    assert [number for number in range(5_000) if f"row-{number}" in doubled] == [17]


def test_what_is_too_much_leaves_the_memory(monkeypatch):
    """Of any number of keys, fewer than so many stay."""
    monkeypatch.setattr(module, "_FULL", 1_000)
    with closing(Keys()) as keys:
        for start in range(0, 20_000, 7):
            keys.add([f"row-{start + number}" for number in range(7)])

            assert sum(map(len, keys._parts)) < 1_000


def test_what_is_on_disk_is_looked_through_part_by_part(monkeypatch):
    """All of it at once would take 80 MB for ten million keys."""
    monkeypatch.setattr(module, "_FULL", 1_000)
    with closing(Keys()) as keys:
        keys.add([f"row-{number}" for number in range(20_000)])

        assert not keys.doubled()
        assert sum(map(len, keys._parts)) < 1_000


def test_two_keys_of_one_hash_are_two_keys(provider, monkeypatch):
    """A hash only says where to look."""
    monkeypatch.setattr(module, "hash", lambda _key: 1, raising=False)
    rows = [{"prompt": "a", "custom_id": "x"}, {"prompt": "b", "custom_id": "y"}]

    assert [row.custom_id for block in plan_rows(rows, provider, Spec(model="m")) for row in block] == ["x", "y"]
    with pytest.raises(UsageError, match="'y' is used by row 1 and by row 2"):
        list(plan_rows([*rows, {"prompt": "c", "custom_id": "y"}], provider, Spec(model="m")))


def test_a_key_that_a_generator_yields_twice_is_refused(provider):
    """Its rows come once, so the key cannot be named."""
    rows = ({"prompt": "a", "custom_id": "x"} for _ in range(2))

    with pytest.raises(UsageError, match="Two rows have the same custom_id"):
        list(plan_rows(rows, provider, Spec(model="m")))
