"""Many tasks that submit at once at Anthropic, which keeps no names of ours, while replies get lost.

Their batches are all of the same sizes, the worst there can be: nothing but the order of the submits tells them apart.
Time is the event loop's own and jumps to the next thing that is due, so the same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from concurrent.futures import Executor, Future
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from fakes import START
from killable_task import CREATE, Life, World

from airflow_batch_provider.exceptions import BatchError, Unavailable
from airflow_batch_provider.stages import Suspended

TASKS, ROWS = 10, 3
CROWDS = 8
LOST = [
    {"kind": "cut", "when": "before"},
    {"kind": "cut", "when": "after"},
    {"kind": "status", "status": 500, "when": "after"},
]


class Jumping(selectors.DefaultSelector):
    """Where nothing happens now, the next thing that is due happens now."""

    elapsed = 0.0

    def select(self, timeout=None):
        events = super().select(0)
        if not events and timeout:
            self.elapsed += timeout
        assert events or timeout is not None, "everybody waits for nothing"
        return events


class Inline(Executor):
    """A thread that is done at once."""

    def submit(self, fn, /, *args, **kwargs):
        done = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 — whoever waits for it gets it
            done.set_exception(error)
        return done


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own."""

    def __init__(self):
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.elapsed

    def run_in_executor(self, executor, func, *args):
        return asyncio.wrap_future(Inline().submit(func, *args), loop=self)


class LoopClock:
    """The wall clock of that loop."""

    def __init__(self, loop):
        self._loop = loop

    def now(self):
        return START + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


class Crowd:
    """Tasks of one deployment that start in the same second."""

    def __init__(self, world, seed):
        self.world = world
        self.random = Random(seed)
        self.lost = [self._lose(nth) for nth in range(TASKS * ROWS * 3) if self.random.random() < 0.4]

    def _lose(self, nth):
        return self.world.emulator.faults.add(CREATE["anthropic"], after=nth, **self.random.choice(LOST))

    async def run(self):
        """What each task ends with."""
        return await asyncio.gather(*(self._task(f"task{number}") for number in range(TASKS)))

    async def _task(self, name):
        await self.world.clock.sleep(self.random.random())
        asked = [f"{name} question {number}" for number in range(ROWS)]
        worker = self.world.task(Life(), asked, task=name)
        try:
            return await self._runs(worker.job)
        except BatchError as end:
            return end
        finally:
            await worker.wire.aclose()

    async def _runs(self, job):
        outcome = await job.start()
        while isinstance(outcome, Suspended):
            await self._ready(job, outcome)
            outcome = await job.resume(outcome)
        return outcome

    async def _ready(self, job, suspended):
        while True:
            try:
                if (await job.check(suspended)).is_ready:
                    return
            except Unavailable:
                pass  # the trigger polls again
            await self.world.clock.sleep(60)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(CROWDS))
def test_a_crowd_that_submits_at_once_loses_replies_and_no_batch(memory, seed, sweep):
    """Every row is bought once, no task is undecided, and every answer reaches the task that asked."""
    if seed not in sweep.of(range(CROWDS), 1):
        pytest.skip("not in today's sample")
    with asyncio.Runner(loop_factory=Loop) as runner:
        world = World(Path(memory), "anthropic", clock=LoopClock(runner.get_loop()))
        crowd = Crowd(world, seed)
        ends = runner.run(crowd.run())
        jobs = world.emulator.jobs.ever
        world.close()

    assert [end for end in ends if isinstance(end, Exception)] == []
    assert sum(fault.taken for fault in crowd.lost) > TASKS / 2  # fewer would prove little
    bought = Counter(row.key for job in jobs for row in job.rows)
    assert len(bought) == bought.total() == TASKS * ROWS
    held = [batch_id for end in ends for batch_id in end.batches]
    assert len(held) == len(set(held)) == len(jobs)
    assert all(end.counts["succeeded"] == ROWS for end in ends)
