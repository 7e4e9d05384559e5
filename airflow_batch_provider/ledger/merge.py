"""The best row of each request out of all waves, and the rows that the next wave asks; streaming, in the order asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.models import BatchRow, ErrorDigest, ErrorReason, RowError, RowStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.records import PlannedRow, Wave
    from airflow_batch_provider.providers.base import BatchProvider

NOT_ASKED = RowError(code="not_asked", message="the task ended before this row was submitted", retryable=True)

_COMPLAINT = (
    "Your answer does not have the required form: {problem}. Answer again, completely, and with nothing but JSON that "
    "fits the schema."
)
_TOP_REASONS = 5
_SAMPLES = 3
# More kinds of reasons than this are counted together, so that hostile messages cannot fill the memory.
_MOST_REASONS = 1000


def planned_rows(files: TaskFiles, wave: Wave) -> Iterator[PlannedRow]:
    """Return the rows that a wave asks, in order."""
    for batch in files.batches(wave):
        yield from batch.planned_rows()


def landed_rows(files: TaskFiles, wave: Wave) -> Iterator[BatchRow]:
    """Return one row per request of a wave, in order; `missing` where its batch has not landed."""
    for batch in files.batches(wave):
        if batch.has_landed():
            yield from batch.landed_rows()
            continue
        for row in batch.planned_rows():
            yield BatchRow(
                custom_id=row.custom_id, index=row.index, status="missing", error=NOT_ASKED, wave=wave.number
            )


def best_rows(files: TaskFiles, waves: list[Wave], tally: Tally | None = None) -> Iterator[BatchRow]:
    """Return for every request its last good answer, or else its last row.

    Args:
        tally: counts every row that was asked, in whatever wave, and each best row.
    """
    first, *later = waves
    streams = [_Peekable(landed_rows(files, wave)) for wave in later]
    for best in landed_rows(files, first):
        if tally:
            tally.asked(best)
        for stream in streams:
            row = stream.take(best.index)
            if row is None:
                continue
            if tally:
                tally.asked(row)
            if row.status == "succeeded" or best.status != "succeeded":
                best = row  # noqa: PLW2901 — the loop's row is only the first candidate
        if tally:
            tally.settled(best)
        yield best


class _Peekable:
    """A stream of rows in order, from which the row of one index can be taken."""

    def __init__(self, rows: Iterator[BatchRow]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, index: int) -> BatchRow | None:
        if self._next is None or self._next.index != index:
            return None
        row, self._next = self._next, next(self._rows, None)
        return row


def can_be_asked_again(row: BatchRow) -> bool:
    """Tell whether the row has no good answer for a reason that may pass."""
    return row.status != "succeeded" and (row.error is None or row.error.retryable)


def rows_to_ask(files: TaskFiles, waves: list[Wave], provider: BatchProvider) -> Iterator[PlannedRow]:
    """Return the rows of the next wave: those without a good answer that may get one."""
    for planned, best in zip(planned_rows(files, waves[0]), best_rows(files, waves), strict=True):
        if can_be_asked_again(best):
            yield _asked_better(planned, best, provider, factor=2 ** len(waves))


def _asked_better(planned: PlannedRow, best: BatchRow, provider: BatchProvider, factor: int) -> PlannedRow:
    """Give a cut-off answer more room; show the model an answer that does not fit, with the problem."""
    cut_off = best.finish_reason == "max_tokens"
    unfit = best.status == "invalid" and isinstance(best.output, str) and best.error is not None
    if not cut_off and not unfit:
        return planned
    body = msgspec.json.decode(planned.body)
    if cut_off:
        body = provider.codec.lengthen(body, factor)
    elif unfit and best.error is not None:
        body = provider.codec.reask(body, best.output, _COMPLAINT.format(problem=best.error.message))
    return msgspec.structs.replace(planned, body=msgspec.Raw(msgspec.json.encode(body)))


@dataclass
class Tally:
    """Sums over all rows of all waves, counted once.

    Attributes:
        counts: row status → number of requests, by the status of their best rows.
        open: number of requests without a good answer that may be asked again.
    """

    counts: Counter[RowStatus] = field(default_factory=Counter)
    open: int = 0
    _tokens: Counter[str] = field(default_factory=Counter)
    _reasons: dict[tuple[str, str], _Reason] = field(default_factory=dict)

    def asked(self, row: BatchRow) -> None:
        """Count the tokens of a row in one wave."""
        for name in Usage.model_fields:
            self._tokens[name] += getattr(row.usage, name)

    def settled(self, row: BatchRow) -> None:
        """Count the best row of a request."""
        self.counts[row.status] += 1
        self.open += can_be_asked_again(row)
        if row.status == "succeeded":
            return
        error = row.error or RowError(code=row.status, message="no reason was given", retryable=True)
        key = (error.code, error.message[:200])
        if key not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            key = ("other", "further reasons")
        self._reasons.setdefault(key, _Reason()).add(row.custom_id)

    @property
    def usage(self) -> Usage:
        """Return the tokens of every answer of every wave: all that was paid."""
        return Usage(**self._tokens)

    @property
    def digest(self) -> ErrorDigest:
        """Return the top reasons, most frequent first."""
        top = sorted(self._reasons.items(), key=lambda item: -item[1].count)[:_TOP_REASONS]
        return ErrorDigest(
            reasons=tuple(
                ErrorReason(code=code, message=message, count=reason.count, sample=tuple(reason.sample))
                for (code, message), reason in top
            )
        )


@dataclass
class _Reason:
    count: int = 0
    sample: list[str] = field(default_factory=list)

    def add(self, custom_id: str) -> None:
        self.count += 1
        if len(self.sample) < _SAMPLES:
            self.sample.append(custom_id)
