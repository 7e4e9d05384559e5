"""The waits of this process, and the gauges that sum them up."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.airflow.signals import metrics, table
from airflow_batch_provider.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.signals import WaitBegun


@dataclass(eq=False, slots=True)
class Wait:
    """One task that waits.

    Attributes:
        polls: how often it was polled.
        late: seconds, the most that a poll was late since the last report.
    """

    task: TaskKey
    begun: WaitBegun
    polls: int = 0
    late: float = 0.0

    @property
    def tags(self) -> tuple[tuple[str, str | None], ...]:
        """Return what its gauges are told apart by."""
        tags = metrics.task_tags(self.task, self.begun.provider, self.begun.model)
        return tuple(tags.items())

    def window_used(self, now: datetime) -> float:
        """Return the share of the time until the deadline that has passed."""
        whole = (self.begun.deadline - self.begun.started_at).total_seconds()
        passed = (now - self.begun.started_at).total_seconds()
        return min(max(passed / whole, 0.0), 1.0) if whole > 0 else 1.0


class Waits:
    """All waits of this process: written by its event loop, summed up by the thread that sends."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._waits: set[Wait] = set()
        self._lock = threading.Lock()
        self._reported: set[tuple[tuple[str, str | None], ...]] = set()

    def add(self, wait: Wait) -> None:
        """A wait begins."""
        with self._lock:
            self._waits.add(wait)

    def remove(self, wait: Wait) -> None:
        """A wait is over."""
        with self._lock:
            self._waits.discard(wait)

    def report(self) -> None:
        """Send the gauges: a sum for the mapped instances of a task, and nothing for tasks that have stopped waiting."""
        with self._lock:
            waits = list(self._waits)
        groups: dict[tuple[tuple[str, str | None], ...], list[Wait]] = {}
        for wait in waits:
            groups.setdefault(wait.tags, []).append(wait)
        for tags in self._reported | groups.keys():
            self._send({**dict(tags), "hostname": metrics.hostname()}, groups.get(tags, ()))
        self._reported = set(groups)

    def _send(self, tags: dict[str, str | None], waits: Iterable[Wait]) -> None:
        now, batches, window, late = self._now(), 0, 0.0, 0.0
        for wait in waits:
            batches += wait.begun.batches
            window = max(window, wait.window_used(now))
            late = max(late, wait.late)
            wait.late = 0.0
        metrics.gauge(table.IN_FLIGHT, batches, tags)
        metrics.gauge(table.WINDOW, round(window, 4), tags)
        metrics.gauge(table.POLL_LAG, round(late, 3), tags)
