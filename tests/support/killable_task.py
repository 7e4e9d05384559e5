"""One task instance over the emulator with the real SDKs, in one process, whose worker can be killed at any moment.

A worker that was killed is dead: what its `finally` blocks still try to write or to send fails as well, as after
SIGKILL. What it had already sent goes on at the provider.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx2
import pytest
from fakes import Bomb, FakeClock, FakeHub, Job, Killed
from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.clock import Clock as Clocked
from airflow_batch_provider.emulator import Clock, Progress, Settings
from airflow_batch_provider.emulator.app import create_app
from airflow_batch_provider.emulator.books import books
from airflow_batch_provider.emulator.core import Emulator
from airflow_batch_provider.emulator.endpoint import CutInProcess
from airflow_batch_provider.exceptions import BatchError, Unresolved
from airflow_batch_provider.models import Account, ConnectionRef
from airflow_batch_provider.providers import provider_class
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.storage import Directory, StageStorage

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5-mini", "google": "gemini-2.5-flash"}
HOST = "http://emulator.test"
URLS = {"anthropic": HOST, "openai": f"{HOST}/v1", "google": HOST}
CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}

FORM = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
ROWS = (
    "question 0",
    "question 1",
    "question 2 [[emulate:error=unavailable,times=1]]",
    {"prompt": "question 3", "output_type": FORM},
    "question 4",
)
"""In batches of two: rows 2 and 3, the second batch, get no good answer in wave 0."""

ASKED = Counter({(0, index): 1 for index in range(5)} | {(1, 2): 1, (1, 3): 1})
"""How often each row runs in each wave."""


class Life(Bomb):
    """What a worker lives by: ends at the nth dangerous moment, and then for good.

    Attributes:
        hold: the hold on a claim that the worker checked last.
    """

    dead = False
    hold = None

    def tick(self, where):
        if self.dead:
            raise Killed(f"after death: {where}")
        try:
            super().tick(where)
        except Killed:
            self.dead = True
            raise


LIFE: ContextVar[Life] = ContextVar("life")


@contextmanager
def storage_that_kills():
    """Every write to storage is a dangerous moment, before and after."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("publish", "create", "delete", "move"):
            patch.setattr(Directory, name, _dangerous(name, getattr(Directory, name)))
        yield


def _dangerous(name, original):
    def write(self, *args):
        if (life := LIFE.get(None)) is None:
            return original(self, *args)
        what = f"{name} {args[-1] if name == 'publish' else args[0]}"
        life.tick(f"{what}: before")
        done = original(self, *args)
        life.tick(f"{what}: after")
        return done

    return write


class Wire(httpx2.AsyncBaseTransport):
    """From an SDK to the emulator and back; what was sent arrives even when the sender dies."""

    def __init__(self, app, life, lost, *, tells_time=True):
        self._app = app
        self._tells_time = tells_time
        self._life = life
        self._lost = lost
        self.under_way = set()

    async def handle_async_request(self, request):
        what = f"{request.method} {request.url.path}"
        self._life.tick(f"{what}: before")
        body = await request.aread()
        task = asyncio.create_task(self._answer(request, body))
        self.under_way.add(task)
        response = await asyncio.shield(task)
        self._life.tick(f"{what}: after")
        return response

    async def _answer(self, request, body):
        answer = _Answer(body, tells_time=self._tells_time)
        try:
            await self._app(_scope(request), answer.receive, answer.send)
        except CutInProcess:
            if answer.start is None:
                raise self._lost("no answer", request=request) from None
            return answer.response(cut=True)
        return answer.response()

    async def aclose(self):
        await asyncio.gather(*self.under_way, return_exceptions=True)


def _scope(request):
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }


class _Answer:
    """What an ASGI application receives and sends."""

    def __init__(self, body, *, tells_time=True):
        self._body = [body]
        self._tells_time = tells_time
        self.start = None
        self._parts = []

    async def receive(self):
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if self._tells_time or name != b"date"]
            self.start = {**message, "headers": kept}
        else:
            self._parts.append(message.get("body", b""))

    def response(self, *, cut=False):
        stream = _Stream(self._parts, cut)
        return httpx2.Response(self.start["status"], headers=self.start["headers"], stream=stream)


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, parts, cut):
        self._parts = parts
        self._cut = cut

    async def __aiter__(self):
        for part in self._parts:
            yield part
        if self._cut:
            raise httpx2.RemoteProtocolError("the server hung up in the middle")


class SkewedClock(FakeClock):
    """A worker's clock, which is so many seconds ahead of the world's."""

    def __init__(self, world, ahead):
        self._world = world
        self.ahead = ahead

    def now(self):
        return self._world.now() + timedelta(seconds=self.ahead)

    async def sleep(self, seconds):
        await self._world.sleep(seconds)

    def advance(self, seconds):
        self._world.advance(seconds)


@dataclass
class World:
    """The providers, the time, and a deployment's storage."""

    root: Path
    name: str
    clock: FakeClock = field(default_factory=FakeClock)
    lost: type[httpx2.TransportError] = httpx2.RemoteProtocolError
    """What a worker sees of a connection that was cut."""
    worker_clock: FakeClock | None = None
    """The clock of the workers that begin; the world's own unless told otherwise."""
    tells_time: bool = True
    """Whether replies have a `date`."""

    def __post_init__(self):
        settings = Settings(progress=Progress(pending=30, running=60, finalizing=0, settle=0))
        self.emulator = Emulator(settings, Clock(source=lambda: self.clock.now().timestamp()))
        self.app = create_app(self.emulator)
        self.emulator.rule("bad_json", keys="*-0-00001*-3")
        self.registry = Registry(Directory(UPath(self.root / "registry")))

    def close(self):
        self.emulator.close()

    def task(self, life, requests=ROWS, *, task="task", attempt=1, **config):
        """A worker with one task instance in its hands: its own client, its own life."""
        clock = self.worker_clock or self.clock
        wire = Wire(self.app, life, self.lost, tells_time=self.tells_time)
        account = Account(
            provider=self.name, api_key=SecretStr("k"), base_url=URLS[self.name], options={"max_requests": 2}
        )
        provider = provider_class(self.name)(account, transport=wire)
        config = {"model": MODELS[self.name], "conn_id": self.name, "retry_rows": 1} | config
        job = Job(
            self.root / task,
            provider,
            clock,
            list(requests),
            hub=FakeHub(provider, clock),
            registry=self.registry,
            **config,
        )
        job.attempt = attempt
        return Worker(job, provider, wire, life)

    def client(self, clock):
        """The client of a stage's own task, in a process of its own with this clock."""
        account = Account(provider=self.name, api_key=SecretStr("k"), base_url=URLS[self.name])
        provider = provider_class(self.name)(account, transport=Wire(self.app, Life(), self.lost))
        storage = StageStorage(Directory(UPath(self.root / "client")))
        hub, connection = FakeHub(provider, clock), ConnectionRef(conn_id=self.name)
        return BatchClient(
            hub,
            connection,
            MODELS[self.name],
            storage=storage,
            clock=Clocked(clock.now, clock.sleep),
            registry=self.registry,
        )

    async def run(self, life, **task):
        """One attempt of a task in a process of its own, and whatever it dies of."""
        return await asyncio.create_task(self.task(life, **task).run())

    async def go_on(self, life=None, *, attempt=1, attempts=6, **task):
        """Attempts until one succeeds; the first may be killed. The manifest, and what the others died of."""
        ends = []
        for number in range(attempt, attempt + attempts):
            try:
                return await self.run(life or Life(), attempt=number, **task), ends
            except (Killed, BatchError) as end:
                ends.append(end)
                if isinstance(end, Unresolved):
                    break
            life = None
        return None, ends

    def books(self):
        return books(self.emulator)

    def executed(self):
        """(wave, index) → how often that row ran at the provider, or runs now."""
        return Counter(
            (int(wave), int(index))
            for job in self.emulator.jobs.ever
            if not job.single
            for row in job.rows
            if row.outcome is None or row.outcome.kind not in ("cancelled", "expired")
            for _, wave, _, *_, index in [row.key.split("-")]
        )


@dataclass
class Worker:
    job: Job
    provider: object
    wire: Wire
    life: Life

    async def run(self):
        LIFE.set(self.life)
        try:
            return await self.job.run()
        finally:
            await self.wire.aclose()


class DiesAt:
    """A coroutine that is killed when it waits for the nth time."""

    def __init__(self, work, at, life):
        self._work = work
        self._at = at
        self._life = life
        self.waits = 0

    def __await__(self):
        steps = self._work.__await__()
        value = failure = None
        while True:
            try:
                wish = steps.throw(failure) if failure else steps.send(value)
            except StopIteration as done:
                return done.value
            if self.waits == self._at:
                self._life.dead = True
                with suppress(BaseException):  # whatever its clean-up meets: it is dead
                    steps.throw(Killed)
                    steps.close()
                raise Killed(f"waiting for the {self._at}th time")
            self.waits += 1
            value = failure = None
            try:
                value = yield wish
            except BaseException as error:  # noqa: BLE001 — a cancellation is the work's to see
                failure = error


def check_balance(world, manifest, *, asked=ASKED):
    """Every row ran once per wave that asks it, the money is counted once, every request has its row."""
    assert world.executed() == asked
    jobs = world.emulator.jobs.ever
    assert all(job.ended for job in jobs)
    assert manifest.usage.input_tokens == sum(job.usage["input"] for job in jobs)
    assert manifest.usage.output_tokens == sum(job.usage["output"] for job in jobs)
    rows = list(Directory(UPath(world.root / "task")).lines("results.jsonl"))
    assert len(rows) == manifest.requests == manifest.counts["succeeded"]
