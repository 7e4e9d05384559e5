"""How far a task is: sums over the rows that have landed, kept in one small file so that no row is read twice for them.

They are for the people who wait, and for the limit on what a task may cost. A file that is lost or damaged is made
again from the sums that each batch keeps, or from its rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from pydantic import AwareDatetime, ValidationError

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import LANDED
from airflow_batch_provider.ledger.digest import Reasons
from airflow_batch_provider.ledger.sums import BatchSums, Summing, kept_sums
from airflow_batch_provider.models import Cost, ErrorDigest, RequestCounts, RowError, Usage
from airflow_batch_provider.records import save
from airflow_batch_provider.rows import Row, decode_row
from airflow_batch_provider.signals import BatchLanded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Plan, Receipt, Wave
    from airflow_batch_provider.pricing import Bill
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

_MOST_KEPT = 20


class LandedBatch(FrozenModel):
    """The outcome of one landed batch.

    Attributes:
        wave: from 0.
        requests: rows that it asked.
        succeeded: those of them with a good answer.
    """

    batch_id: str
    wave: int
    requests: int
    succeeded: int
    submitted_at: AwareDatetime


class LandedRows(FrozenModel):
    """Sums over all rows of all waves that have landed.

    A row that is asked again had no good answer before, so good answers add up over the waves; the others are those
    that no wave asks again, and those of the last wave.

    Attributes:
        nonce: of the plan; sums of another plan do not count.
        requests: rows of the task, without copies of others.
        wave: the last one, from 0.
        asked: rows that the last wave asks.
        landed: rows of the last wave that are here.
        batches: names of the row files that are counted.
        batch_ids: their batches at the provider.
        latest: the batches that landed last, oldest first, at most `_MOST_KEPT`.
        succeeded: requests that have a good answer.
        cut_off: those of them that end at `max_tokens`.
        usage: tokens of all answers.
        answers: rows that used output tokens, good or not.
        longest: output tokens of the longest of them.
        ended_early: those of them that end at `max_tokens`, good or not.
        cost: of all answers, each row at its own price.
        settled: reasons of the rows that no wave asks again.
        unsettled: reasons of the rows of the last wave that another one may ask again.
        asked_again: reasons why the last wave asks its rows again.
        estimate: of the first wave, made before anything was bought.
    """

    nonce: str
    requests: int
    wave: int = 0
    asked: int = 0
    landed: int = 0
    batches: tuple[str, ...] = ()
    batch_ids: tuple[str, ...] = ()
    latest: tuple[LandedBatch, ...] = ()
    succeeded: int = 0
    cut_off: int = 0
    usage: Usage = Usage()
    answers: int = 0
    longest: int = 0
    ended_early: int = 0
    cost: Cost = Cost(usd=0.0)
    settled: ErrorDigest = ErrorDigest()
    unsettled: ErrorDigest = ErrorDigest()
    asked_again: ErrorDigest = ErrorDigest()
    estimate: Cost = Cost()

    @property
    def counts(self) -> RequestCounts:
        """Return how many requests of the whole task are over: good answers, and rows that were given up for now."""
        done = self.requests - max(self.asked - self.landed, 0)
        return RequestCounts(total=self.requests, succeeded=self.succeeded, failed=max(done - self.succeeded, 0))

    @property
    def errors(self) -> ErrorDigest:
        """Return the top reasons of the rows that have no good answer."""
        reasons = Reasons()
        reasons.merge(self.settled)
        reasons.merge(self.unsettled)
        return reasons.digest()


def count_landed(context: LedgerContext, plan: Plan, waves: Sequence[Wave], estimate: Cost | None = None) -> LandedRows:
    """Return the sums, with the rows that landed since they were kept last; of these the context's observer is told.

    It is told when the new sums are kept: after a kill before that, the next process tells it.

    Args:
        estimate: kept with the sums; None leaves it as it was.
    """
    root = context.root
    kept = landed_so_far(root, plan.nonce)
    sums = kept or LandedRows(nonce=plan.nonce, requests=plan.originals)
    if not _are_there(sums, context):  # a person lets the answers be read again
        sums = LandedRows(nonce=plan.nonce, requests=plan.originals, estimate=sums.estimate)
    news: list[BatchLanded] = []
    for wave in waves[sums.wave :]:
        sums = _in_wave(sums, wave)
        for one in _fresh(sums, context, plan, wave):
            sums = _with_batch(sums, one)
            news += _news(one, context, plan)
    if estimate is not None:
        sums = sums.model_copy(update={"estimate": estimate})
    if sums != kept and _keep(root, sums):
        for landed in news:
            context.signals.landed(landed)
    return sums


def landed_so_far(root: Directory, nonce: str | None = None) -> LandedRows | None:
    """Return the sums as they were kept, None when there are none of this plan; with None, of any."""
    data = root.read(LANDED)
    if data is None:
        return None
    try:
        sums = LandedRows.model_validate_json(data)
    except ValidationError:
        log.debug("%s cannot be read and is counted again", root.uri(LANDED), exc_info=True)
        return None
    return sums if nonce in (None, sums.nonce) else None


def _keep(root: Directory, sums: LandedRows) -> bool:
    """Keep the sums; False when that failed, which stops nothing."""
    try:
        save(root, LANDED, sums)
    except Exception:  # the errors of object stores have no common class
        log.debug("%s was not written; the rows are counted again next time", root.uri(LANDED), exc_info=True)
        return False
    return True


def _are_there(sums: LandedRows, context: LedgerContext) -> bool:
    """Tell whether every row file that is counted is still there."""
    waves = {name.partition("/")[0] for name in sums.batches}
    there = {f"{wave}/{name}" for wave in waves for name in context.files.wave_directory(int(wave)).names()}
    return there.issuperset(sums.batches)


def name_of(wave: Wave, batch: BatchFiles) -> str:
    return f"{wave.number}/{batch.rows_name}"


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """One landed batch.

    Attributes:
        name: of its row file.
        realtime: its rows may have been asked by single calls.
    """

    wave: int
    name: str
    receipt: Receipt | None
    sums: BatchSums
    realtime: bool = False


def _fresh(sums: LandedRows, context: LedgerContext, plan: Plan, wave: Wave) -> Iterator[_Counted]:
    """Yield every batch of a wave that has landed and is not in the sums."""
    names = set(context.files.wave_directory(wave.number).names())
    for batch in context.files.batches(wave):
        name = name_of(wave, batch)
        if batch.has_landed(names) and name not in sums.batches:
            one = _sums_of(batch, context.bill(plan.spec))
            receipt = batch.receipt()
            yield _Counted(wave=wave.number, name=name, receipt=receipt, sums=one, realtime=batch.realtime)


def _sums_of(batch: BatchFiles, bill: Bill) -> BatchSums:
    """Return the sums that were kept with the rows; counted again where there are none, or were other prices."""
    kept = kept_sums(batch)
    if kept is not None and kept.prices == bill.prices:
        return kept
    summing = Summing(bill)
    for row in _rows(batch):
        summing.add(row)
    return summing.sums()


def _in_wave(sums: LandedRows, wave: Wave) -> LandedRows:
    if wave.number != sums.wave:
        over = {"asked_again": sums.unsettled, "unsettled": ErrorDigest(), "landed": 0}
        sums = sums.model_copy(update={"wave": wave.number, **over})
    return sums.model_copy(update={"asked": wave.requests})


def _with_batch(sums: LandedRows, one: _Counted) -> LandedRows:
    batch = one.sums
    return sums.model_copy(
        update={
            "landed": sums.landed + batch.landed,
            "batches": (*sums.batches, one.name),
            "batch_ids": (*sums.batch_ids, *([one.receipt.batch_id] if one.receipt else [])),
            "latest": (*sums.latest, *_landed_batch(one))[-_MOST_KEPT:],
            "succeeded": sums.succeeded + batch.succeeded,
            "cut_off": sums.cut_off + batch.cut_off,
            "usage": sums.usage + batch.usage,
            "answers": sums.answers + batch.answers,
            "longest": max(sums.longest, batch.longest),
            "ended_early": sums.ended_early + batch.ended_early,
            "cost": _sum(sums.cost, batch.charge.cost),
            "settled": _merged(sums.settled, batch.settled),
            "unsettled": _merged(sums.unsettled, batch.unsettled),
        }
    )


def _merged(kept: ErrorDigest, fresh: ErrorDigest) -> ErrorDigest:
    reasons = Reasons()
    reasons.merge(kept)
    reasons.merge(fresh)
    return reasons.digest(_MOST_KEPT)


def _landed_batch(one: _Counted) -> tuple[LandedBatch, ...]:
    if one.receipt is None:
        return ()
    batch = LandedBatch(
        batch_id=one.receipt.batch_id,
        wave=one.wave,
        requests=one.sums.landed,
        succeeded=one.sums.succeeded,
        submitted_at=one.receipt.submitted_at,
    )
    return (batch,)


def _news(one: _Counted, context: LedgerContext, plan: Plan) -> tuple[BatchLanded, ...]:
    if one.receipt is None and not one.realtime:
        return ()
    now = context.clock.now()
    news = BatchLanded(
        provider=plan.provider,
        model=plan.spec.model,
        kind=plan.spec.kind,
        batch_id=one.receipt.batch_id if one.receipt else "",
        wave=one.wave,
        rows=one.sums.rows,
        usage=one.sums.usage,
        cost=one.sums.charge.cost,
        bought_at=one.receipt.submitted_at if one.receipt else now,
        landed_at=now,
        traceparent=one.receipt.traceparent if one.receipt else context.signals.traceparent(),
    )
    return (news,)


def _rows(batch: BatchFiles) -> Iterator[Row]:
    return map(_row, batch.directory.lines(batch.rows_name))


def _row(line: bytes) -> Row:
    try:
        return decode_row(line)
    except (msgspec.DecodeError, RecursionError):
        error = RowError(code="unreadable", message="the landed row cannot be read", retryable=True)
        return Row(custom_id="", index=0, status="failed", error=error)


def _sum(one: Cost, other: Cost) -> Cost:
    """Return two costs as one; without a price where one of them has none."""
    saved = None if other.saved_usd is None else (one.saved_usd or 0.0) + other.saved_usd
    return other.model_copy(
        update={
            "usd": None if one.usd is None or other.usd is None else round(one.usd + other.usd, 6),
            "saved_usd": saved,
            "unpriced": tuple(sorted({*one.unpriced, *other.unpriced})),
        }
    )
