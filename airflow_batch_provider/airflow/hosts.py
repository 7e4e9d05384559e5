"""Airflow's processes as hosts of a stage: the worker with its running task, and the triggerer."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.connections import worker_hub
from airflow_batch_provider.airflow.shared_hub import shared_hub
from airflow_batch_provider.airflow.xcom import from_xcom
from airflow_batch_provider.stages.host import PROGRESS, Host

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import TaskKey

log = logging.getLogger(__name__)

# Airflow's messages from a task go over one socket, and `dag.test` has no lock for it.
_SOCKET = threading.Lock()

# Time between two progress records of one waiting task.
PROGRESS_INTERVAL = timedelta(seconds=60)


class AirflowHost(Host):
    """What worker and triggerer have in common."""

    logger = log

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def open_path(self, uri: str) -> ProxyUPath:
        """Open a URI as Airflow does, with the connection that it names."""
        from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 — the trigger module stays light

        path: ProxyUPath = ObjectStoragePath(uri)
        return path


class WorkerHost(AirflowHost):
    """A worker that runs the stage's task.

    Args:
        context: Airflow's context of the running task.
        upstream: ids of all tasks upstream of it.
        storage: root of stage storage, where large outputs of upstream tasks are kept.
    """

    def __init__(self, clock: Clock, context: Mapping[str, Any], upstream: frozenset[str], storage: str) -> None:
        super().__init__(clock)
        self.upstream = upstream
        self._context = context
        self._storage = storage

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Open connections of its own."""
        return worker_hub()

    def output_of(self, task_id: str) -> Any:
        """Return an XCom of the run."""
        with _SOCKET:
            value = self._context["ti"].xcom_pull(task_ids=task_id)
        return from_xcom(value, self._storage)

    async def publish(self, key: str, value: Any) -> None:
        """Push a small XCom of the running task; nothing depends on progress, so that a refusal of it is only logged."""
        try:
            await asyncio.to_thread(self._push, key, value)
        except Exception:
            if key != PROGRESS:
                raise
            log.debug("Progress was not published", exc_info=True)

    def _push(self, key: str, value: Any) -> None:
        with _SOCKET:
            self._context["ti"].xcom_push(key=key, value=value)


class TriggererHost(AirflowHost):
    """A triggerer that waits for the stage's task."""

    def __init__(self, clock: Clock, task: TaskKey) -> None:
        super().__init__(clock)
        self._task = task
        self._shown_at: datetime | None = None
        self._shown: Any = None

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Join the connections of all triggers here."""
        return shared_hub(self.clock)

    async def publish(self, key: str, value: Any) -> None:
        """Show a record when it has changed, once a minute at most: each is a write into Airflow's database."""
        now = self.clock.now()
        if value == self._shown or (self._shown_at is not None and now - self._shown_at < PROGRESS_INTERVAL):
            return
        self._shown_at, self._shown = now, value
        if "message" in value:
            log.info("%s", value["message"])
        await supervisor.publish(self._task, key, value)
