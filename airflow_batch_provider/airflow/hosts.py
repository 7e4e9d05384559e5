"""Airflow's processes as hosts of a stage: the worker with its running task, and the triggerer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow import settings, supervisor
from airflow_batch_provider.airflow.connections import worker_hub
from airflow_batch_provider.airflow.once import once_per_loop
from airflow_batch_provider.airflow.records import records
from airflow_batch_provider.airflow.shared_hub import SharedHub
from airflow_batch_provider.airflow.signals import are_on, task_signals
from airflow_batch_provider.budgets import NO_LIMITS
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.paths import open_path, open_path_here
from airflow_batch_provider.stages.host import MANIFEST, MOVING, PROGRESS, Host
from airflow_batch_provider.timing import PROGRESS_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.budgets import BudgetLimits
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.signals import Signals
    from airflow_batch_provider.stages.host import Record

log = logging.getLogger(__name__)

# Airflow's messages from a task go over one socket, and `dag.test` has no lock for it.
_SOCKET = threading.Lock()


class AirflowHost(Host):
    """The common part of both hosts."""

    logger = log

    def __init__(self, clock: Clock, signals: Signals, budgets: BudgetLimits) -> None:
        self.clock = clock
        self.signals = signals
        self.budgets = budgets

    def open_path(self, uri: str) -> ProxyUPath:
        """Open a URI as Airflow does, with the connection that it names."""
        return open_path(uri)


class WorkerHost(AirflowHost):
    """A worker that runs the stage's task.

    Args:
        task: the running one.
        context: Airflow's context of it.
        upstream: ids of all tasks upstream of it.
    """

    def __init__(self, clock: Clock, task: TaskKey, context: Mapping[str, Any], upstream: frozenset[str]) -> None:
        # Budgets that cannot be read are refused before anything is paid.
        super().__init__(clock, task_signals(task), settings.budgets())
        self.upstream = upstream
        self._context = context

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Open connections of its own."""
        return worker_hub(self.signals)

    def output_of(self, task_id: str) -> Any:
        """Return an XCom of the run."""
        with _SOCKET:
            return self._context["ti"].xcom_pull(task_ids=task_id)

    async def publish(self, key: str, value: Any) -> None:
        """Push a small XCom of the running task; a refusal of what only tells people how it went is only logged."""
        try:
            await asyncio.to_thread(self._push, key, value)
        except Exception:
            if key not in (PROGRESS, MANIFEST):
                raise
            log.debug("%s was not published", key, exc_info=True)

    def _push(self, key: str, value: Any) -> None:
        with _SOCKET:
            self._context["ti"].xcom_push(key=key, value=value)


@once_per_loop
def _budgets() -> BudgetLimits:
    """Return what is configured, for triggers to show; a wait goes on without what cannot be read."""
    try:
        return settings.budgets()
    except UsageError as error:
        log.warning("%s", error)
        return NO_LIMITS


_are_on = once_per_loop(are_on)


class TriggererHost(AirflowHost):
    """A triggerer that waits for the stage's task."""

    def __init__(self, clock: Clock, task: TaskKey) -> None:
        super().__init__(clock, task_signals(task, _are_on()), _budgets())
        self._task = task
        self._shown_at: datetime | None = None
        self._shown: bytes | None = None
        self._held_back: Record | None = None

    def open_path(self, uri: str) -> ProxyUPath:
        """Open a URI; on the triggerer's own loop where a thread that asks for its connection would end the triggerer."""
        return open_path(uri) if supervisor.threads_may_ask() else open_path_here(uri)

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Join the connections of all triggers here."""
        return SharedHub(self.clock)

    async def publish(self, key: str, value: Any) -> None:
        """Send a record when it has changed, once a minute at most: each is a write into Airflow's database."""
        self._held_back = (key, value)
        await self.publish_due()

    async def publish_due(self) -> None:
        """Send the record that was held back, a minute after the one before it; the wait goes on meanwhile."""
        if self._held_back is None:
            return
        now = self.clock.now()
        if self._shown_at is None or now - self._shown_at >= PROGRESS_INTERVAL:
            self._shown_at = now
            if (record := self._changed()) is not None:
                records().put(self._task, record)

    async def unshown(self) -> Record | None:
        """Send what people have not seen; return it where the pipe to Airflow is taken."""
        return await records().last(self._task, self._changed())

    def _changed(self) -> Record | None:
        """Return the record that was held back when it tells something new, and log it."""
        record, self._held_back = self._held_back, None
        if record is None or (digest := _digest(record[1])) == self._shown:
            return None
        self._shown = digest
        value = record[1]
        if "message" in value:
            log.info("%s", " ".join(filter(None, [value["message"], value.get("pace")])))
        return record


def _digest(record: dict[str, Any]) -> bytes:
    """Return 16 bytes that differ where two records differ in what is worth another one; a triggerer holds thousands."""
    steady = {name: value for name, value in record.items() if name not in MOVING}
    return hashlib.blake2b(json.dumps(steady, sort_keys=True, default=repr).encode(), digest_size=16).digest()
