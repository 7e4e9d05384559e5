"""A fault stays with its batch or its connection; a key that was changed is read again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from fakes import Killed
from jumping import in_virtual_time
from swept_provider import INTERVAL, SweptHub, SweptProvider, Task, spread
from test_sweeps import MINUTE, ids, now, running, stop, world
from virtual_time import VirtualClock

from airflow_batch_provider.exceptions import Denied, NotFound, Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.providers.listing import ListPage

HOSTILE = ["a b", "a/b", "../files", "..", "", "x" * 4096]


async def polled(hub, *batch_ids, conn_id="c"):
    return await asyncio.gather(*(hub.status(conn_id, one) for one in batch_ids), return_exceptions=True)


@pytest.mark.parametrize("hostile", HOSTILE)
@in_virtual_time
async def test_a_hostile_id_is_its_tasks_fault_alone(hostile):
    """It is sent nowhere, and the neighbours of the same moment are answered."""
    provider, hub = world(5)
    seen = await polled(hub, hostile, *ids(5))
    assert isinstance(seen[0], Rejected)
    assert [status.batch_id for status in seen[1:]] == ids(5)
    assert hostile not in [what for _, what in provider.asked]


@pytest.mark.parametrize(
    "fault",
    [
        Rejected("400"),
        Denied("403", http_status=403),
        NotFound("404"),
        Unavailable("500"),
        Unavailable("429", retry_after=600.0, ambiguous=False),
        Paused("402"),
        RecursionError("nested"),
        ValueError("a number of 5000 digits"),
    ],
    ids=lambda fault: type(fault).__name__ + str(fault)[:4],
)
@pytest.mark.parametrize("page", [0, 100])
@in_virtual_time
async def test_a_fault_of_one_batch_stays_with_it(fault, page):
    """Neighbours are answered in the same sweep, and as often as before."""
    provider, hub = world(20, page=page)
    provider.faults["b7"] = fault
    tasks = spread(hub, "c", ids(20))
    started = await running(tasks, 10 * MINUTE)
    assert {task.batch_id for task in tasks if task.faults} == {"b7"}
    assert min(task.checks for task in tasks if task.batch_id != "b7") >= 17
    expected = Unavailable if isinstance(fault, (RecursionError, ValueError)) else type(fault)
    assert {type(error) for error in tasks[7].faults} == {expected}
    provider.end(*ids(20))
    await asyncio.sleep(MINUTE)
    assert sum(task.noticed is not None for task in tasks) >= 19
    await stop(started)


@pytest.mark.parametrize("page", [0, 100], ids=["one by one", "in the list"])
@in_virtual_time
async def test_a_process_that_ends_in_a_poll_leaves_nobody_waiting(page):
    """Whoever waits hears of it, whether the batch was looked for in the list or by itself."""
    provider, hub = world(20, page=page)

    async def dying(kind, what):
        raise Killed(f"{kind} {what}")

    provider._request = dying
    seen = await asyncio.wait_for(polled(hub, *ids(20)), 60)
    assert {type(one) for one in seen} == {Killed}


@in_virtual_time
async def test_one_error_in_a_hundred_leaves_the_others_answered():
    """Also where every batch must be asked for by itself."""
    provider, hub = world(300, page=0, latency=0.2)
    for number in range(0, 300, 100):
        provider.faults[f"b{number}"] = Unavailable("500")
    seen = await polled(hub, *ids(300))
    assert sum(isinstance(one, Unavailable) for one in seen) == 3
    assert sum(not isinstance(one, Exception) for one in seen) == 297
    assert now() <= 300 * 0.2 / 8 + 2


@in_virtual_time
async def test_single_polls_run_side_by_side_but_not_all_at_once():
    """A bounded number of them."""
    provider, hub = world(300, page=0, latency=0.2)
    await polled(hub, *ids(300))
    assert provider.most_at_once == 8
    assert provider.requests["single"] == 300


@in_virtual_time
async def test_a_batch_whose_poll_hangs_delays_no_other():
    """It holds one place of eight, and no sweep waits for it."""
    provider, hub = world(20, page=0)
    request = provider._request

    async def hanging(kind, what):
        if what == "b7":
            await asyncio.sleep(3600)
        await request(kind, what)

    provider._request = hanging
    tasks = spread(hub, "c", ids(20))
    started = await running(tasks, 2 * MINUTE)
    provider.end(*ids(20))
    await asyncio.sleep(MINUTE)
    assert [task.batch_id for task in tasks if task.noticed is None] == ["b7"]
    await stop(started)


@in_virtual_time
async def test_batches_behind_a_thousand_newer_ones_are_found_in_the_list():
    """Others' batches stand before them; the pages are still cheaper than three hundred polls."""
    provider, hub = world(300, latency=0.2)
    provider.add(*ids(1000, "others-"))
    seen = await polled(hub, *ids(300))
    assert [status.batch_id for status in seen] == ids(300)
    assert provider.requests == {"page": 13}
    assert now() <= 4.5


@in_virtual_time
async def test_a_few_batches_far_back_are_asked_for_one_by_one():
    """Pages are read while they are fewer than the batches, and not again in the next sweep."""
    provider, hub = world(5)
    provider.add(*ids(5000, "others-"))
    started = await running(spread(hub, "c", ids(5)), 2 * MINUTE)
    before = provider.requests["page"]
    singles = provider.requests["single"]
    await asyncio.sleep(5 * MINUTE)
    assert provider.requests["page"] - before <= 5
    assert (provider.requests["single"] - singles) / 5 <= 5 * 2.5
    await stop(started)


@in_virtual_time
async def test_the_list_is_left_where_it_is_older_than_every_batch_that_is_sought():
    """Pages are newest first, and the time of each watched batch is known after its first poll."""
    provider, hub = world(0)
    provider.add(*ids(5000, "others-"))
    provider.add(*ids(120))
    provider.unlisted.update(ids(60))
    tasks = spread(hub, "c", ids(120))
    started = await running(tasks, 2 * MINUTE)
    before = provider.requests["page"]
    await asyncio.sleep(MINUTE)
    assert provider.requests["page"] - before <= 3
    assert not any(task.faults for task in tasks)
    await stop(started)


@in_virtual_time
async def test_a_batch_that_the_list_does_not_show_yet_is_asked_for_and_taken_from_the_list_later():
    """Lists lag behind."""
    provider, hub = world(5)
    provider.unlisted.add("b2")
    started = await running(spread(hub, "c", ids(5)), 5 * MINUTE)
    assert provider.requests["single"] >= 8
    provider.unlisted.clear()
    await asyncio.sleep(MINUTE)
    before = provider.requests["single"]
    await asyncio.sleep(10 * MINUTE)
    assert provider.requests["single"] == before
    await stop(started)


@in_virtual_time
async def test_an_id_that_stands_on_two_pages_is_one_batch():
    """New batches push old ones to the next page while it is read."""
    provider, hub = world(250)
    pages = provider.pages

    async def shifting(wanted):
        async for page in pages(wanted):
            yield page
            yield ListPage(page.statuses[-3:], page.created[-3:])

    provider.pages = shifting
    seen = await polled(hub, *ids(250))
    assert [status.batch_id for status in seen] == ids(250)
    assert provider.requests["single"] == 0


@in_virtual_time
async def test_a_page_that_is_cut_leaves_what_the_pages_before_it_said():
    """The rest is asked for one by one."""
    provider, hub = world(250)
    provider.list_faults = [None, Unavailable("cut in the middle")]
    seen = await polled(hub, *ids(250))
    assert [status.batch_id for status in seen] == ids(250)
    assert provider.requests == {"page": 2, "single": 150}


@pytest.mark.parametrize("fault", [NotFound("404"), Rejected("405"), Denied("403", http_status=403)])
@in_virtual_time
async def test_a_service_without_a_list_is_asked_one_by_one(fault):
    """Compatible services leave endpoints out, and keys may lack the right to list."""
    provider, hub = world(20)
    provider.list_faults = [fault] * 1000
    seen = await polled(hub, *ids(20))
    assert [status.batch_id for status in seen] == ids(20)
    if not isinstance(fault, Denied):
        await polled(hub, *ids(20))
        assert provider.requests["page"] == 1


@in_virtual_time
async def test_a_service_that_is_down_is_left_alone_longer_each_time():
    """A hundred waiting tasks make no more requests than one."""
    provider, hub = world(100)
    provider.list_faults = [Unavailable("503")] * 100_000
    provider.faults = dict.fromkeys(ids(100), Unavailable("503"))
    tasks = spread(hub, "c", ids(100))
    started = await running(tasks, MINUTE)
    first = provider.total
    await asyncio.sleep(10 * MINUTE)
    later = provider.total
    await asyncio.sleep(50 * MINUTE)
    assert first <= 100
    assert later - first <= 100
    assert provider.total - later <= 80
    assert all(task.faults for task in tasks)
    provider.list_faults, provider.faults = [], {}
    provider.end(*ids(100))
    await asyncio.sleep(17 * MINUTE)
    assert all(task.noticed for task in tasks)
    await stop(started)


@in_virtual_time
async def test_the_time_that_the_provider_asks_for_is_waited():
    """For the whole connection, whoever polls meanwhile."""
    provider, hub = world(100)
    tasks = spread(hub, "c", ids(100))
    started = await running(tasks, 2 * MINUTE)
    provider.list_faults = [Unavailable("429", retry_after=300.0, ambiguous=False)]
    await asyncio.sleep(30)
    before = provider.total
    await asyncio.sleep(265)
    assert provider.total == before
    await asyncio.sleep(MINUTE)
    assert provider.total > before
    provider.end(*ids(100))
    await asyncio.sleep(MINUTE)
    assert all(task.noticed for task in tasks)
    await stop(started)


@in_virtual_time
async def test_a_dead_connection_delays_nobody_elses():
    """Its requests hang until they time out; its account cannot even be read."""
    clock = VirtualClock()
    good, dead = SweptProvider(clock, latency=1.0), SweptProvider(clock, latency=3600.0)
    hub = SweptHub(good=good, dead=dead, broken=OSError("no database"))
    good.add(*ids(200))
    dead.add(*ids(200))
    tasks = spread(hub, "good", ids(200))
    neighbours = spread(hub, "dead", ids(200)) + spread(hub, "broken", ids(200))
    started = await running([*tasks, *neighbours], 2 * MINUTE)
    good.end(*ids(200))
    ended = now()
    await asyncio.sleep(MINUTE)
    assert max(task.noticed for task in tasks) - ended <= 32
    assert {type(error) for task in neighbours for error in task.faults} == {OSError}
    await stop(started)


def refusing(code=401):
    """A provider that refuses its key."""
    provider = SweptProvider(VirtualClock())

    async def pages(_wanted):
        provider.requests["page"] += 1
        raise Denied("the key is wrong", http_status=code)
        yield ListPage([], [])

    async def status(_batch_id):
        provider.requests["single"] += 1
        raise Denied("the key is wrong", http_status=code)

    provider.pages, provider.status = pages, status
    return provider


@pytest.mark.parametrize("number", [1, 20])
@pytest.mark.parametrize("code", [401, 403])
@in_virtual_time
async def test_a_rotated_key_fails_nobody(number, code):
    """The connection is read again and asked again."""
    provider = SweptProvider(VirtualClock())
    provider.add(*ids(number))
    old = refusing(code)
    hub = SweptHub(c=[old, provider])
    seen = await polled(hub, *ids(number))
    assert [status.batch_id for status in seen] == ids(number)
    assert hub.opened["c"] == 2
    await hub.aclose()
    assert old.closed


@pytest.mark.parametrize("number", [1, 20])
@in_virtual_time
async def test_a_key_that_is_refused_also_when_fresh_is_everybodys_fault(number):
    """After one poll under the fresh key, not one for each of them."""
    stale, fresh = refusing(), refusing()
    hub = SweptHub(c=[stale, fresh, AssertionError("read once too often")])
    seen = await polled(hub, *ids(number))
    assert [type(error) for error in seen] == [Denied] * number
    assert stale.total == fresh.total == 1


@in_virtual_time
async def test_a_key_may_rotate_again():
    """Each time that the provider accepted the key before."""
    clock = VirtualClock()
    keys = [SweptProvider(clock) for _ in range(3)]
    for key in keys:
        key.add(*ids(5))
    hub = SweptHub(c=list(keys))
    tasks = spread(hub, "c", ids(5))
    started = await running(tasks, 2 * MINUTE)
    for number in range(2):
        keys[number].list_faults = [Denied("rotated", http_status=401)] * 100
        await asyncio.sleep(2 * MINUTE)
    assert hub.opened["c"] == 3
    assert not any(task.faults for task in tasks)
    await stop(started)


@in_virtual_time
async def test_a_missing_connection_is_told_to_everybody_who_asks():
    """It is read again when somebody asks again."""
    hub = SweptHub(c=[UsageError("There is no Airflow connection 'c'"), SweptProvider(VirtualClock())])
    with pytest.raises(UsageError):
        await hub.status("c", "b0")
    hub.keys["c"][0].add("b0")
    assert (await hub.status("c", "b0")).batch_id == "b0"


@in_virtual_time
async def test_a_stage_that_hangs_delays_no_other():
    """A task that never polls again holds nothing."""
    provider, hub = world(10)
    tasks = spread(hub, "c", ids(9))
    started = await running(tasks, MINUTE)
    stuck = Task(hub, "c", "b9", interval=timedelta(seconds=1))
    await stuck.subscription.status("c", "b9")
    before = provider.total
    await asyncio.sleep(10 * MINUTE)
    assert provider.total - before <= 10 * 3
    provider.end(*ids(10))
    await asyncio.sleep(INTERVAL.total_seconds() + 2)
    assert all(task.noticed for task in tasks)
    await stop(started)
