"""Runs stages over the emulator as the Airflow edge does, on the emulator's own clock and without Airflow."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account
from airflow_batch_provider.providers import account_ref, split_account_ref
from airflow_batch_provider.stages import CheckCompletionContext, StageContext, Suspended, TaskKey
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.storage import Directory, StageStorage

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.server import EmulatorServer
    from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck

KEY = "sk-never-to-be-seen"
MODELS = {"anthropic": "claude-sonnet-4-20250514", "openai": "openai:gpt-4o", "google": "gemini-2.5-flash"}
PATHS = {"anthropic": "", "openai": "/v1", "google": ""}


class StageFailed(Exception):
    """The check said that the stage cannot succeed."""


@dataclass
class Finished:
    """What became of a stage: its output, its suspensions and checks in order, and how long it waited."""

    output: Any
    suspensions: list[Suspended] = field(default_factory=list)
    checks: list[CompletionCheck[Any]] = field(default_factory=list)
    waited: timedelta = timedelta(0)

    @property
    def metrics(self) -> dict[str, float]:
        return self.checks[-1].metrics


class Driver:
    """One task instance; a new `process()` has nothing but the storage and the suspended state."""

    def __init__(self, server: EmulatorServer, root: Path) -> None:
        self.server = server
        self.root = root
        self.key = TaskKey("dag", "run", "task")
        self.outputs: dict[str, Any] = {}
        self.upstream: tuple[str, ...] = ()
        self.shown: list[dict[str, Any]] = []
        self.opened: list[str] = []
        self.options: dict[str, Any] = {}
        self.hub = Hub(self._account, sleep=self._soon)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.server.clock.now(), UTC)

    async def sleep(self, seconds: float) -> None:
        self.server.clock.advance(seconds)

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)

    @property
    def storage(self) -> StageStorage:
        return StageStorage(Directory(UPath(self.root, str(self.key))))

    def client(self, model: str, *, conn_id: str | None = None, stored: bool = True, **options: Any) -> BatchClient:
        """A client as `ctx.batch` gives it; `stored=False` as `BatchHook` does."""
        storage = self.storage if stored else None
        ref = account_ref(conn_id or "default", model)
        return BatchClient(self.hub, ref, model, storage=storage, label=str(self.key), clock=self.clock, **options)

    def given(self, stage: AsyncBatchStage[Any, Any], config: Any) -> dict[str, Any]:
        return {
            "stage_id": stage.id,
            "key": self.key,
            "config": config,
            "storage": self.storage,
            "hub": self.hub,
            "default_conn_id": "default",
            "logger": logging.getLogger("task"),
            "publish": self._publish,
            "now": self.now,
            "sleep": self.sleep,
        }

    def context(self, stage: AsyncBatchStage[Any, Any], config: Any = None, **more: Any) -> StageContext[Any]:
        """What `execute` gets."""
        return StageContext(**self.given(stage, config), pull=self.outputs.get, upstream=self.upstream, **more)

    def check_context(self, stage: AsyncBatchStage[Any, Any], config: Any = None) -> CheckCompletionContext[Any]:
        """What `check_completion` gets."""
        return CheckCompletionContext(**self.given(stage, config))

    async def run(self, stage: type[AsyncBatchStage[Any, Any]], config: Any, rows: Any = None) -> Finished:
        """One attempt, from the start to the output; every leg has a stage object of its own, as in Airflow."""
        done = Finished(await stage().execute(self.context(stage(), config, input=rows)))
        while isinstance(done.output, Suspended):
            done.suspensions.append(done.output)
            done.output = await self._wait(stage, config, rows, done)
        return done

    async def _wait(self, stage: Any, config: Any, rows: Any, done: Finished) -> Any:
        suspended = done.suspensions[-1]
        state, poll = suspended.state, suspended.poll
        started, pause = self.now(), poll.interval if poll.first_poll is None else poll.first_poll
        while True:
            self.server.clock.advance(pause.total_seconds())
            check = await stage().check_completion(state, self.check_context(stage(), config))
            done.checks.append(check)
            done.waited += self.now() - started
            started = self.now()
            if check.error is not None:
                raise StageFailed(check.error)
            if check.is_ready and check.output is not None:
                return check.output
            resumed = self.context(stage(), config, input=rows, resume_state=state)
            if check.is_ready:
                return await stage().execute(resumed)
            if self.now() >= state.submitted_at + poll.max_wait:
                return await stage().overdue(resumed)
            pause = check.next_check_in or poll.interval

    async def ended(self, client: BatchClient, batch_id: str) -> Any:
        """The status of a batch once it has ended."""
        for _ in range(20):
            status = await client.get_status(batch_id)
            if status.ended:
                return status
            self.server.clock.advance(60)
        raise AssertionError(f"{batch_id} never ended")

    def config(self, provider: str, **settings: Any) -> BatchConfig:
        """The configuration of a built-in stage."""
        model = settings.pop("model", MODELS[provider])
        return BatchConfig(model=model, conn_id=account_ref("default", model), **settings)

    # what the other side saw

    @property
    def calls(self) -> Counter[str]:
        return Counter(self.server.books()["calls"])

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return self.server.books()["jobs"]

    def fault(self, route: str, kind: str, **order: Any) -> None:
        self.server.faults.add(route, kind, **order)

    async def _account(self, ref: str) -> Account:
        provider, conn_id = split_account_ref(ref)
        assert provider is not None
        self.opened.append(conn_id)
        url = self.server.url + PATHS[provider]
        return Account(provider=provider, api_key=SecretStr(KEY), base_url=url, options=self.options)

    async def _publish(self, record: dict[str, Any]) -> None:
        self.shown.append(record)

    @staticmethod
    async def _soon(_seconds: float) -> None:
        await asyncio.sleep(0)
