"""The process around a stage's runner, as far as the runner needs it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from upath import UPath

from airflow_batch_provider.budgets import NO_LIMITS, BudgetLimits
from airflow_batch_provider.clock import Clock, random_id
from airflow_batch_provider.signals import SILENT, Signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.client import BatchClient
    from airflow_batch_provider.hub import Hub

log = logging.getLogger("airflow_batch_provider.stages")

# Keys of the small records that `Host.publish` shows to people.
BATCH_IDS, METRICS, PROGRESS = "batch_ids", "batch_metrics", "batch_progress"
EMBEDDINGS = "batch_embeddings"
MANIFEST = "batch_manifest"
"""Of an attempt that fell short; that of a success is the task's output."""

# Fields of a progress record that differ at each poll; a change of them alone is not worth a record.
MOVING = frozenset({"seen_at", "pace"})


Record: TypeAlias = tuple[str, Any]
"""A small record for people, with its key before it."""


class Host:
    """A process that runs stages: a worker, a triggerer, or a test; the defaults are those of one without Airflow.

    Attributes:
        clock: the wall clock, and how to sleep.
        logger: takes what stages log.
        upstream: ids of all tasks upstream of the stage's task.
        new_id: draws 32 hex digits that nobody else has.
        client: given to stages as `ctx.batch(…)`, where a test has one.
        signals: told what the task does; metrics, traces.
        budgets: what the deployment may spend.
    """

    clock: Clock = Clock()
    logger: logging.Logger = log
    upstream: frozenset[str] = frozenset()
    client: BatchClient | None = None
    new_id: Callable[[], str] = staticmethod(random_id)
    signals: Signals = SILENT
    budgets: BudgetLimits = NO_LIMITS

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Return the connections to providers, open for the length of one `async with` in the running event loop."""
        raise NotImplementedError

    def open_path(self, uri: str) -> UPath | ProxyUPath:
        """Open a user's URI, or the root of stage storage."""
        return UPath(uri)

    def output_of(self, task_id: str) -> Any:
        """Return the output of an upstream task, None when it has none; blocking."""
        raise NotImplementedError

    async def publish(self, key: str, value: Any) -> None:
        """Show people a small record: `batch_ids`, `batch_metrics`, `batch_embeddings`, `batch_manifest` or `batch_progress`."""
        raise NotImplementedError

    async def publish_due(self) -> None:
        """Show a record that `publish` held back, when it is time for it; by default none is."""

    async def unshown(self) -> Record | None:
        """Return a record that `publish` held back until the wait was over, for the worker to show; by default none is."""
        return None
