"""When a suspended stage is polled next, and when waiting ends: decisions over values, without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound
from airflow_batch_provider.stages.suspension import seconds_until
from airflow_batch_provider.timing import GONE_AFTER, LONGEST_POLL_PAUSE, SHORTEST_POLL_PAUSE

if TYPE_CHECKING:
    from airflow_batch_provider.stages.suspension import Suspension
    from airflow_batch_provider.stages.values import CompletionCheck

_LONGEST_ERROR = 1500
_MOST_SHOWN = 3
_RUNS_ON = (
    "What was bought runs on at the provider. Correct the connection; a retry, or a clear of the task, goes on with it and buys "
    "nothing again."
)


def with_remedy(error: BatchError) -> str:
    """Return the message of what ends a wait; a refused key stops no batch, so that one also says how to go on."""
    return f"{error} {_RUNS_ON}" if isinstance(error, Denied) else str(error)


def with_bought(message: str, batch_ids: tuple[str, ...]) -> str:
    """Return the message of what ends a stage, with what becomes of the batches that it bought by `ctx.batch`."""
    if not batch_ids:
        return message
    shown = ", ".join(map(repr, batch_ids[:_MOST_SHOWN]))
    more = f" and {len(batch_ids) - _MOST_SHOWN} more" if len(batch_ids) > _MOST_SHOWN else ""
    told = message.rstrip()
    end = "" if told.endswith((".", "!", "?")) else "."  # a stage's own words may end without one
    return (
        f"{told}{end} What ctx.batch bought is kept ({shown}{more}): a clear of the task goes on with it, and the same requests "
        "are not bought again."
    )


class Event(TypedDict):
    """The event that wakes the worker; small, because Airflow logs it and stores it in a row."""

    status: Literal["ready", "failed", "timeout", "near"]
    error: str | None
    retryable: NotRequired[bool]
    """True where another attempt of the task may succeed; left out otherwise."""
    has_record: NotRequired[bool]
    """True where a last record waits in stage storage, which the worker shows; left out otherwise."""


READY: Event = {"status": "ready", "error": None}
NEAR_DEADLINE: Event = {"status": "near", "error": None}


def event(status: Literal["failed", "timeout"], error: str | None = None, *, retryable: bool = False) -> Event:
    """Return an event whose error is cut to a length that a person reads."""
    found: Event = {"status": status, "error": error[:_LONGEST_ERROR] if error else None}
    if retryable:
        found["retryable"] = True
    return found


@dataclass(slots=True)
class PollPlan:
    """Decides after each poll of one wait whether waiting ends, or how long to pause.

    Attributes:
        deadline: of the suspension.
        faults: polls in a row that met a passing fault.
        backoff: pause after the last of them.
    """

    suspension: Suspension
    faults: int = 0
    backoff: timedelta = timedelta(0)
    deadline: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = self.suspension.deadline

    def first_pause(self, now: datetime) -> float:
        """Seconds until the first poll."""
        return seconds_until(self.suspension.first_poll_at, now)

    def within_deadline(self, pause: float, now: datetime) -> float:
        """Seconds to sleep, so that the deadline itself gets a poll, and the time when it is near."""
        near_at = self.suspension.near_at
        if near_at is not None:
            pause = min(pause, seconds_until(near_at, now))
        return min(pause, seconds_until(self.deadline, now))

    def after_check(self, check: CompletionCheck[Any], now: datetime) -> Event | timedelta:
        """Decide after a poll that the stage answered."""
        self.faults = 0
        if check.error is not None:
            return event("failed", check.error)
        if check.is_ready:
            return READY
        if now >= self.deadline:
            return event("timeout")
        return self._near(now) or max(check.next_check_in or self.suspension.poll.interval, SHORTEST_POLL_PAUSE)

    def after_fault(self, error: Exception, now: datetime) -> Event | timedelta:
        """Decide after a poll that met a fault which may pass."""
        if isinstance(error, NotFound) and now > self.suspension.state.submitted_at + GONE_AFTER:
            return event("failed", str(error))
        if now >= self.deadline:
            return event("timeout", f"{type(error).__name__}: {error}")
        self.faults += 1
        return self._near(now) or self._backoff(error)

    def _near(self, now: datetime) -> Event | None:
        near_at = self.suspension.near_at
        return NEAR_DEADLINE if near_at is not None and now >= near_at else None

    def _backoff(self, error: Exception) -> timedelta:
        interval = self.suspension.poll.interval
        self.backoff = interval if self.faults == 1 else min(self.backoff * 2, max(LONGEST_POLL_PAUSE, interval))
        asked = getattr(error, "retry_after", None)
        return max(self.backoff, timedelta(seconds=asked)) if asked else self.backoff
