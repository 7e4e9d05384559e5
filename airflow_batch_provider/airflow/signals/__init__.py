"""What a task tells goes to Airflow's metrics and OpenTelemetry from here, without the task waiting for it."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from airflow_batch_provider.airflow.signals import metrics, traces
from airflow_batch_provider.airflow.signals.outbox import Outbox
from airflow_batch_provider.airflow.signals.waits import Wait, Waits
from airflow_batch_provider.signals import SILENT, Signals, WaitSignals
from airflow_batch_provider.timing import FLUSH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.signals import BatchBought, BatchLanded, WaitBegun, WaitEnd

log = logging.getLogger(__name__)

_WAITS = Waits()
_OUTBOX = Outbox(_WAITS.report)


def task_signals(task: TaskKey, on: tuple[bool, bool] | None = None) -> Signals:
    """Return the observer of a task; one that does nothing where Airflow sends neither metrics nor traces.

    Args:
        on: what `are_on` has returned; None asks it.
    """
    has_metrics, has_traces = on or are_on()
    if not (has_metrics or has_traces):
        return SILENT
    return TaskSignals(task, has_metrics=has_metrics, has_traces=has_traces)


def hub_signals() -> Signals:
    """Return the observer of a hub, which several tasks may share."""
    return _HubSignals() if are_on()[0] else SILENT


def are_on() -> tuple[bool, bool]:
    """Return whether Airflow sends metrics, and whether it sends traces."""
    try:
        return metrics.are_on(), traces.are_on()
    except Exception as error:  # noqa: BLE001 — a wrong setting of metrics must not end a task
        log.warning("Nothing is told to metrics and traces: %r", error)
        return False, False


@contextmanager
def running() -> Iterator[None]:
    """Surround the run of a task on a worker: it has a span, and what it tells leaves before its process ends."""
    with ExitStack() as stack:
        stack.callback(_flush)
        if are_on()[1]:
            stack.callback(_ended, _begun())
        yield


def _begun() -> ExitStack:
    """Return what ends the span of a run; samplers and processors are others' code, so there may be none."""
    span = ExitStack()
    try:
        span.enter_context(traces.run_span())
    except Exception as error:  # noqa: BLE001 — as above
        log.warning("The run has no span: %r", error)
    return span


def _ended(span: ExitStack) -> None:
    try:
        span.close()
    except Exception as error:  # noqa: BLE001 — as above
        log.warning("The span of the run was not sent: %r", error)


def _flush() -> None:
    """Send what is on its way, for a few seconds at most; the process of a task ends right after it."""
    if not _OUTBOX.flush(FLUSH_LIMIT.total_seconds()):
        log.debug("Some signals were not sent within %s", FLUSH_LIMIT)


class _HubSignals(Signals):
    def swept(self, provider: str, *, answered: bool) -> None:
        _OUTBOX.post(partial(metrics.swept, provider, answered=answered))


class TaskSignals(_HubSignals):
    """Tells Airflow's metrics and OpenTelemetry what a task does."""

    def __init__(self, task: TaskKey, *, has_metrics: bool, has_traces: bool) -> None:
        self._task = task
        self._has_metrics = has_metrics
        self._has_traces = has_traces

    def traceparent(self) -> str | None:
        """Return the context of the span that runs now."""
        try:
            return traces.traceparent() if self._has_traces else None
        except Exception:  # others' code, in the middle of a purchase
            log.debug("The trace context cannot be read", exc_info=True)
            return None

    def bought(self, batch: BatchBought) -> None:
        """Count the batch."""
        if self._has_metrics:
            _OUTBOX.post(partial(metrics.bought, self._task, batch))

    def landed(self, batch: BatchLanded) -> None:
        """Count rows, tokens and cost, and end the batch's span."""
        if self._has_metrics:
            _OUTBOX.post(partial(metrics.landed, self._task, batch))
        _OUTBOX.post(partial(traces.count_tokens, batch))  # after Airflow's, which sets OpenTelemetry's provider up
        if self._has_traces:
            _OUTBOX.post(partial(traces.landed, self._task, batch))

    def wait(self, begun: WaitBegun) -> WaitSignals:
        """Let the gauges count the wait in until it is over."""
        wait = Wait(self._task, begun)
        if self._has_metrics:
            _WAITS.add(wait)
            _OUTBOX.report_soon()
        return _TaskWait(wait, has_metrics=self._has_metrics, has_traces=self._has_traces)


class _TaskWait(WaitSignals):
    def __init__(self, wait: Wait, *, has_metrics: bool, has_traces: bool) -> None:
        self._wait = wait
        self._has_metrics = has_metrics
        self._has_traces = has_traces

    def polled(self, late: float) -> None:
        self._wait.polls += 1
        self._wait.late = max(self._wait.late, late)

    def over(self, end: WaitEnd, now: datetime) -> None:
        if self._has_metrics:
            _WAITS.remove(self._wait)
            _OUTBOX.report_soon()
        if self._has_traces:
            _OUTBOX.post(partial(traces.waited, self._wait, end, now))
