"""Where a round of the soak takes place: one deployment with one account, on a wire that is slow and may spoil answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import httpx2
from killable_task import URLS, Life, Wire
from pydantic import SecretStr
from upath import UPath
from virtual_time import VirtualClock

from airflow_batch_provider.emulator import Clock, Settings
from airflow_batch_provider.emulator.app import create_app
from airflow_batch_provider.emulator.core import Emulator
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.fleet.resolve import Resolver
from airflow_batch_provider.models import Account
from airflow_batch_provider.providers import provider_class
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = {"nothing": b"", "null": b"null", "list": b"[]", "page": b"<html>busy</html>", "bytes": b'\xff\xfe{"id": ',
           "id": b'{"id": "../../etc/passwd", "name": "batches/../../x"}'}  # fmt: skip
LINES = (b"[]", b"\xff\xfe\x00", b'{"custom_id": 5}', b"[" * 5000, b"", b'{"custom_id": "x", "key": "x"}', b"null")


# Seconds of real time; a round takes one, of which workers that wake each other for ever would never see the end.
LONGEST = 300.0


class SoakWire(Wire):
    """A wire on which calls take time, time out, and may bring hostile bytes."""

    def __init__(self, world, life):
        super().__init__(world.app, life, httpx2.RemoteProtocolError)
        self._world = world

    async def handle_async_request(self, request):
        assert time.monotonic() < self._world.until, "the round does not come to an end"
        try:
            async with asyncio.timeout(request.extensions["timeout"]["read"]):
                return await super().handle_async_request(request)
        except TimeoutError:
            raise httpx2.ReadTimeout("no byte came", request=request) from None

    async def _answer(self, request, body):
        await asyncio.sleep(self._world.latency())
        response = await super()._answer(request, body)
        await asyncio.sleep(self._world.latency())
        return await self._world.garbled(request, response)


@dataclass
class World:
    """One deployment with one account at one provider."""

    root: Path
    script: object
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self):
        self.dice = Random(f"{self.script.seed}: who goes first")
        self.name = self.script.provider
        skewed = Clock(source=lambda: self.clock.now().timestamp() + self.script.skew)
        self.emulator = Emulator(Settings().changed(self.script.settings), skewed)
        self.emulator._salt = f"{self.dice.getrandbits(48):012x}"
        self.app = create_app(self.emulator)
        self.deployment = Deployment(Directory(UPath(self.root)))
        self.seen = Counter()
        self.spoiled = set()
        self.kills = self.garbles = self.unresolved = self.resolved = 0
        self.calm = False
        self.until = time.monotonic() + LONGEST
        self.tasks = {}

    def latency(self):
        return 0 if self.calm else self.dice.choice(self.script.latency)

    def provider(self, life):
        wire = SoakWire(self, life)
        account = Account(
            provider=self.name, api_key=SecretStr("k"), base_url=URLS[self.name], options=self.script.options
        )
        return provider_class(self.name)(account, transport=wire)

    def ask(self, ids):
        """What Airflow says of a task."""
        return self.tasks[ids.task_id].state

    @property
    def resolver(self):
        return Resolver(self.deployment, self.ask, self.clock)

    async def reconcile(self, grace=0.0):
        rules = Rules(grace=timedelta(seconds=grace), cancel_orphans=True)
        reconciler, providers = Reconciler(self.deployment, self.ask, self.clock, rules), [self.provider(Life())]
        return await reconciler.act(await reconciler.examine(providers), providers)

    async def garbled(self, request, response):
        """The answer as it arrives."""
        if self.calm or response.status_code != 200:
            return response
        role = _role(request)
        self.seen[role] += 1
        for garble in self.script.garbles:
            if garble.role == role and garble.after < self.seen[role] <= garble.after + garble.times:
                self.garbles += 1
                return await self._spoilt(garble.how, response)
        return response

    async def _spoilt(self, how, response):
        if how in HOSTILE:
            return httpx2.Response(200, headers={"content-type": "application/json"}, content=HOSTILE[how])
        lines = (await response.aread()).splitlines(keepends=True)
        if lines:
            at = self.dice.randrange(len(lines))
            if how == "spoil":
                told = json.loads(lines[at])
                self.spoiled.add(told.get("custom_id") or told.get("key"))
                del lines[at]
            lines.insert(at, self.dice.choice(LINES) + b"\n")
        return httpx2.Response(200, headers={"content-type": "application/x-jsonl"}, content=b"".join(lines))


def _role(request):
    path = request.url.path
    if request.method == "POST":
        return "create" if path.endswith(("/batches", ":batchGenerateContent")) else "other"
    if path.endswith(("/results", "/content", ":download")):
        return "results"
    return "poll" if request.method == "GET" else "other"
