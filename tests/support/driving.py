"""Runs stages over the emulator by the package's own runner, on the emulator's own clock and without Airflow."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account
from airflow_batch_provider.providers import connection_ref
from airflow_batch_provider.stages import AsyncBatchStage, CheckCompletionContext, StageContext, TaskKey
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.shapes import parse
from airflow_batch_provider.storage import Directory, StageStorage
from airflow_batch_provider.testing import SimulatedTask, StageResult

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.server import EmulatorServer
    from airflow_batch_provider.models import ConnectionRef
    from airflow_batch_provider.stages.runner import StageRun

KEY = "sk-never-to-be-seen"
MODELS = {"anthropic": "claude-sonnet-4-20250514", "openai": "openai:gpt-4o", "google": "gemini-2.5-flash"}
PATHS = {"anthropic": "", "openai": "/v1", "google": ""}


class Driver:
    """One task instance; a new `process()` has nothing but the storage and the suspended state."""

    def __init__(self, server: EmulatorServer, root: Path) -> None:
        self.server = server
        self.root = root
        self.key = TaskKey("dag", "run", "task")
        self.outputs: dict[str, Any] = {}
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

    def client(
        self, model: str, *, conn_id: str = "default", provider: str | None = None, stored: bool = True, **options: Any
    ) -> BatchClient:
        """A client as `ctx.batch` gives it; `stored=False` as `BatchHook` does."""
        storage = self.storage if stored else None
        connection = connection_ref(conn_id, model)
        if provider is not None:
            connection = connection.model_copy(update={"provider": provider})
        return BatchClient(
            self.hub, connection, model, storage=storage, label=str(self.key), clock=self.clock, **options
        )

    def task(self, stage: type[AsyncBatchStage[Any, Any]], config: Any = None, rows: Any = None) -> SimulatedTask:
        """The task, with one of the guide's stages."""
        task = SimulatedTask(
            stage,
            storage=self.root.as_uri(),
            config=config,
            input=rows,
            outputs=self.outputs,
            conn_id="default",
            clock=self.clock,
            key=self.key,
            hub_in_use=self.hub,
            progress=self.shown,
        )
        task.logger = logging.getLogger("task")
        return task

    def stage_run(self, stage: AsyncBatchStage[Any, Any], config: Any) -> StageRun:
        run = self.task(AsyncBatchStage).stage_run()
        return replace(run, stage=stage, config={} if config is None else config)

    def context(self, stage: AsyncBatchStage[Any, Any], config: Any = None, **more: Any) -> StageContext[Any]:
        """What `execute` gets."""
        return replace(self.stage_run(stage, config).stage_context(self.hub), **more)

    def check_context(self, stage: AsyncBatchStage[Any, Any], config: Any = None) -> CheckCompletionContext[Any]:
        """What `check_completion` gets."""
        return self.stage_run(stage, config).check_context(self.hub)

    async def run(self, stage: type[AsyncBatchStage[Any, Any]], config: Any, rows: Any = None) -> StageResult:
        """One attempt, from the start to the output, which is in the stage's own shape."""
        done = await self.task(stage, config, rows).run()
        return replace(done, output=parse(stage.output_schema, done.output, "The output"))

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
        return BatchConfig(model=model, connection=connection_ref("default", model), **settings)

    # what the other side saw

    @property
    def calls(self) -> Counter[str]:
        return Counter(self.server.books()["calls"])

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return self.server.books()["jobs"]

    def fault(self, route: str, kind: str, **fields: Any) -> None:
        self.server.faults.add(route, kind, **fields)

    async def _account(self, connection: ConnectionRef) -> Account:
        provider = connection.provider
        assert provider is not None
        self.opened.append(connection.conn_id)
        url = self.server.url + PATHS[provider]
        return Account(provider=provider, api_key=SecretStr(KEY), base_url=url, options=self.options)

    @staticmethod
    async def _soon(_seconds: float) -> None:
        await asyncio.sleep(0)
