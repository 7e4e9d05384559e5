"""The same polls over the emulator, with the providers' real SDKs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest
from provider_backends import BACKENDS, Bench

from airflow_batch_provider.emulator.clock import Clock
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.exceptions import Denied, NotFound, Rejected, Unavailable
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.providers import connect

BATCHES = 12


@pytest.fixture(scope="module")
def running():
    with EmulatorServer(clock=Clock.virtual()) as server:
        yield server


@pytest.fixture
def emulator(running):
    running.emulator.reset()
    running.emulator.settings = Settings(progress=Progress(by="time", pending=1, running=4, finalizing=1, settle=2))
    return running


@pytest.fixture(params=["anthropic", "openai-chat", "google"])
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture
async def bench(backend, emulator, tmp_path):
    provider = connect(backend.account(emulator.url))
    yield Bench(backend, provider, emulator.emulator, tmp_path, emulator.url)
    await provider.aclose()


@pytest.fixture
async def hub(backend, emulator):
    async def open_account(_conn_id):
        return backend.account(emulator.url)

    async def soon(_seconds):
        await asyncio.sleep(0.02)

    async with aclosing(Hub(open_account, sleep=soon)) as hub:
        yield hub


@pytest.fixture
async def ids(bench):
    return [await bench.submit(bench.payload(f"{number}")) for number in range(BATCHES)]


def asked(bench, route):
    return bench.emulator.calls[bench.backend.routes[route]]


async def polled(hub, ids):
    return await asyncio.gather(*(hub.status("c", one) for one in ids), return_exceptions=True)


async def test_one_page_answers_everybody(bench, hub, ids):
    """The list says of each batch what a poll of it alone says."""
    seen = await polled(hub, ids)
    assert (asked(bench, "list"), asked(bench, "retrieve")) == (1, 0)
    assert seen == [await bench.provider.status(one) for one in ids]
    bench.finish()
    assert [status.status for status in await polled(hub, ids)] == ["completed"] * BATCHES


async def test_pages_end(bench, hub, ids):
    """And each batch stands on one of them."""
    listed = [status.batch_id async for page in bench.provider.pages(set(ids)) for status in page.statuses]
    assert listed == ids[::-1]
    assert asked(bench, "list") == 1


async def test_a_batch_that_no_list_shows_is_polled_alone(bench, hub, ids):
    """Lists lag behind."""
    bench.fault("create", "unlist", seconds=900)
    hidden = await bench.submit(bench.payload("hidden"))
    seen = await polled(hub, [*ids, hidden])
    assert [status.batch_id for status in seen] == [*ids, hidden]
    assert asked(bench, "retrieve") == 1


async def test_a_strange_id_and_a_missing_batch_stay_with_their_tasks(bench, hub, ids):
    """Neither changes a path or a neighbour's answer."""
    stranger = ids[0][:-4] + "ffff"
    seen = await polled(hub, ["../files", stranger, "a b", *ids])
    assert [type(one) for one in seen[:3]] == [Rejected, NotFound, Rejected]
    assert [status.batch_id for status in seen[3:]] == ids
    assert asked(bench, "retrieve") == 1


@pytest.mark.parametrize("kind", ["status", "cut"])
async def test_a_list_that_fails_is_not_an_end(bench, hub, ids, kind):
    """Each batch is asked for by itself."""
    bench.fault("list", kind)
    seen = await polled(hub, ids)
    assert [status.batch_id for status in seen] == ids
    assert asked(bench, "retrieve") == BATCHES


async def test_a_page_that_is_cut_in_the_middle_is_not_an_end(bench, hub, ids):
    """Half a page is not a page."""
    bench.fault("list", "cut_body", bytes=200)
    seen = await polled(hub, ids)
    assert [status.batch_id for status in seen] == ids


async def test_a_fault_of_one_batch_stays_with_it(bench, hub, ids):
    """Its neighbours are answered, by the list or one by one."""
    bench.fault("list", "status", status=404, times=None)
    bench.fault("retrieve", "status", status=500, times=None, path=f"*{ids[3].removeprefix('batches/')}*")
    seen = await polled(hub, ids)
    assert [number for number, one in enumerate(seen) if isinstance(one, Unavailable)] == [3]
    assert sum(isinstance(one, Exception) for one in seen) == 1


async def test_a_key_that_was_rotated_is_read_again(bench, backend, emulator, ids):
    """Airflow holds the new key already when the old one is refused."""
    key = ["old"]

    async def open_account(_conn_id):
        return backend.account(emulator.url).model_copy(
            update={"api_key": type(bench.provider.account.api_key)(key[0])}
        )

    async with aclosing(Hub(open_account)) as hub:
        key[0] = "sk-first"
        await hub.provider("c")
        emulator.emulator.settings = emulator.emulator.settings.changed({"keys": ["sk-second"]})
        key[0] = "sk-second"
        assert [status.batch_id for status in await polled(hub, ids)] == ids
        key[0] = "sk-third"
        emulator.emulator.settings = emulator.emulator.settings.changed({"keys": ["nobody's"]})
        assert {type(one) for one in await polled(hub, ids)} == {Denied}
        assert {type(one) for one in await polled(hub, ids[:1])} == {Denied}


async def test_a_subscription_hears_of_the_end_without_a_request_of_its_own(bench, hub, ids):
    """It pauses until a neighbour's poll has seen the end."""
    waiting = hub.subscribe(timedelta(hours=1))
    for one in ids:
        assert not (await waiting.status("c", one)).ended
    pausing = asyncio.create_task(waiting.pause(3600))
    await asyncio.sleep(0)
    bench.finish()
    await polled(hub, ids)
    await pausing
    before = sum(bench.emulator.calls.values())
    assert all([(await waiting.status("c", one)).ended for one in ids])
    assert sum(bench.emulator.calls.values()) == before
