"""What all waves together say about each row, and which rows the next wave asks; streaming, in the order asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.exceptions import Unresolved
from airflow_batch_provider.ledger.claim_log import ClaimLog
from airflow_batch_provider.ledger.records import Plan, PlannedRow, Receipt, Wave
from airflow_batch_provider.models import BatchRow, ErrorDigest, ErrorReason, RowError, RowStatus, Usage
from airflow_batch_provider.records import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.records import Part
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.storage import Directory

NOT_ASKED = RowError(code="not_asked", message="the task ended before this row was submitted", retryable=True)

_COMPLAINT = (
    "Your answer does not have the required form: {problem}. Answer again, completely, and with nothing but JSON that "
    "fits the schema."
)
_TOP_REASONS = 5
_SAMPLES = 3
# More kinds of reasons than this are counted together, so that hostile messages cannot fill the memory.
_MOST_REASONS = 1000


def wave_directory(root: Directory, number: int) -> Directory:
    """Where a wave keeps its files."""
    return root.sub("waves").sub(str(number))


def read_waves(root: Directory) -> list[Wave]:
    """The waves that are sealed, in order."""
    plan = load(root, "plan.json", Plan)
    waves = [plan.first] if plan else []
    while plan and (wave := load(root, f"waves/{len(waves)}/wave.json", Wave)) and wave.nonce == plan.nonce:
        waves.append(wave)
    return waves


def stands(root: Directory, plan: Plan) -> bool:
    """True while this plan is the one on disk: another worker may have set it aside for other requests."""
    now = load(root, "plan.json", Plan)
    return now is not None and now.nonce == plan.nonce


def check_stands(root: Directory, plan: Plan) -> None:
    """The fence of a plan.

    Raises:
        Unresolved: another worker has set it aside.
    """
    if not stands(root, plan):
        raise overtaken(root)


def overtaken(root: Directory) -> Unresolved:
    """What ends a worker whose successor was given other requests."""
    return Unresolved(
        f"A worker that began later asks other requests in {root}. Nothing is to be done: that one goes on. If there is "
        "none, clear the task."
    )


def receipts(root: Directory, waves: list[Wave], *, unlanded: bool = False) -> list[Receipt]:
    """Every batch that was bought, oldest first; with `unlanded` only those whose rows are not here yet."""
    found: list[Receipt] = []
    for wave in waves:
        directory = wave_directory(root, wave.number)
        names = set(directory.names())
        for part in wave.parts:
            landed = part.rows_name in names
            if f"{part.name}.receipt.json" in names and not (unlanded and landed):
                receipt = load(directory, f"{part.name}.receipt.json", Receipt)
                found += [receipt] if receipt and wave.owns(receipt.tag) else []
    return found


def open_tag(root: Directory, plan: Plan, waves: list[Wave]) -> str | None:
    """The tag of a batch that was claimed and has neither landed nor failed as a whole, None when there is none."""
    for wave in waves:
        directory = wave_directory(root, wave.number)
        names = set(directory.names())
        for part in wave.parts:
            if f"{part.name}.claim.json" not in names or part.rows_name in names:
                continue
            claim = ClaimLog(directory, part.name).last()
            *voided, _ = plan.tags(wave.number, part.number, voids(part, names))
            if claim is not None and claim.tag not in voided:
                return claim.tag
    return None


def voids(part: Part, names: Iterable[str]) -> int:
    """How many batches of this part failed as a whole."""
    return sum(name.startswith(f"{part.name}.void-") for name in names)


def planned_rows(root: Directory, wave: Wave) -> Iterator[PlannedRow]:
    """The rows that a wave asks, in order."""
    directory = wave_directory(root, wave.number)
    decoder = msgspec.json.Decoder(PlannedRow)
    for part in wave.parts:
        for line in directory.lines(part.requests_name):
            yield decoder.decode(line)


def landed_rows(root: Directory, wave: Wave) -> Iterator[BatchRow]:
    """One row per request of a wave, in order; `missing` where its batch has not landed."""
    directory = wave_directory(root, wave.number)
    decoder = msgspec.json.Decoder(PlannedRow)
    for part in wave.parts:
        if directory.exists(part.rows_name):
            for line in directory.lines(part.rows_name):
                yield BatchRow.model_validate_json(line)
            continue
        for line in directory.lines(part.requests_name):
            row = decoder.decode(line)
            yield BatchRow(
                custom_id=row.custom_id, index=row.index, status="missing", error=NOT_ASKED, wave=wave.number
            )


def best_rows(root: Directory, waves: list[Wave], tally: Tally | None = None) -> Iterator[BatchRow]:
    """For every request its last good answer, or else what became of it last.

    Args:
        tally: counts every row that was asked, in whatever wave, and each best row.
    """
    first, *later = waves
    streams = [_Peekable(landed_rows(root, wave)) for wave in later]
    for best in landed_rows(root, first):
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
    """A stream of rows in order, of which the row of one index can be taken."""

    def __init__(self, rows: Iterator[BatchRow]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, index: int) -> BatchRow | None:
        if self._next is None or self._next.index != index:
            return None
        row, self._next = self._next, next(self._rows, None)
        return row


def can_be_asked_again(row: BatchRow) -> bool:
    """True when the row has no good answer for a reason that may pass."""
    return row.status != "succeeded" and (row.error is None or row.error.retryable)


def rows_to_ask(root: Directory, waves: list[Wave], provider: BatchProvider) -> Iterator[PlannedRow]:
    """The rows of the next wave: those without a good answer that may get one."""
    for planned, best in zip(planned_rows(root, waves[0]), best_rows(root, waves), strict=True):
        if can_be_asked_again(best):
            yield _asked_better(planned, best, provider, factor=2 ** len(waves))


def _asked_better(planned: PlannedRow, best: BatchRow, provider: BatchProvider, factor: int) -> PlannedRow:
    """A cut-off answer gets more room; one that does not fit is shown to the model with what is wrong with it."""
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
        counts: row status → number of requests, by what finally became of them.
        open: number of requests without a good answer that may be asked again.
    """

    counts: Counter[RowStatus] = field(default_factory=Counter)
    open: int = 0
    _tokens: Counter[str] = field(default_factory=Counter)
    _reasons: dict[tuple[str, str], _Reason] = field(default_factory=dict)

    def asked(self, row: BatchRow) -> None:
        """Count what a row cost in one wave."""
        for name in Usage.model_fields:
            self._tokens[name] += getattr(row.usage, name)

    def settled(self, row: BatchRow) -> None:
        """Count what finally became of a request."""
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
        """Tokens of every answer of every wave: all that was paid."""
        return Usage(**self._tokens)

    @property
    def digest(self) -> ErrorDigest:
        """The top reasons, most frequent first."""
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
