"""Progress records on their way from a triggerer to Airflow, one at a time."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.once import once_per_loop

if TYPE_CHECKING:
    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.stages.host import Record


class Records:
    """The newest record of each task that waits in one event loop.

    All that a triggerer tells Airflow goes through one pipe, in order, and each record is a write into Airflow's database: a
    thousand that are sent at once would hold up every trigger's event behind them for minutes.
    """

    def __init__(self) -> None:
        self._due: dict[TaskKey, Record] = {}
        self._under_way: tuple[TaskKey, asyncio.Task[None]] | None = None

    def put(self, task: TaskKey, record: Record) -> None:
        """Send a record when its turn comes, in place of an older one of the task that still waits."""
        self._due[task] = record
        if self._under_way is None:
            self._send_next()

    def take(self, task: TaskKey) -> Record | None:
        """Return the task's record that waits for its turn; it is sent no more."""
        return self._due.pop(task, None)

    async def last(self, task: TaskKey, record: Record | None) -> Record | None:
        """Send the last record of a task's wait, before its event; return it where it would have to wait for others.

        Args:
            record: newer than what was put; None where nothing is.
        """
        left = record or self._due.get(task)
        self._due.pop(task, None)
        if left is not None and self._under_way is None:
            self.put(task, left)
            left = None
        if self._under_way is not None and self._under_way[0] == task:
            await asyncio.wait({self._under_way[1]})
        return left

    def _send_next(self, before: asyncio.Task[None] | None = None) -> None:
        self._under_way = None
        if not self._due or (before is not None and before.cancelled()):
            return
        task = next(iter(self._due))
        # In a context of its own: it must not write into the log of the task that was there first.
        sending = asyncio.create_task(supervisor.publish(task, *self._due.pop(task)), context=Context())
        self._under_way = task, sending
        sending.add_done_callback(self._send_next)


@once_per_loop
def records() -> Records:
    """Return those of the running event loop."""
    return Records()
