"""A stage's own client buys the same requests once, whatever changes around them."""

from __future__ import annotations

import pytest
from fakes import FakeHub
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.storage import Directory, StageStorage


@pytest.fixture
def client(tmp_path, provider, clock):
    """Each call is a process of its own, with the same storage."""
    provider.looks_until_done = 1000
    storage = StageStorage(Directory(UPath(tmp_path / "own")))
    return lambda: BatchClient(FakeHub(provider, clock), "c", "openai:m", storage=storage, clock=clock)


async def test_requests_stay_cut_as_they_were_when_some_of_them_are_bought(client, provider):
    """A limit was changed between two attempts; other cuts would move rows between batches."""
    provider.max_requests = 2
    provider.submit_faults = [None, Rejected("too large")]
    with pytest.raises(Rejected):
        await client().submit(["a", "b", "c", "d"])

    provider.max_requests = 3
    handle = await client().submit(["a", "b", "c", "d"])
    again = await client().submit(["a", "b", "c", "d"], batch_size=1)

    assert provider.bought == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert handle.batch_ids == again.batch_ids == ("batch-0", "batch-1")


async def test_two_workers_that_find_a_dead_batch_buy_it_anew_once(client, provider):
    """One of them looked at it, and was slow."""
    await client().submit(["a", "b"])
    provider.batches["batch-0"].status = "expired"
    status, bought = provider.status, []

    async def slow(batch_id):
        seen = await status(batch_id)
        if not bought:
            provider.status = status
            bought.append(None)
            bought[0] = await client().submit(["a", "b"])
        return seen

    provider.status = slow
    handle = await client().submit(["a", "b"])

    assert handle == bought[0]
    assert provider.bought == {"a": 2, "b": 2}


async def test_a_worker_that_dies_while_it_forgets_a_dead_batch_leaves_nothing_stuck(client, provider, tmp_path):
    """Its claim is withdrawn, its receipt is still there: the next one buys anew."""
    await client().submit(["a", "b"])
    provider.batches["batch-0"].status = "expired"
    (folder,) = (tmp_path / "own/submissions").iterdir()
    claims = BatchFiles(Directory(UPath(folder)), 0)
    claims.withdraw(claims.claim())

    assert (await client().submit(["a", "b"])).id == "batch-1"
