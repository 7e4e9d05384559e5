"""What a triggerer tells Airflow when many waits go on and end at once: all of it goes through one pipe."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import suppress
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates
from edge_stages import Scripted
from jumping import in_virtual_time
from test_trigger import START, VirtualTime, made, suspension
from upath import UPath

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.records import Records, records
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages import CompletionCheck, SuspendedState
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.host import Host
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.storage import Directory

CROWD = 300


class SlowSupervisor:
    """Takes everything, and replies when it is told to."""

    def __init__(self) -> None:
        self.replies = asyncio.Event()
        self.messages: list = []

    async def asend(self, message):
        self.messages.append(message)
        await self.replies.wait()

    @property
    def values(self) -> list:
        """What was shown; Airflow before 3.3 is asked for the state of a task the same way."""
        return [message.value for message in self.messages if hasattr(message, "value")]


@pytest.fixture
async def slow(monkeypatch):
    comms = SlowSupervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    return comms


class Worker(Host):
    """A worker that keeps what it shows."""

    def __init__(self) -> None:
        self.shown: list = []

    async def publish(self, key, value):
        self.shown.append((key, value))


def key(number: int) -> TaskKey:
    return TaskKey("dag", "run", f"task-{number}")


def ending(tmp_path, number: int):
    state = SuspendedState(batch_id=f"batch-{number}", submitted_at=START)
    return made(tmp_path, VirtualTime(), stage="edge_stages.Ending", task=key(number), state=state)


async def event_of(trigger) -> dict:
    (event,) = [event.payload async for event in trigger.run()]
    return event


async def until(told) -> None:
    while not told():  # noqa: ASYNC110 — nothing else tells
        await asyncio.sleep(0.01)


def resumed(tmp_path, wait, stage) -> tuple[StageRun, Worker]:
    """The worker that an event wakes."""
    host, files = Worker(), StageFiles(wait.location.directory(UPath))
    return StageRun(stage=stage, location=wait.location, files=files, host=host), host


async def test_a_crowd_that_ends_together_does_not_wait_for_each_others_records(tmp_path, slow):
    """One record at a time is in the pipe; nobody's event comes later for those of others, and none is lost."""
    triggers = [ending(tmp_path, number) for number in range(CROWD)]
    running = [asyncio.create_task(event_of(trigger)) for trigger in triggers]
    events = list(itertools.islice(asyncio.as_completed(running), CROWD - 1))

    for event in events:
        assert (await event) == {"status": "ready", "error": None, "has_record": True}

    assert len(slow.messages) == 1
    slow.replies.set()
    await asyncio.gather(*running)
    kept = [StageFiles(one.suspension.location.directory(UPath)).record("t") for one in triggers]
    told = slow.values + [record[1] for record in kept if record is not None]
    assert sorted(one["done"] for one in told) == sorted(f"batch-{number}" for number in range(CROWD))


async def test_one_that_ends_alone_shows_its_last_record_at_once(tmp_path, slow):
    """A worker may be long in coming; and Airflow has the record before the event."""
    running = asyncio.create_task(event_of(ending(tmp_path, 1)))
    await until(lambda: slow.messages)
    assert not running.done()
    slow.replies.set()
    assert await running == {"status": "ready", "error": None}
    assert slow.values == [{"done": "batch-1"}]


@pytest.mark.parametrize("status", ["ready", "failed", "timeout", "near"])
async def test_the_worker_shows_what_the_triggerer_could_not(tmp_path, status):
    """Before anything else, whatever the wait came to."""
    wait = suspension(tmp_path)
    run, worker = resumed(tmp_path, wait, Scripted())
    run.files.save_config(None)
    run.files.save_record(wait.token, ("batch_progress", {"n": 3}))
    with suppress(Exception):  # of a stage that was never meant to be resumed
        await run.proceed(wait, {"status": status, "error": "why", "has_record": True})
    assert worker.shown[0] == ("batch_progress", {"n": 3})


async def test_the_record_of_an_earlier_wait_is_not_shown(tmp_path):
    """The stage has suspended again since."""
    wait = suspension(tmp_path)
    run, worker = resumed(tmp_path, wait, Scripted())
    run.files.save_record("earlier", ("batch_progress", {"n": 3}))
    await run.proceed(wait, {"status": "near", "error": None, "has_record": True})
    assert worker.shown == []


async def test_a_record_that_cannot_be_kept_holds_no_event_up(tmp_path, slow, monkeypatch):
    """Nothing depends on it."""
    trigger = ending(tmp_path, 1)
    records().put(key(2), ("batch_progress", {"n": 1}))  # the pipe is taken

    def full(self, name, data):
        raise OSError("No space left on device")

    monkeypatch.setattr(Directory, "write", full)
    assert await event_of(trigger) == {"status": "ready", "error": None}
    slow.replies.set()


async def test_of_each_task_the_newest_record_is_sent(slow):
    """However long the pipe was taken; each task has its turn."""
    sent = Records()
    for n in range(3):
        for number in (1, 2):
            sent.put(key(number), ("batch_progress", {"task": number, "n": n}))
    slow.replies.set()
    await until(lambda: len(slow.messages) == 3)
    assert slow.values == [{"task": 1, "n": 0}, {"task": 2, "n": 2}, {"task": 1, "n": 2}]


async def test_a_wait_that_was_given_up_sends_no_record_any_more(tmp_path, slow):
    """The next try of the task shows its own, and an old one must not replace it."""
    records().put(key(2), ("batch_progress", {"n": 1}))  # the pipe is taken
    Scripted.script = deque([{"n": 1}, 3600.0, CompletionCheck.ready()])
    running = asyncio.create_task(event_of(made(tmp_path, VirtualTime(), task=key(1))))
    await until(lambda: len(Scripted.script) < 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    slow.replies.set()
    await records().last(key(2), None)
    assert slow.values == [{"n": 1}]


class OrderedPipe:
    """As Airflow 3.1.8 talks to its supervisor: one question at a time, and the next reply must be its own."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._numbers = itertools.count()
        self.replies: asyncio.Queue[int] = asyncio.Queue()
        self.sent: list[int] = []

    async def asend(self, message):
        number = next(self._numbers)
        async with self._lock:
            self.sent.append(number)
            reply = await self.replies.get()
            if reply != number:
                raise RuntimeError(f"Response read out of order! Got {reply}, not {number}")
            return SimpleNamespace(number=reply)


QUESTION = GetTaskStates(dag_id="dag", run_ids=["run"], task_ids=["task"])


@pytest.mark.parametrize("gives_up", ["cancelled", "impatient"])
@in_virtual_time
async def test_a_reply_that_comes_late_is_not_taken_for_anothers(monkeypatch, gives_up):
    """A task that is cleared, or a supervisor that is slow, ends no triggerer."""
    pipe = OrderedPipe()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", pipe, raising=False)
    first = asyncio.create_task(supervisor.ask(QUESTION))
    await asyncio.sleep(1)
    if gives_up == "cancelled":
        first.cancel()
    await asyncio.wait({first})

    second = asyncio.create_task(supervisor.ask(QUESTION))
    pipe.replies.put_nowait(0)
    pipe.replies.put_nowait(1)

    assert (await second).number == 1
