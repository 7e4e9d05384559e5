"""Walks an operator through its runs as Airflow does: execute, defer, trigger, resume; hours pass at once."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import TaskDeferred
from driving import KEY, PATHS

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.operators.base import StageOperator

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from airflow_batch_provider.emulator.server import EmulatorServer

CONNECTIONS = {"anthropic": "anthropic_batch", "openai": "openai_batch", "google": "gemini_batch"}


class TaskInstance:
    """What a running task knows of itself, and its XComs."""

    dag_id, run_id, map_index, try_number = "dag", "run", -1, 1

    def __init__(self, task_id: str, outputs: dict[str, Any]) -> None:
        self.task_id = task_id
        self.xcoms: dict[str, list[Any]] = defaultdict(list)
        self._outputs = outputs

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key].append(json.loads(json.dumps(value)))

    def xcom_pull(self, task_ids: str) -> Any:
        return self._outputs.get(task_ids)


class Edge:
    """One Airflow with one task; `deferred` and `slept` tell what its trigger was given and did."""

    def __init__(self, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.server = server
        self.storage = folder.as_uri()
        self.outputs: dict[str, Any] = {}
        self.deferred: list[TaskDeferred] = []
        self.slept: list[float] = []
        self._ahead = timedelta(0)
        self.ti: TaskInstance | None = None
        for provider, conn_type in CONNECTIONS.items():
            connection = {"conn_type": conn_type, "password": KEY, "host": server.url + PATHS[provider]}
            monkeypatch.setenv(f"AIRFLOW_CONN_{provider.upper()}", json.dumps(connection))
        monkeypatch.setattr(StageOperator, "_clock", self.clock)
        monkeypatch.setattr("airflow_batch_provider.hub.WINDOW", 0)

    @property
    def clock(self) -> Clock:
        return Clock(self._now, self._sleep)

    def start(self, operator: Any) -> Any:
        """The first run: its output, or the deferral."""
        self.ti = TaskInstance(operator.task_id, self.outputs)
        return self._call(operator.execute, {"ti": self.ti})

    def run(self, operator: Any) -> Any:
        """All runs, to the output."""
        outcome = self.start(operator)
        while isinstance(outcome, TaskDeferred):
            event = asyncio.run(self._fire(outcome))
            resume = getattr(operator, outcome.method_name)
            outcome = self._call(partial(resume, event=event), {"ti": self.ti})
        return outcome

    def _call(self, call: Any, context: dict[str, Any]) -> Any:
        try:
            return call(context)
        except TaskDeferred as deferred:
            self.deferred.append(deferred)
            return deferred

    async def _fire(self, deferred: TaskDeferred) -> Any:
        """The trigger as a triggerer has it: built again from what Airflow's database keeps."""
        path, kwargs = deferred.trigger.serialize()
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
        trigger._clock, trigger._jitter = self.clock, lambda: 0.0
        async for event in trigger.run():
            return event.payload
        raise AssertionError("the trigger ended without an event")

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds))
        self._ahead += timedelta(seconds=seconds)
        self.server.clock.advance(seconds)
