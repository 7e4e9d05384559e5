"""The progress of a waiting task for people: one small record, the contract of the XCom `batch_progress`; see docs/monitoring.md."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import AwareDatetime

from airflow_batch_provider.exceptions import BatchError, Denied, Overdue, Paused, Unresolved
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import BatchState, Cost, ErrorDigest, ErrorReason, RequestCounts, RowStatus, Usage

ProgressState: TypeAlias = Literal[
    "submitting", "waiting", "succeeded", "unmet", "overdue", "paused", "unresolved", "denied", "failed"
]

# The record stays small, however many batches there are and whatever a provider says.
MOST_BATCHES = 20
LONGEST_TEXT = 300
_LONGEST_ACTION = 1500
_LONGEST_KEY = 80


class ShownCounts(RequestCounts):
    """How many requests of the whole task are over.

    Attributes:
        done: those with a good answer and those that failed; a row that is asked again is not done.
    """

    done: int = 0


class ShownBatch(FrozenModel):
    """One batch, at the provider or landed.

    Attributes:
        wave: from 0.
        state: in our words; None while the provider does not show it, and of a batch that has landed.
        succeeded: requests with a good answer; of an open batch as many as the provider tells.
        failed: requests that are over without one; of an open batch as many as the provider tells.
        submitted_at: its age counts from here.
        url: the provider's console, None where there is none.
    """

    batch_id: str
    wave: int = 0
    state: BatchState | None = None
    requests: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    submitted_at: AwareDatetime | None = None
    url: str | None = None


class ShownBudget(FrozenModel):
    """One budget that the task must keep to.

    Attributes:
        name: the DAG run, or the connection and its month.
        spent_usd: what all batches that count for it have cost, whoever bought them.
        reserved_usd: the most that those may cost which have not landed.
    """

    name: str
    limit_usd: float
    spent_usd: float
    reserved_usd: float


class Progress(FrozenModel):
    """How far a task is, or what became of its attempt.

    Attributes:
        state: `submitting` and `waiting` go on; the others are the end of an attempt.
        message: one sentence for people.
        progress: percent of the requests that are done, 0 to 100.
        wave: 0 asks every row, a later one those without a good answer.
        counts: over all chunks and waves of the task.
        rows: row status → number, at the end of an attempt.
        batches: open ones, oldest first, at most `MOST_BATCHES`.
        landed: batches whose answers are in storage, the latest, oldest first, at most `MOST_BATCHES`.
        open_batches: number of batches at the provider.
        queued_batches: number of batches that wait for a place there.
        landed_batches: number of batches whose answers are in storage.
        started_at: when the deadline began to count.
        seen_at: when this was true; changes with every record.
        pace: a sentence on speed and expected end, which changes with every record.
        usage: tokens of all answers that have landed.
        estimate: at most so much for the first wave, from before it was bought.
        budgets: those that the task must keep to.
        errors: why rows have no good answer so far.
        asked_again: why the wave asks its rows again.
        results: where the rows are, once they are written.
        next_action: what a person has to do; None when nothing.
    """

    schema_version: Literal[1] = 1
    stage: str
    provider: str
    model: str
    state: ProgressState
    message: str
    progress: float = 0.0
    wave: int = 0
    counts: ShownCounts = ShownCounts()
    rows: dict[RowStatus, int] | None = None
    batches: tuple[ShownBatch, ...] = ()
    landed: tuple[ShownBatch, ...] = ()
    open_batches: int = 0
    queued_batches: int = 0
    landed_batches: int = 0
    started_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    seen_at: AwareDatetime
    pace: str | None = None
    usage: Usage = Usage()
    cost: Cost = Cost()
    estimate: Cost = Cost()
    budgets: tuple[ShownBudget, ...] = ()
    errors: ErrorDigest = ErrorDigest()
    asked_again: ErrorDigest = ErrorDigest()
    results: str | None = None
    next_action: str | None = None

    def record(self) -> dict[str, object]:
        """Return plain JSON."""
        return self.model_dump(mode="json")


_STATES: tuple[tuple[type[BatchError], ProgressState], ...] = (
    (Overdue, "overdue"),
    (Paused, "paused"),
    (Unresolved, "unresolved"),
    (Denied, "denied"),
)


def state_of(error: BatchError) -> ProgressState:
    """Return the state of an attempt that an error ends."""
    return next((state for of, state in _STATES if isinstance(error, of)), "failed")


def one_line(error: object) -> str:
    """Return a message as one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST_ACTION]


def shortened(digest: ErrorDigest) -> ErrorDigest:
    """Return a digest whose words are of bounded length."""
    return ErrorDigest(
        reasons=tuple(
            ErrorReason(
                code=reason.code[:_LONGEST_KEY],
                message=one_line(reason.message)[:LONGEST_TEXT],
                count=reason.count,
                sample=tuple(key[:_LONGEST_KEY] for key in reason.sample),
            )
            for reason in digest.reasons[:5]
        )
    )
