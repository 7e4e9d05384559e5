"""What a task tells those who observe it, as plain values; this default observer ignores it.

Whoever runs the core replaces it. An observer never raises, never waits and decides nothing: the work is the same with
and without it. Nothing that it is told holds a prompt, an answer or a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_batch_provider.models import Cost, Kind, RowStatus
    from airflow_batch_provider.usage import Usage

WaitEnd: TypeAlias = Literal["ready", "failed", "timeout", "near", "stopped"]
"""How a wait ended: the status of its event, or `stopped` where the process was told to end it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchBought:
    """One batch that the provider has.

    Attributes:
        requests: its rows.
    """

    provider: str
    model: str
    requests: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLanded:
    """One batch whose answers are in storage; told once for each batch, however often its task is run again.

    Attributes:
        batch_id: empty where the rows were asked by single calls.
        wave: from 0.
        rows: row status → number.
        usage: of all its answers.
        cost: of all its answers, each row at its own price.
        bought_at: when, by the clock of the worker.
        landed_at: when its answers were counted.
        traceparent: W3C trace context in which it was bought; None where nothing is traced.
    """

    provider: str
    model: str
    kind: Kind
    batch_id: str
    wave: int
    rows: Mapping[RowStatus, int]
    usage: Usage
    cost: Cost
    bought_at: datetime
    landed_at: datetime
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitBegun:
    """A stage that is suspended, and is polled from now on.

    Attributes:
        provider: None where the stage does not say whom it waits for.
        model: as `provider`.
        batches: number of batches that are bought and have not landed.
        started_at: when the deadline began to count.
        traceparent: W3C trace context of the worker that suspended; None where nothing is traced.
    """

    provider: str | None
    model: str | None
    batches: int
    started_at: datetime
    deadline: datetime
    now: datetime
    traceparent: str | None = None


class WaitSignals:
    """What one wait tells while it lasts."""

    def polled(self, late: float) -> None:
        """The stage was polled, so many seconds later than planned."""

    def over(self, end: WaitEnd, now: datetime) -> None:
        """The wait has ended."""


SILENT_WAIT = WaitSignals()


class Signals:
    """What one task tells, and what a hub tells of its sweeps."""

    def traceparent(self) -> str | None:
        """Return the W3C trace context of what runs now, to be kept in files; None where nothing is traced."""
        return None

    def bought(self, batch: BatchBought) -> None:
        """A batch was bought, or found at the provider after its reply was lost."""

    def landed(self, batch: BatchLanded) -> None:
        """The answers of a batch are in storage."""

    def wait(self, begun: WaitBegun) -> WaitSignals:  # noqa: ARG002 — this one ignores everything
        """A wait has begun; return what it tells from now on."""
        return SILENT_WAIT

    def swept(self, provider: str, *, answered: bool) -> None:
        """All batches of a connection that were due were asked for at once; whether the provider answered."""


SILENT = Signals()
