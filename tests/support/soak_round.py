"""Plays one round of the soak: tasks, zombies, faults, reconcilers and a person, all at once, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx2
import pytest
from killable_task import HOST, MODELS, Life, Wire, storage_that_kills
from soak_books import imbalance, told
from soak_script import HOUR, MINUTE
from soak_task import Task
from soak_world import World
from virtual_time import VirtualLoop, without_threads

from airflow_batch_provider.exceptions import BatchError
from airflow_batch_provider.models import Usage
from airflow_batch_provider.pricing import cost

MEMORY = Path("/dev/shm")


@dataclass
class Played:
    """What a round came to.

    Attributes:
        problems: sentences about what is wrong; none when the books balance.
        diary: what was logged.
        ends: of each task, what its tries died of.
        books: a line for each batch of the provider.
        unresolved: tries that stopped with a question to a person.
        resolved: questions that the person answered.
    """

    script: object
    problems: list
    diary: list
    ends: list
    books: list
    rows: int
    kills: int
    faults: int
    tokens: int
    dollars: float
    unresolved: int
    resolved: int


def play(script):
    """Play a round and balance its books."""
    root = Path(tempfile.mkdtemp(prefix="soak-", dir=MEMORY if MEMORY.is_dir() else None))
    diary = []
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner, _diary(runner.get_loop(), diary), _without_remains():
            dice = Random(f"{script.seed}: turns")
            with (
                _numbers_of(script),
                _files_in(root),
                storage_that_kills(),
                without_threads(lambda: dice.choice((0, 0, 1, 3))),
            ):
                return runner.run(_Round(root / "batches", script, diary).play())
    finally:
        shutil.rmtree(root, ignore_errors=True)


class _Round:
    def __init__(self, root, script, diary):
        self.world = World(root, script)
        self.script = script
        self.diary = diary
        self.tasks = [Task(self.world, one) for one in script.tasks]
        self.world.tasks = {task.script.name: task for task in self.tasks}

    async def play(self):
        problems = []
        try:
            await self._storm()
            await self._calm()
            problems = imbalance(self.world, self.tasks)
        except Exception as error:
            logging.getLogger("soak").exception("the round broke off")
            problems = [f"{type(one).__name__}: {one}" for one in getattr(error, "exceptions", [error])]
        finally:
            self.world.emulator.close()
        return self._played(problems)

    def _played(self, problems):
        world, jobs = self.world, self.world.emulator.jobs.ever
        usage = sum((Counter(job.usage) for job in jobs), Counter())
        tokens = Usage(input_tokens=usage["input"], output_tokens=usage["output"])
        return Played(
            script=self.script,
            problems=problems,
            diary=self.diary,
            ends=[line for task in self.tasks for line in task.told()],
            books=[told(job) for job in jobs],
            rows=sum(len(job.rows) for job in jobs),
            kills=world.kills,
            faults=sum(fault.taken for fault in world.emulator.faults.all) + world.garbles,
            tokens=tokens.input_tokens + tokens.output_tokens,
            dollars=cost(world.name, MODELS[world.name], tokens).usd or 0.0,
            unresolved=world.unresolved,
            resolved=world.resolved,
        )

    async def _storm(self):
        """Everything that the script says, at once."""
        others = [asyncio.create_task(work) for work in self._others()]
        try:
            async with asyncio.TaskGroup() as group:
                for task in self.tasks:
                    group.create_task(task.run())
        finally:
            for other in others:
                if not other.done():
                    other.cancel()
            ended = await asyncio.gather(*others, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, BatchError):
                raise error

    def _others(self):
        script, world = self.script, self.world
        for at, fields in script.faults:
            yield _at(at, lambda fields=fields: world.emulator.faults.add(**fields))
        for at, seconds in script.jumps:
            yield _at(at, lambda seconds=seconds: world.clock.advance(seconds))
        for at, grace in script.reconciles:
            yield _later(at, lambda grace=grace: world.reconcile(grace))
        for number, (at, size) in enumerate(script.neighbours):
            yield _later(at, lambda number=number, size=size: self._neighbour(number, size))

    async def _neighbour(self, number, size):
        """Somebody else buys a batch at the same account."""
        params = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "theirs"}]}
        rows = [{"custom_id": f"theirs-{number}-{row}", "params": params} for row in range(size)]
        async with httpx2.AsyncClient(transport=Wire(self.world.app, Life(), httpx2.RemoteProtocolError)) as client:
            with suppress(httpx2.HTTPError):
                headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
                await client.post(f"{HOST}/v1/messages/batches", json={"requests": rows}, headers=headers)

    async def _calm(self):
        """Nothing more goes wrong: every task comes to its end, and what nobody waits for is found."""
        self.world.calm = True
        for fault in self.world.emulator.faults.all:
            fault.times = fault.taken
        self.world.emulator.change(
            {"limits": {"openai_enqueued_tokens": None, "google_enqueued_tokens": None, "google_jobs": 100}}
        )
        async with asyncio.TaskGroup() as group:
            for task in self.tasks:
                group.create_task(task.finish())
        for _ in range(4):
            await self._look_after_orphans()
            await asyncio.sleep(15 * MINUTE)
        self.world.emulator.jobs.refresh(self.world.name)
        self.world.live_after_reconcile = [job for job in self.world.emulator.jobs.ever if not job.ended]
        self.world.clock.advance(50 * HOUR)
        await self._look_after_orphans()
        await asyncio.sleep(MINUTE)
        await self._look_after_orphans()

    async def _look_after_orphans(self):
        """The reconciler acts, and a person does what it reports."""
        findings = await self.world.reconcile()
        for finding in findings:
            logging.getLogger("soak").info("%s", finding)
            if finding.action == "report":
                await self._by_hand(finding)

    async def _by_hand(self, finding):
        if "cancel it" in finding.why and finding.batch_id:
            await self.world.provider(Life()).cancel(finding.batch_id)
        elif finding.label:
            await self.world.tasks[finding.label.rpartition("/")[2]].resolve()


async def _at(seconds, act):
    await asyncio.sleep(seconds)
    act()


async def _later(seconds, work):
    await asyncio.sleep(seconds)
    await work()


class _Diary(logging.Handler):
    """Log records with the virtual time."""

    def __init__(self, loop, lines):
        super().__init__()
        self._loop = loop
        self._lines = lines

    def emit(self, record):
        name = f"[{record.name.rpartition('.')[2]}]"
        self._lines.append(f"{self._loop.time():9.1f} {name:12} {self.format(record)}")


@contextmanager
def _diary(loop, lines):
    loggers = [logging.getLogger(name) for name in ("airflow_batch_provider", "soak", "task")]
    handler = _Diary(loop, lines)
    silent = logging.getLogger("asyncio")
    levels = {logger: logger.level for logger in (*loggers, silent)}
    silent.setLevel(logging.CRITICAL)  # who was killed leaves its tasks behind
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


@contextmanager
def _without_remains():
    """Who was killed leaves open files and tasks behind; they go here, unsung."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hook, sys.unraisablehook = sys.unraisablehook, lambda _found: None
        try:
            yield
        finally:
            gc.collect()
            sys.unraisablehook = hook


@contextmanager
def _numbers_of(script):
    """Names that the package draws by lot come from the seed, too."""
    dice = Random(f"{script.seed}: names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", dice.randbytes)
        yield


@contextmanager
def _files_in(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(root))
        yield
