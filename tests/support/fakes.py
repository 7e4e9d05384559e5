"""Stand-ins for what costs money or time: a provider that keeps books, a clock that moves only when someone sleeps."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import structs
from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.exceptions import NotFound, UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account, BatchStatus, ConnectionRef, Reply, RowError, Usage
from airflow_batch_provider.providers.base import BatchProvider, Candidate, Limits, Prepared
from airflow_batch_provider.providers.codec import Codec, system_text
from airflow_batch_provider.stages import (
    CheckCompletionContext,
    PollConfig,
    StageContext,
    Suspended,
    TaskKey,
)
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.generate import GenerateStage
from airflow_batch_provider.stages.host import PROGRESS, Host
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.shapes import parse
from airflow_batch_provider.stages.suspension import StageLocation, Suspension
from airflow_batch_provider.storage import Directory

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class FakeClock:
    """Moves when someone sleeps, and by hand."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.advance(seconds)

    def advance(self, seconds):
        self.time += timedelta(seconds=seconds)


class Killed(BaseException):
    """The process died here."""


class Bomb:
    """Kills the process at the nth dangerous moment; counts the moments when it is not armed."""

    def __init__(self, at=None):
        self.at = at
        self.moment = 0
        self.where = ""

    def tick(self, where):
        if self.moment == self.at:
            self.where = where
            self.moment += 1
            raise Killed(where)
        self.moment += 1


def bombed_storage(bomb, monkeypatch):
    """Let every change of a stage storage be a dangerous moment, before it and after."""
    for name in ("publish", "create", "delete"):
        original = getattr(Directory, name)

        def bombed(self, *args, _name=name, _original=original):
            bomb.tick(f"{_name} {args}: before")
            done = _original(self, *args)
            bomb.tick(f"{_name} {args}: after")
            return done

        monkeypatch.setattr(Directory, name, bombed)


@dataclass
class FakeBatch:
    tag: str
    keys: list[str]
    bodies: list[dict]
    created_at: datetime
    status: str = "processing"
    polls: int = 0
    error: str | None = None
    retryable: bool = False
    unpaid: bool = False


class FakeCodec(Codec):
    """Bodies that a person can read."""

    def encode(self, request, spec):
        system = system_text(request, spec)
        return {
            "prompt": request.prompt,
            "model": spec.model,
            **({"system": system} if system else {}),
            **spec.request_params | request.request_params,
        }

    def line(self, key, body, spec):
        return b'{"key": "%b", "body": %b}' % (key.encode(), body)

    def result_line(self, key, answer):
        raise NotImplementedError

    def reask(self, body, answer, problem):
        return {**body, "answer": answer, "problem": problem}

    def room(self, body):
        return body.get("room", 1000)

    def with_room(self, body, tokens):
        return {**body, "room": tokens}

    def reply(self, key, record, kind):
        raise NotImplementedError


@dataclass
class FakeProvider(BatchProvider):
    """A provider in memory, with books of what was bought.

    answer: body, number of the asking (1, 2, …) → a Reply without key, or None for no result line.
    """

    clock: FakeClock
    bomb: Bomb = field(default_factory=Bomb)
    answer: object = None
    max_requests: int = 100
    max_bytes: int = 1_000_000
    polls_until_done: int = 1
    batches: dict[str, FakeBatch] = field(default_factory=dict)
    prepare_faults: list = field(default_factory=list)
    submit_faults: list = field(default_factory=list)
    status_faults: list = field(default_factory=list)
    result_faults: list = field(default_factory=list)
    call_faults: list = field(default_factory=list)
    while_asking: list = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    in_flight_limit: int = 100
    while_preparing: list = field(default_factory=list)
    while_creating: list = field(default_factory=list)
    uploading: list[str] = field(default_factory=list)
    most_uploading: int = 0

    name = "openai"
    kinds = frozenset({"generate", "embed"})
    in_realtime = frozenset({"generate"})
    codec = FakeCodec()

    def __post_init__(self):
        super().__init__(Account(provider="openai", api_key=SecretStr("k")))
        self.bought = Counter()
        self.calls = []
        self.answer = self.answer or (
            lambda body, _n: Reply(key="", status="succeeded", output=f"echo: {body['prompt']}")
        )

    def limits(self, spec):
        return Limits(requests=self.max_requests, bytes=self.max_bytes, in_flight=self.in_flight_limit)

    def check_spec(self, spec):
        if spec.model == "unknown":
            raise UsageError("no such model")

    def now(self):
        return self.clock.now()

    async def check(self):
        return "reached"

    async def prepare(self, payload):
        self.bomb.tick("submit: before the provider has it")
        self.uploading.append(payload.tag)
        self.most_uploading = max(self.most_uploading, len(self.uploading))
        await asyncio.sleep(0)  # whoever uploads at the same time goes on
        self.uploading.remove(payload.tag)
        if self.while_preparing:
            await self.while_preparing.pop(0)()
        if self.prepare_faults:
            raise self.prepare_faults.pop(0)
        return Prepared(payload, file=f"file-of-{payload.tag}")

    async def create(self, prepared):
        payload = prepared.payload
        if self.while_creating:
            await self.while_creating.pop(0)()
        if self.submit_faults:
            fault = self.submit_faults.pop(0)
            if isinstance(fault, tuple):  # (error, "after"): the provider has it, the answer is lost
                self._commit(payload)
                raise fault[0]
            if fault is not None:
                raise fault
        batch_id = self._commit(payload)
        self.bomb.tick("submit: the provider has it, we do not know")
        return batch_id

    def _commit(self, payload):
        lines = [json.loads(line) for line in Path(payload.path).read_bytes().splitlines()]
        batch_id = f"batch-{len(self.batches)}"
        bodies = [line["body"] for line in lines]
        self.batches[batch_id] = FakeBatch(payload.tag, [line["key"] for line in lines], bodies, self.clock.now())
        for body in bodies:
            self.bought[body["prompt"]] += 1
        return batch_id

    async def ask(self, key, body, spec):
        self.bomb.tick("ask: before the provider answers")
        if self.while_asking:
            await self.while_asking.pop(0)()
        fault = self.call_faults.pop(0) if self.call_faults else None
        if isinstance(fault, Exception):
            raise fault
        body = json.loads(body)
        self.calls.append(body["prompt"])
        self.bought[body["prompt"]] += 1
        self.bomb.tick("ask: it is answered, and the reply is lost")
        if fault is not None:  # (error, "after"): it was paid, the answer is lost
            raise fault[0]
        return _told(self.answer(body, self.bought[body["prompt"]]), key)

    async def find(self, claim):
        self.bomb.tick("find")
        return [Candidate(batch_id, certain=True) for batch_id, batch in self.batches.items() if batch.tag == claim.tag]

    async def tagged(self, since):
        for batch_id, batch in self.batches.items():
            if batch.created_at >= since:
                yield BatchStatus(batch_id=batch_id, status=batch.status, tag=batch.tag, created_at=batch.created_at)

    async def status(self, batch_id):
        self.bomb.tick("status")
        if self.status_faults and (fault := self.status_faults.pop(0)):
            raise fault
        if batch_id not in self.batches:
            raise NotFound(batch_id)
        batch = self.batches[batch_id]
        batch.polls += 1
        if batch.status == "processing" and batch.polls > self.polls_until_done:
            batch.status = "completed"
        return BatchStatus(
            batch_id=batch_id,
            status=batch.status,
            tag=batch.tag,
            created_at=batch.created_at,
            error=batch.error,
            retryable=batch.retryable,
            unpaid=batch.unpaid,
        )

    async def statuses(self, batch_ids):
        found = {}
        for batch_id in batch_ids:
            try:
                found[batch_id] = await self.status(batch_id)
            except NotFound:
                continue
        return found

    async def results(self, batch_id, kind):
        self.bomb.tick("results")
        batch = self.batches[batch_id]
        for key, body in reversed(list(zip(batch.keys, batch.bodies, strict=True))):
            if self.result_faults and (fault := self.result_faults.pop(0)):
                raise fault
            reply = self.answer(body, self.bought[body["prompt"]])
            if batch.status in ("expired", "cancelled") or reply is None:
                continue
            yield _told(reply, key)

    async def cancel(self, batch_id):
        self.bomb.tick("cancel")
        if self.batches[batch_id].status == "processing":
            self.batches[batch_id].status = "cancelled"

    async def clean_up(self, batch_id):
        self.bomb.tick("clean up")
        self.cleaned.append(batch_id)

    async def aclose(self):
        pass


def _told(reply, key):
    usage = reply.usage if reply.usage.told() else Usage(input_tokens=10, output_tokens=5)
    return structs.replace(reply, key=key, usage=usage)


class FakeHub(Hub):
    """A hub with one provider that is open already."""

    def __init__(self, provider, clock):
        async def nobody(conn_id):
            raise AssertionError(conn_id)

        super().__init__(nobody, sleep=clock.sleep)
        self._only = provider

    def _open(self, conn_id):
        connection = super()._open(conn_id)
        connection.opened = self._only
        return connection


def failing(code="overloaded", *, retryable=True):
    """A reply that says no."""
    return Reply(key="", status="failed", error=RowError(code=code, message=f"it is {code}", retryable=retryable))


class Job(Host):
    """One task instance, driven as Airflow would: start, wait, check, resume; every run with fresh objects."""

    logger = logging.getLogger("task")

    def __init__(
        self, root, provider, clock, requests=(), *, stage=None, hub=None, registry=None, conn_id="c", **config
    ):
        self.root = UPath(root)
        self.provider = provider
        self.clock = clock
        self.requests = requests
        self.stage = stage or GenerateStage()
        self.registry = registry
        poll = PollConfig(interval=timedelta(minutes=1), max_wait=timedelta(hours=10))
        settings = {"model": "openai:m", "connection": ConnectionRef(conn_id=conn_id), "poll": poll, "retry_rows": 0}
        self.config = BatchConfig(**settings | config)
        self.attempt = 1
        self.dag_id, self.run_id, self.task_id = "dag", "run", "task"
        self.map_index = -1
        self.shown = []
        self.published = {}
        self._hub = hub or FakeHub(provider, clock)

    @property
    def directory(self):
        return Directory(self.root)

    def hub(self):
        return nullcontext(self._hub)

    async def publish(self, key, value):
        self.published[key] = value
        if key == PROGRESS:
            self.shown.append(value)

    def stage_run(self):
        key = TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index, self.attempt)
        return StageRun(
            stage=self.stage,
            location=StageLocation(stage="job", task=key, storage=str(self.root)),
            files=StageFiles(self.directory),
            host=self,
            registry=self.registry,
            config=self.config,
        )

    def context(self, of=StageContext, **more):
        run = self.stage_run()
        made = run.stage_context(self._hub) if of is StageContext else run.check_context(self._hub)
        return replace(made, **more)

    async def start(self):
        return self._returned(await self.stage_run().start(self.config, self.requests))

    async def resume(self, suspended):
        return self._returned(await self.stage_run().resume(self.suspension(suspended), self.requests))

    async def check(self, suspended):
        return await self.stage.check_completion(suspended.state, self.context(CheckCompletionContext))

    async def overdue(self, suspended):
        return self._returned(await self.stage_run().overdue(self.suspension(suspended)))

    async def cancel(self, suspended):
        await self.stage_run().cancel(self.suspension(suspended))

    async def proceed(self, suspension, event):
        return self._returned(await self.stage_run().proceed(suspension, event, self.requests))

    def suspension(self, suspended):
        """The wait as a trigger knows it."""
        return Suspension.begin(self.stage_run().location, suspended, self.clock.now())

    def _returned(self, outcome):
        """As the stage returned it."""
        if isinstance(outcome, Suspension):
            return Suspended(state=outcome.state, poll=outcome.poll)
        return parse(self.stage.output_schema, outcome.output, "The output")

    async def run(self):
        """One attempt from start to end."""
        result = await self.start()
        while isinstance(result, Suspended):
            await self.wait(result)
            result = await self.resume(result)
        return result

    async def wait(self, suspended):
        for _ in range(1000):
            if (await self.check(suspended)).is_ready:
                return
            self.clock.advance(60)
        raise AssertionError("never ready")

    async def retry(self):
        """The next attempt."""
        self.attempt += 1
        return await self.run()

    def rows(self, manifest):
        directory = Directory(UPath(manifest.results).parent)
        return [json.loads(line) for line in directory.lines(UPath(manifest.results).name)]
