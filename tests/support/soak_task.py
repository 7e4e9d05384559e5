"""One task instance in Airflow's hands: tries, retries and clears, and the person behind them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import zip_longest

from fakes import FakeHub, Job, Killed
from killable_task import LIFE, MODELS, DiesAt, Life
from soak_script import HOUR, MINUTE, Attempt
from upath import UPath

from airflow_batch_provider.exceptions import BatchError, RowsFailed, Unresolved
from airflow_batch_provider.stages import PollConfig, Suspended
from airflow_batch_provider.storage import Directory

TRIES = 40
"""Clears of a task after its script; its stuck batches expire meanwhile."""

PLAIN = Attempt(rest=0)


class Frozen:
    """A coroutine that stands still when it waits for the nth time."""

    def __init__(self, work, at, seconds):
        self._work = work
        self._at = at
        self._seconds = seconds

    def __await__(self):
        steps = self._work.__await__()
        value, waits, failure = None, 0, None
        while True:
            try:
                wish = steps.throw(failure) if failure else steps.send(value)
            except StopIteration as done:
                return done.value
            value = failure = None
            try:
                waits += 1
                if waits == self._at + 1:
                    yield from asyncio.sleep(self._seconds).__await__()
                value = yield wish
            except BaseException as error:  # noqa: BLE001 — a cancellation is the work's to see
                failure = error


class SoakJob(Job):
    """A job of a task that is one of several."""

    def __init__(self, task, attempt, life):
        world, provider = task.world, task.world.provider(life)
        super().__init__(
            task.directory.root,
            provider,
            world.clock,
            list(task.script.rows),
            hub=FakeHub(provider, world.clock),
            registry=world.deployment.registry,
            model=MODELS[world.name],
            conn_id=world.name,
            poll=task.poll,
            **task.script.config,
        )
        self.attempt = attempt
        self.task_id = task.script.name
        self._jitter = world.dice.random

    def stage_run(self):
        return replace(super().stage_run(), jitter=self._jitter)


class Task:
    """One task instance in Airflow's hands."""

    def __init__(self, world, script):
        self.world = world
        self.script = script
        self.state = "waiting"
        self.manifest = None
        self.ends = []
        self.zombies = []
        self.directory = Directory(UPath(world.root / "dag" / "run" / script.name))
        interval, deadline = script.poll
        self.poll = PollConfig(interval=timedelta(seconds=interval), max_wait=timedelta(seconds=deadline))
        self.number = 0

    async def run(self):
        """The scripted tries, one after the other."""
        for fate, later in zip_longest(self.script.attempts, self.script.attempts[1:]):
            await asyncio.sleep(fate.rest)
            self.state = "waiting"
            await self._attempt(fate)
            if self.manifest is not None:
                break
            if later is None or later.failed_before or fate.end == "marked":
                self.state = "over"
                await self._say_a_word()
        if self.script.abandoned or self.manifest is not None:
            self.state = "over"

    async def _say_a_word(self):
        """A person who saw the task stop with a question waits a little and answers it, if the provider lets them."""
        if self.ends and isinstance(self.ends[-1], Unresolved):
            await asyncio.sleep(2 * MINUTE)
            with suppress(BatchError):
                await self.resolve()

    async def _attempt(self, fate):
        """One try, until it ends, is killed, or is left behind."""
        self.number += 1
        processes = [self._start(fate) for _ in range(1 + fate.twin)]
        max_wait = fate.at if fate.end in ("time", "left", "marked") else None
        await asyncio.wait([one for one, *_ in processes], timeout=max_wait)
        for process, life, try_ in processes:
            if process.done():
                self._note(process)
            elif fate.end == "left":
                self.zombies.append((process, life))
            else:
                await self._kill(process, life)
                if fate.end == "marked":
                    await self._on_kill(try_)

    def _start(self, fate):
        life = Life(fate.at if fate.end == "moment" else None)
        try_ = Try(self, self.number, life)
        work = try_.run()
        if fate.frozen:
            work = Frozen(_awaited(work), *fate.frozen)
        if fate.end == "wait":
            work = DiesAt(_awaited(work), fate.at, life)
        return asyncio.create_task(_lives(work, life)), life, try_

    def _note(self, process, *, zombie=False):
        """What became of a process that has ended; Airflow refuses the result of a zombie."""
        assert not process.cancelled(), "nobody cancelled it"
        error = process.exception()
        if error is None:
            self.manifest = self.manifest or (None if zombie else process.result())
            return
        if not isinstance(error, Killed | BatchError):
            raise error
        self.world.kills += isinstance(error, Killed)
        self.world.unresolved += isinstance(error, Unresolved)
        self.ends.append(error)

    async def _kill(self, process, life):
        life.dead = True
        self.world.kills += 1
        process.cancel()
        with suppress(asyncio.CancelledError, Killed, BatchError):
            await process
        self.ends.append(Killed(f"after {self.world.clock.now()}"))

    async def _on_kill(self, try_):
        """What the triggerer does for a task that was marked failed while it waited: cancels, as far as it can."""
        self.state = "over"
        if try_.suspended is None:
            return
        job = SoakJob(self, try_.number, Life())
        with suppress(BatchError):
            await job.cancel(try_.suspended)

    async def finish(self):
        """Clear the task, now with enough time, until it ends; a person may have to say a word."""
        await self._bury()
        self.poll = self.poll.model_copy(update={"max_wait": timedelta(hours=12)})
        while not self.script.abandoned and self.manifest is None:
            self.state = "waiting"
            self.number += 1
            process, *_ = self._start(PLAIN)
            await asyncio.wait([process])
            self._note(process)
            self.state = "over"
            if self.manifest is not None or self._is_final():
                return
            if self.number > len(self.script.attempts) + TRIES:
                raise AssertionError(f"{self.script.name} does not come to an end: {self.ends[-4:]}")
            await asyncio.sleep(2 * MINUTE)
            if isinstance(self.ends[-1], Unresolved):
                await self.resolve()

    def _is_final(self):
        return len(self.ends) > 1 and all(isinstance(end, RowsFailed) for end in self.ends[-2:])

    async def _bury(self):
        """Zombies may go on for a day; then they are killed."""
        if self.zombies:
            await asyncio.wait([process for process, _ in self.zombies], timeout=24 * HOUR)
        for process, life in self.zombies:
            if process.done():
                self._note(process, zombie=True)
            else:
                await self._kill(process, life)

    def told(self):
        """How its tries ended, a line each."""
        done = "done" if self.manifest else self.state
        return [f"{self.script.name}, {self.number} tries: {done}", *(f"    {end!r}" for end in self.ends)]

    async def resolve(self):
        """A person looks at the provider's console and says what became of each claim without a receipt."""
        registry = self.world.deployment.registry
        for entry in registry.entries():
            files = self.world.deployment.files(entry)
            is_open = files.claim_under(entry.tag) and not files.receipt_under(entry.tag)
            if entry.label != f"dag/run/{self.script.name}" or not is_open:
                continue
            resolver, provider = self.world.resolver, self.world.provider(Life())
            batch_id = batch_under(self.world, entry.tag)
            if batch_id:
                await resolver.adopt(entry.tag, batch_id, provider)
            else:
                await resolver.absent(entry.tag, provider)
            self.world.resolved += 1


def batch_under(world, tag):
    """What a person sees in the console: the batch whose rows carry the tag and which was not cancelled."""
    mine = [job for job in world.emulator.jobs.ever if job.rows and job.rows[0].key.rpartition("-")[0] == tag]
    return next((job.id for job in mine if job.cancelled is None), mine[0].id if mine else None)


async def _awaited(work):
    return await work


async def _lives(work, life):
    LIFE.set(life)
    return await work


class Try:
    """One try of a task in one process: runs of a worker, and the trigger's polls between them."""

    def __init__(self, task, number, life):
        self._task = task
        self.number = number
        self._life = life
        self.suspended = None

    async def run(self):
        outcome = await self._job().start()
        while isinstance(outcome, Suspended):
            self.suspended = outcome
            job = self._job()
            suspension = job.suspension(outcome)
            event = await job.stage_run().until_event(suspension)
            self.suspended = None
            outcome = await self._job().proceed(suspension, event)
        return outcome

    def _job(self):
        return SoakJob(self._task, self.number, self._life)
