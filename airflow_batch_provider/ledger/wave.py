"""One wave on its way: land what has ended, submit what has a place; its progress is read from the files."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import (
    BatchError,
    OverBudget,
    Paused,
    Rejected,
    Unavailable,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.ledger.batch import BatchToBuy
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.budget_check import budgets_of
from airflow_batch_provider.ledger.gate import Gate
from airflow_batch_provider.ledger.landing import ForeignBatch, Landing, NotSentYet, land
from airflow_batch_provider.ledger.records import Chunk, FailedBatch, Plan, Receipt, Wave
from airflow_batch_provider.ledger.retry import RetryBudget
from airflow_batch_provider.ledger.settlement import Settlement
from airflow_batch_provider.ledger.side_by_side import side_by_side
from airflow_batch_provider.ledger.submit import submit_once
from airflow_batch_provider.providers.listing import whole
from airflow_batch_provider.timing import COME_BACK, GONE_AFTER, LONGEST_RESUBMIT_DELAY, RESUBMIT_DELAY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from airflow_batch_provider.ledger.canary import Canary
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.places import PlaceWait

log = logging.getLogger(__name__)

_UPLOADS = 2
"""Batches of one task that are uploaded and created at once; each is on the worker's disk meanwhile, up to 200 MB."""


@dataclass
class WaveProgress:
    """How far the chunks of a wave are; those that have landed are not in it.

    Attributes:
        queued: chunks that wait for a place at the provider.
        delayed: chunks whose batch failed as a whole and which are not due yet.
        resume_at: when to come back although no batch ended.
        must_wait: True when coming back earlier cannot help, even if a batch ends: the provider asked for time.
        withheld: queued rows that are not bought because of their cost.
        canary: the one for whose failure the queued chunks are not bought.
        place: what the first queued chunk waits for, where other tasks have all places at the provider.
    """

    in_flight: list[tuple[Chunk, Receipt]] = field(default_factory=list)
    queued: list[Chunk] = field(default_factory=list)
    delayed: list[FailedBatch] = field(default_factory=list)
    resume_at: datetime | None = None
    must_wait: bool = False
    withheld: Withheld | None = None
    canary: Canary | None = None
    place: PlaceWait | None = None

    @property
    def is_done(self) -> bool:
        """Tell whether every chunk has landed, or those that have not are not bought in this attempt."""
        is_held = self.withheld is not None or self.canary is not None
        return not (self.in_flight or self.delayed) and (is_held or not self.queued)

    @property
    def must_return(self) -> bool:
        """Tell whether the worker must come back by itself: a chunk is queued, and nothing that is waited for wakes it."""
        wakes = self.in_flight or self.place is not None or self.resume_at is not None
        return bool(self.queued) and not wakes and not self.is_done

    @property
    def receipts(self) -> list[Receipt]:
        """Return the batches at the provider."""
        return [receipt for _, receipt in self.in_flight]


@dataclass(frozen=True)
class _Ended:
    """A batch that has ended and has not landed."""

    files: BatchFiles
    receipt: Receipt
    status: BatchStatus


class WaveRun:
    """The batches of one wave.

    Args:
        waves: all waves up to this one, which is the last.
    """

    def __init__(self, context: LedgerContext, plan: Plan, waves: list[Wave]) -> None:
        self._context = context
        self._plan = plan
        self._waves = waves
        self._wave = waves[-1]
        self._directory = context.files.wave_directory(self._wave.number)
        # One batch is packed while another is uploaded: two at once would be no sooner (Python runs one), and in any order.
        self._pack_turn = asyncio.Lock()

    async def drive(self) -> WaveProgress:
        """Land and submit until the provider refuses; after a passing fault, say when to come back."""
        try:
            late_at = await self.land_ended()
            gate = await self._submit_queued()
        except Unavailable as error:
            progress = self.progress()
            progress.must_wait = True
            progress.resume_at = self._context.clock.now() + _pause(error)
            name = self._context.provider.name
            log.warning("%s does not answer now: %s Coming back at %s.", name, error, progress.resume_at)
            return progress
        progress = self.progress()
        progress.withheld, progress.canary, progress.place = gate.withheld, gate.canary, gate.place
        if late_at is not None:
            progress.must_wait, progress.resume_at = True, late_at
        elif progress.must_return:
            progress.resume_at = self._context.clock.now()  # its delay has just ended, and no batch would wake us
        return progress

    def progress(self) -> WaveProgress:
        """Read from the files how far the chunks are."""
        names = set(self._directory.names())
        progress = WaveProgress()
        for chunk in self._wave.chunks:
            files = BatchFiles.of(self._directory, chunk)
            if files.has_landed(names):
                continue
            receipt = self._receipt(files) if files.has_receipt(names) else None
            failed = files.failure(files.failures(names))
            if receipt is not None:
                progress.in_flight.append((chunk, receipt))
            elif failed is not None and failed.again_at > self._context.clock.now():
                progress.delayed.append(failed)
            else:
                progress.queued.append(chunk)
        progress.resume_at = min((failed.again_at for failed in progress.delayed), default=None)
        return progress

    def _receipt(self, files: BatchFiles) -> Receipt | None:
        receipt = files.receipt()
        return receipt if receipt and self._wave.owns(receipt.tag) else None

    # to the provider

    async def _submit_queued(self) -> Gate:
        """Buy the chunks that have no receipt, in order, as far as the gate and the deployment's budgets admit them."""
        context, progress = self._context, self.progress()
        gate = Gate(context, self._plan, self._waves, [chunk for chunk, _ in progress.in_flight])
        submits = (self._submit(gate, queued) for queued in gate.admitted(progress.queued))
        await side_by_side(submits, self._most_at_once)
        return gate

    @property
    def _most_at_once(self) -> int:
        """How many submits may be under way at once.

        Without tags one: what is seen after a lost reply can then only be the last one. One, too, where budgets are asked about
        each: the one that they refuse says how many rows are withheld.
        """
        return _UPLOADS if self._context.provider.keeps_tags and not budgets_of(self._context) else 1

    async def _submit(self, gate: Gate, queued: Sequence[Chunk]) -> None:
        """Buy the first of these chunks."""
        self._context.files.start_clock(self._context.clock.now())
        try:
            await self._bought(self._batch(queued[0], self._directory.names()))
        except OverBudget as error:
            gate.refuse(queued, error)

    async def _bought(self, batch: BatchToBuy) -> None:
        try:
            await submit_once(batch)
        except (Rejected, Paused, UsageError):  # surely not bought, and nobody comes back for it by himself
            self._leave_place(batch.tag)
            raise

    def _leave_place(self, tag: str) -> None:
        """Let another task have the place of a batch."""
        places = self._context.places(self._plan.spec.model)
        if places is not None:
            places.leave(tag)

    def _batch(self, chunk: Chunk, names: Collection[str]) -> BatchToBuy:
        failed = BatchFiles.of(self._directory, chunk).failures(names)
        waves = tuple(self._waves)
        return BatchToBuy(
            context=self._context, plan=self._plan, waves=waves, chunk=chunk, failed=failed, pack_turn=self._pack_turn
        )

    # from the provider

    async def land_ended(self) -> datetime | None:
        """Land every batch that has ended; queue the chunk of one that failed as a whole again.

        Returns:
            When to come back for one that has ended and does not send all its answers yet.
        """
        ended: list[_Ended] = []
        in_flight = (await asyncio.to_thread(self.progress)).in_flight
        if not in_flight:
            return None
        await asyncio.to_thread(self._end_submits, [receipt for _, receipt in in_flight])
        statuses = await self._context.provider.statuses([receipt.batch_id for _, receipt in in_flight])
        for chunk, receipt in in_flight:
            status = statuses.get(receipt.batch_id)
            files = BatchFiles.of(self._directory, chunk)
            if status is None:
                self._check_visible(files, receipt)
            elif isinstance(status, BatchError):
                continue  # raised below, after its neighbours have landed
            elif status.status == "failed" and status.retryable:
                await asyncio.to_thread(self._queue_again, files, receipt, status)
                await clean_up(self._context, receipt.batch_id)
            elif status.ended:
                ended.append(_Ended(files, receipt, status))
        late_at = await self._land_all(ended)
        _check_paid(whole(statuses).values())
        return late_at

    def _check_visible(self, files: BatchFiles, receipt: Receipt) -> None:
        """Stop at a batch that is gone; one that is not there just after its create is only not visible yet."""
        if self._context.provider_now() - receipt.bought_at <= GONE_AFTER:
            return
        again = (
            f"delete {files.receipt_uri} and {files.claim_pattern}"
            if self._context.registry is None
            else f"airflow batches absent {receipt.tag}"
        )
        raise Unresolved(
            f"{self._context.provider.name} does not know batch {receipt.batch_id!r}, bought "
            f"{receipt.submitted_at:%F %T}. Check that the connection has the same account as then; to buy its rows "
            f"again: {again}, then clear the task."
        )

    def _end_submits(self, receipts: list[Receipt]) -> None:
        """Let others submit where a worker was killed between its receipt and the release of its submit lock."""
        registry, provider = self._context.registry, self._context.provider
        if registry is not None and not provider.keeps_tags:
            registry.end_submit(provider.account, {receipt.tag for receipt in receipts})

    async def _land_all(self, ended: list[_Ended]) -> datetime | None:
        """Land the batches one after the other, and those whose results broke off again after the others.

        Returns:
            When to come back for one that does not send all its answers yet.

        Raises:
            Unavailable: results broke off each time for as long as a worker waits; the others have landed.
        """
        late_at: datetime | None = None
        budget = RetryBudget(self._context.provider.name, self._context.clock)
        while ended:
            broken: list[_Ended] = []
            fault: Unavailable | None = None
            for one in ended:
                try:
                    late_at = await self._land(one) or late_at
                except Unavailable as error:
                    broken.append(one)
                    fault = error
            if fault is not None:
                await budget.wait(fault)
            ended = broken
        return late_at

    async def _land(self, ended: _Ended) -> datetime | None:
        """Land one ended batch, or say when to try again; one that is somebody else's is searched for again."""
        context, files, receipt, status = self._context, ended.files, ended.receipt, ended.status
        spec = self._plan.spec
        landing = Landing(
            files,
            self._wave.number,
            receipt,
            spec,
            context.policy.retry_truncated,
            context.answers(spec),
            Settlement(context, self._plan, receipt, files),
        )
        try:
            counts = await land(landing, context.provider, status, context.provider_now())
        except ForeignBatch:
            log.warning("Batch %s is not ours after all: looking for %s again.", receipt.batch_id, receipt.tag)
            await asyncio.to_thread(files.delete_receipt)  # the claim stays: ours may have become visible since
            await asyncio.to_thread(self._unregister_batch, receipt)
            return None
        except NotSentYet as error:
            log.warning("%s", error)
            return context.clock.now() + _pause(error)
        await asyncio.to_thread(self._unregister, receipt)
        if context.row_cache is not None:
            await asyncio.to_thread(context.row_cache.keep, files, receipt.requests, receipt.tag)
        said = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
        log.info("Landed batch %s (%s): %s.", receipt.batch_id, status.status, said)
        return None

    def _queue_again(self, files: BatchFiles, receipt: Receipt, status: BatchStatus) -> None:
        """Queue the chunk of a batch that failed as a whole, unbilled, again, after a delay that grows."""
        current = self._receipt(files)
        if current is None or current.batch_id != receipt.batch_id:
            return  # another worker did it already, and may have bought the chunk since
        last = files.failures(files.names())
        known = files.failure(last)
        if known is None or known.batch_id != receipt.batch_id:  # no worker died right after this
            delay = min(RESUBMIT_DELAY * 2 ** min(last, 10), LONGEST_RESUBMIT_DELAY)
            again_at = self._context.clock.now() + delay
            log.warning("Batch %s failed: %s It is submitted again at %s.", receipt.batch_id, status.error, again_at)
            failed = FailedBatch(batch_id=receipt.batch_id, reason=status.error or "", again_at=again_at)
            files.add_failure(last + 1, failed)
        # Before the receipt goes: whoever dies in between comes here again, and no budget counts the batch for ever.
        if self._context.registry is not None:
            self._context.registry.withdraw(receipt.tag)
            self._leave_place(receipt.tag)
        # The claim stays until the next one replaces it: by now that may be another worker's, and must not get lost.
        files.delete_receipt()

    def _unregister(self, receipt: Receipt) -> None:
        if self._context.registry is not None:
            self._context.registry.leave(receipt.tag)
            self._leave_place(receipt.tag)

    def _unregister_batch(self, receipt: Receipt) -> None:
        """Note that the deployment still has a claimed batch under this tag, but not this one."""
        registry = self._context.registry
        if registry is not None and (entry := registry.get(receipt.tag)):
            registry.enter(entry.model_copy(update={"batch_id": None, "tentative": False}))


def _pause(error: Unavailable) -> timedelta:
    return timedelta(seconds=error.retry_after) if error.retry_after else COME_BACK


def _check_paid(statuses: Iterable[BatchStatus]) -> None:
    """Stop until somebody pays; the next attempt buys the batches that failed for lack of credit."""
    for status in statuses:
        if status.unpaid:
            raise Paused(
                f"Batch {status.batch_id} failed for lack of credit, and nothing of it ran: {status.error} Pay at the "
                "provider, then clear the task: it buys what is left."
            )


async def clean_up(context: LedgerContext, batch_id: str) -> None:
    """Delete the files that the provider keeps of a batch that is no longer needed; only log a failure."""
    if not context.policy.clean_up:
        return
    try:
        await context.provider.clean_up(batch_id)
    except Exception as error:  # noqa: BLE001 — the answers are safe; left-over files only cost storage
        log.warning("Could not clean up batch %s at %s: %s", batch_id, context.provider.name, error)
