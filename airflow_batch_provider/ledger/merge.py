"""The best row of each request out of all waves, and the rows that the next wave asks; streaming, in the order asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.ledger.digest import Reasons
from airflow_batch_provider.ledger.requests import asked_digest
from airflow_batch_provider.ledger.sums import RowReasons, TokenCounts, kept_sums
from airflow_batch_provider.models import ErrorDigest, RowError, RowStatus, Usage
from airflow_batch_provider.pricing import Charge
from airflow_batch_provider.providers.room import most_output
from airflow_batch_provider.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.records import Plan, PlannedRow, Wave
    from airflow_batch_provider.ledger.sums import BatchSums
    from airflow_batch_provider.models import Cost
    from airflow_batch_provider.pricing import Bill
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.providers.codec import Codec

NOT_ASKED = RowError(code="not_asked", message="the task ended before this row was submitted", retryable=True)
TOO_DEAR = RowError(
    code="not_bought",
    message="the task's max_cost_usd, or a budget of its DAG run or connection, had no room for this row",
    retryable=True,
)

_COMPLAINT = (
    "Your answer does not have the required form: {problem}. Answer again, completely, and with nothing but JSON that "
    "fits the schema."
)

# What a row failed for may be a fault of reading: the answer may have been there, and paid.
_UNREADABLE = frozenset({"missing", "empty_answer", "unreadable_result"})


def planned_rows(files: TaskFiles, wave: Wave) -> Iterator[PlannedRow]:
    """Return the rows that a wave asks, in order."""
    for batch in files.batches(wave):
        yield from batch.planned_rows()


def landed_rows(files: TaskFiles, wave: Wave, absence: RowError = NOT_ASKED) -> Iterator[Row]:
    """Return one row per request of a wave, in order; `missing` where its batch has not landed.

    Args:
        absence: why.
    """
    for batch in files.batches(wave):
        if batch.has_landed():
            yield from batch.landed_rows()
            continue
        for row in batch.planned_rows():
            yield Row(custom_id=row.custom_id, index=row.index, status="missing", error=absence, wave=wave.number)


def best_rows(
    files: TaskFiles, waves: list[Wave], tally: Tally | None = None, absence: RowError = NOT_ASKED
) -> Iterator[Row]:
    """Return for every request its last good answer, or else its last row.

    Args:
        tally: counts every row that was asked, in whatever wave, and each best row.
        absence: why rows have not landed.
    """
    first, *later = waves
    streams = [_Peekable(landed_rows(files, wave, absence)) for wave in later]
    for best in landed_rows(files, first, absence):
        if tally:
            tally.asked(best)
        for stream in streams:
            row = stream.take(best.index)
            if row is None:
                continue
            if tally:
                tally.asked(row)
            best = _better(best, row)  # noqa: PLW2901 — the loop's row is only the first candidate
        if tally:
            tally.settled(best)
        yield best


def _better(known: Row, later: Row) -> Row:
    """Return the better of two rows of one request: a good answer, or else an answer, or else the later one.

    So a text that was cut off stays when the provider refuses to give it more room; it is then not asked again. What
    has not landed tells less than any row that has.
    """
    if later.error in (NOT_ASKED, TOO_DEAR):
        return known
    if _rank(later) >= _rank(known):
        return later
    refused = later.status != "succeeded" and not can_be_asked_again(later)
    if known.status == "succeeded" or not refused or known.error is None:
        return known
    return replace(known, error=replace(known.error, retryable=False))


def _rank(row: Row) -> int:
    return 2 if row.status == "succeeded" else int(row.has_output)


class _Peekable:
    """A stream of rows in order, from which the row of one index can be taken."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, index: int) -> Row | None:
        if self._next is None or self._next.index != index:
            return None
        row, self._next = self._next, next(self._rows, None)
        return row


def can_be_asked_again(row: Row) -> bool:
    """Tell whether the row has no good answer for a reason that may pass."""
    return row.status != "succeeded" and (row.error is None or row.error.retryable)


def unreadable_rows(files: TaskFiles, waves: list[Wave]) -> ErrorDigest | None:
    """Return why none of several requests has an answer that could be read, None when a single one says anything else.

    One row without a result is a passing fault; when all are, the server speaks a dialect that is not understood.
    """
    if any(sums.succeeded for sums in filter(None, map(kept_sums, files.batches(waves[0])))):
        return None
    tally = Tally()
    for best in best_rows(files, waves):
        if best.status == "succeeded" or best.error is None or best.error.code not in _UNREADABLE:
            return None
        tally.settled(best)
    return tally.digest if sum(tally.counts.values()) > 1 else None


def sums_of_only(files: TaskFiles, waves: list[Wave]) -> list[BatchSums] | None:
    """Return the sums of every batch where what landed is the results: all has, and nothing was asked again.

    None also where the sums of one of them are lost.
    """
    if len(waves) > 1:
        return None
    names = set(files.wave_directory(0).names())
    batches = list(files.batches(waves[0]))
    if not all(batch.has_landed(names) for batch in batches):
        return None
    sums = [one for one in map(kept_sums, batches) if one is not None]
    return sums if len(sums) == len(batches) else None


def is_answered(files: TaskFiles, waves: list[Wave]) -> bool:
    """Tell whether the sums say that no row of the only wave can be asked again; False where only the rows can tell."""
    sums = sums_of_only(files, waves)
    return sums is not None and not any(one.open for one in sums)


def rows_to_ask(files: TaskFiles, plan: Plan, waves: list[Wave], provider: BatchProvider) -> Iterator[PlannedRow]:
    """Return the rows of the next wave: those without a good answer that may get one."""
    better = _Better(provider.codec, most_output(plan.spec.model), 2 ** len(waves))
    for planned, best in zip(planned_rows(files, waves[0]), best_rows(files, waves), strict=True):
        if can_be_asked_again(best) and (row := better.asked(planned, best)):
            yield row


@dataclass(frozen=True)
class _Better:
    """How rows are asked again.

    Attributes:
        most: tokens that an answer of the model may have; None where that is not known.
        factor: times the room that the row was planned with.
    """

    codec: Codec
    most: int | None
    factor: int

    def asked(self, planned: PlannedRow, best: Row) -> PlannedRow | None:
        """Give a cut-off answer more room, None if there is none; show the model an answer that does not fit, and why."""
        cut_off = best.finish_reason == "max_tokens"
        unfit = best.status == "invalid" and best.has_output and best.error is not None
        if not cut_off and not unfit:
            return planned
        body = msgspec.json.decode(planned.body)
        again = self._longer(body, best) if cut_off else self._shown(body, best)
        if again is None:
            return None
        first = planned.first_asked or asked_digest(planned).hex()
        return replace(planned, body=msgspec.Raw(msgspec.json.encode(again)), first_asked=first)

    def _longer(self, body: dict[str, Any], best: Row) -> dict[str, Any] | None:
        room = self.codec.room(body)
        if room is None:
            return None
        wider = min(room * self.factor, self.most or room * self.factor)
        # An answer that was cut off has used all the room it had.
        return self.codec.with_room(body, wider) if wider > max(room, best.usage.output_tokens) else None

    def _shown(self, body: dict[str, Any], best: Row) -> dict[str, Any]:
        problem = best.error.message if best.error else ""
        return self.codec.reask(body, best.value, _COMPLAINT.format(problem=problem))


@dataclass
class Tally:
    """Sums over all rows of all waves, counted once.

    Attributes:
        counts: row status → number of requests, by the status of their best rows.
        open: number of requests without a good answer that may be asked again.
        bill: charges every row that was asked, in whatever wave; None counts tokens only.
    """

    counts: Counter[RowStatus] = field(default_factory=Counter)
    open: int = 0
    bill: Bill | None = None
    _charged: Charge = field(default_factory=Charge)
    _tokens: TokenCounts = field(default_factory=TokenCounts)
    _reasons: RowReasons = field(default_factory=RowReasons)

    def asked(self, row: Row) -> None:
        """Count the tokens of a row in one wave."""
        self._tokens.add(row.usage)
        if self.bill:
            self.bill.add(row.usage, row.model, realtime=row.batch_id is None)

    def settling(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Count rows that were never asked as they pass."""
        for row in rows:
            self.settled(row)
            yield row

    def settled(self, row: Row) -> None:
        """Count the best row of a request."""
        self.counts[row.status] += 1
        self.open += can_be_asked_again(row)
        if row.status != "succeeded":
            self._reasons.add(row)

    def take(self, sums: BatchSums) -> None:
        """Count all rows of a batch that was asked once, and is the best that there is."""
        self.counts.update(sums.rows)
        self.open += sums.open
        self._tokens.add(sums.usage)
        self._charged += sums.charge
        self._reasons.settled.merge(sums.settled)
        self._reasons.unsettled.merge(sums.unsettled)

    @property
    def usage(self) -> Usage:
        """Return the tokens of every answer of every wave: all that was paid."""
        return self._tokens.usage

    @property
    def cost(self) -> Cost:
        """Return what they cost."""
        return (self._charged + self.bill.charge if self.bill else self._charged).cost

    @property
    def digest(self) -> ErrorDigest:
        """Return the top reasons, most frequent first; of as frequent ones, those that no wave asks again."""
        reasons = Reasons()
        reasons.merge(self._reasons.settled.whole)
        reasons.merge(self._reasons.unsettled.whole)
        return reasons.digest()
