"""One loop per connection polls for everybody: how many requests that takes, and when the end is noticed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
from contextlib import aclosing
from datetime import timedelta

import pytest
from jumping import in_virtual_time
from swept_provider import INTERVAL, SweptHub, SweptProvider, Task, spread
from virtual_time import VirtualClock

from airflow_batch_provider.exceptions import Unavailable

MINUTE = 60.0


def ids(number, prefix="b"):
    return [f"{prefix}{one}" for one in range(number)]


def now():
    return asyncio.get_running_loop().time()


async def running(tasks, seconds):
    """The tasks in the background, after so many seconds."""
    started = [asyncio.create_task(task.run()) for task in tasks]
    await asyncio.sleep(seconds)
    return started


async def stop(started):
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


def world(number, **settings):
    provider = SweptProvider(VirtualClock(), **settings)
    provider.add(*ids(number))
    return provider, SweptHub(c=provider)


@pytest.mark.parametrize(("page", "most"), [(1000, 6), (100, 30)])
@in_virtual_time
async def test_a_thousand_spread_tasks_cost_a_few_pages_a_minute(page, most):
    """Their own polls are all answered from the sweeps."""
    provider, hub = world(1000, page=page)
    tasks = spread(hub, "c", ids(1000))
    started = await running(tasks, 2 * MINUTE)
    before = provider.total
    await asyncio.sleep(5 * MINUTE)
    assert (provider.total - before) / 5 <= most
    assert provider.requests["single"] <= 2
    assert min(task.checks for task in tasks) >= 12
    assert not any(task.faults for task in tasks)
    await stop(started)


@in_virtual_time
async def test_a_slow_list_is_walked_once_for_all_of_its_pages():
    """Ten pages of a second each: the last ones are not walked to again when they are due."""
    provider, hub = world(1000, page=100, latency=1.0)
    started = await running(spread(hub, "c", ids(1000)), 2 * MINUTE)
    before = provider.total
    await asyncio.sleep(5 * MINUTE)
    assert (provider.total - before) / 5 <= 30
    await stop(started)


@in_virtual_time
async def test_the_first_polls_of_spread_tasks_cost_hardly_more_than_a_sweep():
    """A page shows the batches of those who ask a second later, too."""
    provider, hub = world(1000, page=100)
    started = await running(spread(hub, "c", ids(1000)), 25)
    assert provider.total <= 15
    await stop(started)


@pytest.mark.parametrize("latency", [0.0, 1.0])
@in_virtual_time
async def test_the_end_is_noticed_within_one_interval(latency):
    """Whatever the phase of the task's own polls: the sweep that sees the end wakes it."""
    provider, hub = world(200, latency=latency)
    tasks = spread(hub, "c", ids(200))
    started = await running(tasks, 100)
    ended = {}
    for number, one in enumerate(ids(200)):
        provider.end(one)
        ended[number] = now()
        await asyncio.sleep(0.5)
    await asyncio.sleep(2 * MINUTE)
    late = sorted(task.noticed - ended[number] for number, task in enumerate(tasks))
    assert late[100] <= 16
    assert late[198] <= 32
    await stop(started)


@in_virtual_time
async def test_a_task_that_waits_long_hears_of_the_end_from_its_neighbours_sweeps():
    """What ends after seven minutes is not noticed after an hour."""
    provider, hub = world(4)
    patient = Task(hub, "c", "b0", interval=timedelta(hours=1))
    others = spread(hub, "c", ids(4)[1:])
    started = await running([patient, *others], 7 * MINUTE)
    provider.end("b0")
    ended = now()
    await asyncio.sleep(MINUTE)
    assert patient.noticed is not None
    assert patient.noticed - ended <= MINUTE
    assert patient.checks == 2
    await stop(started)


@in_virtual_time
async def test_a_batch_that_was_never_asked_for_can_be_listened_for():
    """Its first poll comes as soon as others' polls have seen its end."""
    provider, hub = world(4)
    started = await running(spread(hub, "c", ids(4)[1:]), MINUTE)
    subscription = hub.subscribe(timedelta(hours=1), asyncio.sleep)
    await subscription.listen("c", "b0")
    await subscription.listen("c", "not/an id")
    await subscription.listen("nobody has opened this", "b0")
    pausing = asyncio.create_task(subscription.pause(3600.0))
    await asyncio.sleep(MINUTE)
    assert not pausing.done()
    before = provider.requests["single"]
    provider.end("b0")
    await asyncio.sleep(MINUTE)
    assert pausing.done()
    assert (await subscription.status("c", "b0")).ended
    assert provider.requests["single"] == before
    await stop([*started, pausing])


@in_virtual_time
async def test_everybody_is_polled_as_often_as_they_want():
    """An impatient neighbour makes nobody's polls rarer; a patient one costs no polls of its own in between."""
    provider, hub = world(0, page=0)
    provider.add("quick", "slow")
    tasks = [
        Task(hub, "c", "quick", interval=timedelta(seconds=15)),
        Task(hub, "c", "slow", interval=timedelta(minutes=5)),
    ]
    started = await running(tasks, 60 * MINUTE)
    polls = {name: sum(what == name for _, what in provider.asked) for name in ("quick", "slow")}
    assert 230 <= polls["quick"] <= 300
    assert 11 <= polls["slow"] <= 16
    assert not any(task.faults for task in tasks)
    await stop(started)


@in_virtual_time
async def test_sweeps_are_not_in_step():
    """Connections that started together do not ask together for ever."""
    provider, hub = world(5)
    started = await running(spread(hub, "c", ids(5)), 20 * MINUTE)
    times = [when for when, what in provider.asked if what == "0"]
    pauses = {round(later - earlier, 3) for earlier, later in itertools.pairwise(times)}
    assert len(pauses) > 10
    assert max(pauses) <= 30
    await stop(started)


@in_virtual_time
async def test_nobody_waits_nobody_asks():
    """The loop ends with the last watcher, and with it every timer."""
    provider, hub = world(10)
    started = await running(spread(hub, "c", ids(10)), 2 * MINUTE)
    await stop(started)
    before = provider.total
    await asyncio.sleep(60 * MINUTE)
    assert provider.total == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_batches_that_have_ended_are_not_polled_again():
    """A stage with one long batch among many short ones asks for the long one."""
    provider, hub = world(5)
    subscription = hub.subscribe(INTERVAL, asyncio.sleep)
    provider.end("b0", "b1", "b2")
    for _ in range(5):
        seen = await asyncio.gather(*(subscription.status("c", one) for one in ids(5)))
        assert [status.ended for status in seen] == [True, True, True, False, False]
        await subscription.pause(32)
    assert {what for when, what in provider.asked if when > 1} == {"b3", "b4"}
    assert now() == pytest.approx(5 * 32, abs=1)


@in_virtual_time
async def test_a_task_is_woken_once_for_each_of_its_batches():
    """The end that it knows of lets it rest."""
    provider, hub = world(3)
    subscription = hub.subscribe(INTERVAL, asyncio.sleep)
    for one in ids(3):
        await subscription.status("c", one)
    provider.end("b0")
    await subscription.pause(3600)
    assert now() <= 31
    for one in ids(3):
        await subscription.status("c", one)
    await subscription.pause(3600)
    assert now() >= 3600


@in_virtual_time
async def test_five_thousand_batches_of_twenty_connections():
    """Each connection sweeps on its own."""
    clock = VirtualClock()
    providers = {f"c{number}": SweptProvider(clock, latency=0.2) for number in range(20)}
    hub = SweptHub(**providers)
    tasks = []
    for name, provider in providers.items():
        provider.add(*ids(250))
        tasks += spread(hub, name, ids(250))
    started = await running(tasks, MINUTE)
    before = sum(provider.total for provider in providers.values())
    await asyncio.sleep(2 * MINUTE)
    assert sum(provider.total for provider in providers.values()) - before <= 20 * 3 * 5
    for provider in providers.values():
        provider.end(*ids(250))
    ended = now()
    await asyncio.sleep(MINUTE)
    assert max(task.noticed for task in tasks) - ended <= 32
    await stop(started)


@in_virtual_time
async def test_five_thousand_batches_of_one_connection():
    """They share fifty pages."""
    provider, hub = world(5000, latency=0.1)
    tasks = spread(hub, "c", ids(5000))
    started = await running(tasks, 40)
    before = provider.total
    await asyncio.sleep(MINUTE)
    assert provider.total - before <= 50 * 3.5
    assert not any(task.faults for task in tasks)
    await stop(started)


@in_virtual_time
async def test_what_is_remembered_does_not_grow():
    """Batches come and go for days; the poller remembers those of its last sweeps."""
    provider, hub = world(0)
    started = []
    for day in range(5):
        provider.records.clear()
        provider.add(*ids(50, f"day{day}-"))
        started = await running(spread(hub, "c", ids(50, f"day{day}-")), 5 * MINUTE)
        await stop(started)
    poller = hub.poller("c")
    gc.collect()
    assert len(poller._board.answers) <= 100
    assert len(poller._listing._created) <= 100
    assert not poller._board.waiting
    assert not poller._board.watchers


@in_virtual_time
async def test_a_cancelled_waiter_harms_no_other():
    """Whether it was the first who asked or not."""
    _, hub = world(3, latency=5.0)
    first = asyncio.create_task(hub.status("c", "b0"))
    same = asyncio.create_task(hub.status("c", "b0"))
    other = asyncio.create_task(hub.status("c", "b1"))
    await asyncio.sleep(1)
    first.cancel()
    assert (await same).batch_id == "b0"
    assert (await other).batch_id == "b1"
    assert first.cancelled()


@in_virtual_time
async def test_a_poll_that_everybody_gave_up_leaves_nothing_running():
    """A cancelled task asks for nothing, also later."""
    _, hub = world(3, latency=5.0)
    asking = asyncio.create_task(hub.status("c", "b0"))
    await asyncio.sleep(1)
    await stop([asking])
    await asyncio.sleep(MINUTE)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await hub.status("c", "b0")).batch_id == "b0"


@in_virtual_time
async def test_a_closed_hub_leaves_nobody_waiting():
    """They hear that it was closed, which is a passing fault."""
    provider, hub = world(3, latency=5.0)
    async with aclosing(hub):
        asking = asyncio.create_task(hub.status("c", "b0"))
        await asyncio.sleep(1)
    with pytest.raises(Unavailable, match="closed"):
        await asking
    assert provider.closed
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_the_sweep_writes_into_nobodys_log():
    """It runs in a context of its own."""
    whose = contextvars.ContextVar("whose", default="nobody")
    seen = []
    provider, hub = world(3)
    request = provider._request

    async def noted(kind, what):
        seen.append(whose.get())
        await request(kind, what)

    provider._request = noted
    whose.set("a task")
    await asyncio.gather(*(hub.status("c", one) for one in ids(3)))
    await hub.status("c", "b0")
    assert set(seen) == {"nobody"}


@in_virtual_time
async def test_a_poll_without_an_interval_is_always_a_new_one():
    """A worker that asks twice sees what happened in between."""
    provider, hub = world(1)
    assert not (await hub.status("c", "b0")).ended
    provider.end("b0")
    assert (await hub.status("c", "b0")).ended
    assert provider.total == 2
