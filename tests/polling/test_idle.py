"""What a poll costs that finds nothing new, in things that can be counted; and what a pause leaves behind."""

from __future__ import annotations

import asyncio

import pytest
from jumping import in_virtual_time
from swept_provider import INTERVAL, SweptHub, SweptProvider, Task, spread
from test_sweeps import MINUTE, ids, now, running, stop, world
from virtual_time import VirtualClock

from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.stages import PRESETS


@in_virtual_time
async def test_a_poll_that_a_sweep_has_answered_waits_for_nothing():
    """Neither a request nor a turn of the event loop: many are answered in one step."""
    provider, hub = world(50)
    task = hub.subscribe(INTERVAL, asyncio.sleep)
    await task.statuses("c", ids(50))
    neighbours = await running(spread(hub, "c", ids(50)), MINUTE)
    before = provider.total
    polling = task.statuses("c", ids(50))
    with pytest.raises(StopIteration) as done:
        polling.send(None)
    assert [status.batch_id for status in done.value.value] == ids(50)
    assert provider.total == before
    await stop(neighbours)


@in_virtual_time
async def test_a_task_that_pauses_needs_no_other_task():
    """A thousand of them are a thousand timers, and one loop that polls for all."""
    _, hub = world(100)
    started = await running(spread(hub, "c", ids(100)), 2 * MINUTE)
    others = asyncio.all_tasks() - set(started) - {asyncio.current_task()}
    assert len(others) <= 3  # the poller's loop, and what it waits for
    await stop(started)


@in_virtual_time
async def test_long_pauses_of_the_same_second_end_together():
    """None too early, and short ones when they are over: a thousand tasks wake a process once a second, not a thousand times."""
    _, hub = world(1)
    ended = []

    async def pauses(seconds):
        await hub.subscribe(INTERVAL, asyncio.sleep).pause(seconds)
        ended.append(now())

    await asyncio.gather(*map(pauses, (31.0, 30.1, 30.5, 31.2, 9.9, 9.95)))
    assert ended == [9.9, 9.95, 31.0, 31.0, 31.0, 32.0]


@in_virtual_time
async def test_a_status_that_has_not_changed_is_one_object():
    """However often it is read."""
    provider, hub = world(3)
    task = hub.subscribe(INTERVAL, asyncio.sleep)
    first = await task.status("c", "b0")
    provider.records["b0"] = first.model_copy()
    await task.pause(40)
    assert await task.status("c", "b0") is first
    provider.end("b0")
    await task.pause(40)
    assert (await task.status("c", "b0")).ended


@in_virtual_time
async def test_a_task_that_is_cancelled_as_its_batch_ends_is_cancelled():
    """Its own wake-up takes nobody's cancellation back, and keeps what was said with it."""
    provider, hub = world(3)
    told = {}

    async def told_why(task):
        try:
            await task.run()
        except asyncio.CancelledError as error:
            told[task.batch_id] = error.args
            raise

    started = [asyncio.create_task(told_why(task)) for task in spread(hub, "c", ids(3))]
    await asyncio.sleep(MINUTE)
    provider.end(*ids(3))
    board = hub.poller("c")._board
    for name, task in zip(ids(3), started, strict=True):
        (watcher,) = board.watchers[name]
        if name != "b1":
            task.cancel("by a user")
        watcher.wake()
        if name == "b1":
            task.cancel("by a user")
    await asyncio.gather(*started, return_exceptions=True)
    assert all(one.cancelled() for one in started)
    assert told == dict.fromkeys(ids(3), ("by a user",))
    assert not board.watchers


@in_virtual_time
async def test_an_end_that_wakes_leaves_no_cancellation_behind():
    """What the task awaits next is not cancelled."""
    provider, hub = world(3)
    task = hub.subscribe(INTERVAL, asyncio.sleep)
    await task.statuses("c", ids(3))
    provider.end("b0")
    await task.pause(3600)
    assert now() < 40
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(100)
    assert now() >= 100


@in_virtual_time
async def test_many_who_wait_are_woken_each_by_its_own_batch():
    """And those who gave up are forgotten."""
    provider, hub = world(400)
    tasks = spread(hub, "c", ids(400))
    started = await running(tasks, MINUTE)
    await stop(started[1::4])
    ended = ids(400)[::2]
    provider.end(*ended)
    await asyncio.sleep(32)
    assert {task.batch_id for task in tasks if task.noticed} == set(ended)
    await stop(started)
    board = hub.poller("c")._board
    assert not board.watchers
    assert not board.waiting
    before = provider.total
    await asyncio.sleep(10 * MINUTE)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert provider.total == before


@pytest.mark.parametrize("others", ["quick", "medium", "long"])
@in_virtual_time
async def test_a_long_batch_is_noticed_within_a_minute_while_others_of_its_connection_are_watched(others):
    """With poll='long' it is polled each five minutes, and ends after seven; sweeps for its neighbours see that."""
    provider, hub = world(4)
    patient = Task(hub, "c", "b0", interval=PRESETS["long"].interval, start=300.0)
    neighbours = spread(hub, "c", ids(4)[1:], interval=PRESETS[others].interval)
    started = await running([patient, *neighbours], 7 * MINUTE)
    provider.end("b0")
    await asyncio.sleep(6 * MINUTE)
    assert patient.noticed is not None
    limit = {"quick": MINUTE, "medium": MINUTE + 1, "long": 300}[others]
    assert patient.noticed - 7 * MINUTE <= limit
    await stop(started)


@in_virtual_time
async def test_a_connection_that_says_no_more_than_wait_costs_its_own_tasks_only():
    """`retry-after` of one is not a pause of the other."""
    clock = VirtualClock()
    quiet, busy = SweptProvider(clock), SweptProvider(clock)
    hub = SweptHub(quiet=quiet, busy=busy)
    quiet.add(*ids(20))
    busy.add(*ids(20))
    busy.list_faults = [Unavailable("429", retry_after=600.0, ambiguous=False)]
    tasks = spread(hub, "quiet", ids(20))
    started = await running([*tasks, *spread(hub, "busy", ids(20))], 2 * MINUTE)
    assert busy.total == 1
    quiet.end(*ids(20))
    await asyncio.sleep(32)
    assert all(task.noticed for task in tasks)
    await stop(started)
