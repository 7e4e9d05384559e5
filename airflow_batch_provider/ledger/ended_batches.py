"""Batches of a wave that have ended: their answers land, or their chunks are queued again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Paused, Unavailable, Unresolved
from airflow_batch_provider.ledger.landing import Landing, land
from airflow_batch_provider.ledger.records import FailedBatch
from airflow_batch_provider.ledger.replies import ForeignBatch, NotSentYet
from airflow_batch_provider.ledger.retry import RetryBudget, come_back_after
from airflow_batch_provider.ledger.settlement import Settlement
from airflow_batch_provider.providers.listing import whole
from airflow_batch_provider.timing import GONE_AFTER, LONGEST_RESUBMIT_DELAY, RESUBMIT_DELAY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.current_wave import CurrentWave
    from airflow_batch_provider.ledger.records import Receipt
    from airflow_batch_provider.models import BatchStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ended:
    """A batch that has ended and has not landed."""

    files: BatchFiles
    receipt: Receipt
    status: BatchStatus


class EndedBatches:
    """What comes back of a wave."""

    def __init__(self, wave: CurrentWave) -> None:
        self._wave = wave
        self._context = wave.context

    async def land(self) -> datetime | None:
        """Land every batch that has ended; queue the chunk of one that failed as a whole again.

        Returns:
            When to come back for one that has ended and does not send all its answers yet.
        """
        ended: list[_Ended] = []
        if self._context.attempt > 1:
            await asyncio.to_thread(self._unregister_landed)
        in_flight = (await asyncio.to_thread(self._wave.progress)).in_flight
        if not in_flight:
            return None
        await asyncio.to_thread(self._end_submits, [receipt for _, receipt in in_flight])
        statuses = await self._context.provider.statuses([receipt.batch_id for _, receipt in in_flight])
        for chunk, receipt in in_flight:
            status = statuses.get(receipt.batch_id)
            files = self._wave.files_of(chunk)
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
        try:
            counts = await land(
                landing_of(self._wave, files, receipt), context.provider, status, context.provider_now()
            )
        except ForeignBatch:
            log.warning("Batch %s is not ours after all: looking for %s again.", receipt.batch_id, receipt.tag)
            await asyncio.to_thread(files.delete_receipt)  # the claim stays: ours may have become visible since
            await asyncio.to_thread(self._unregister_batch, receipt)
            return None
        except NotSentYet as error:
            log.warning("%s", error)
            return context.clock.now() + come_back_after(error)
        await asyncio.to_thread(settle_landed, self._wave, files, receipt)
        said = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
        log.info("Landed batch %s (%s): %s.", receipt.batch_id, status.status, said)
        return None

    def _queue_again(self, files: BatchFiles, receipt: Receipt, status: BatchStatus) -> None:
        """Queue the chunk of a batch that failed as a whole, unbilled, again, after a delay that grows."""
        current = self._wave.receipt(files)
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
            self._wave.leave_place(receipt.tag)
        # The claim stays until the next one replaces it: by now that may be another worker's, and must not get lost.
        files.delete_receipt()

    def _unregister_landed(self) -> None:
        """Do for an attempt that was killed between its rows and the registry what it had left: their places are free."""
        registry = self._context.registry
        left = {tag for tag in registry.tags() if self._wave.last.owns(tag)} if registry is not None else set()
        for tag in self._wave.landed_tags() if left else ():
            if tag in left:
                self._wave.unregister(tag)

    def _unregister_batch(self, receipt: Receipt) -> None:
        """Note that the deployment still has a claimed batch under this tag, but not this one."""
        registry = self._context.registry
        if registry is not None and (entry := registry.get(receipt.tag)):
            registry.enter(entry.model_copy(update={"batch_id": None, "tentative": False}))


def _check_paid(statuses: Iterable[BatchStatus]) -> None:
    """Stop until somebody pays; the next attempt buys the batches that failed for lack of credit."""
    for status in statuses:
        if status.unpaid:
            raise Paused(
                f"Batch {status.batch_id} failed for lack of credit, and nothing of it ran: {status.error} Pay at the "
                "provider, then clear the task: it buys what is left."
            )


def landing_of(wave: CurrentWave, files: BatchFiles, receipt: Receipt) -> Landing:
    """Return where the answers to a chunk go, and by what they are checked."""
    context, plan = wave.context, wave.plan
    return Landing(
        files,
        wave.number,
        receipt,
        plan.spec,
        context.policy.retry_truncated,
        context.answers(plan.spec),
        Settlement(context, plan, receipt, files),
    )


def settle_landed(wave: CurrentWave, files: BatchFiles, receipt: Receipt) -> None:
    """Let the deployment forget a chunk whose rows are here, and other tasks have its answers."""
    wave.unregister(receipt.tag)
    if wave.context.row_cache is not None:
        wave.context.row_cache.keep(files, receipt.requests, receipt.tag)


async def clean_up(context: LedgerContext, batch_id: str) -> None:
    """Delete the files that the provider keeps of a batch that is no longer needed; only log a failure."""
    if not context.policy.clean_up:
        return
    try:
        await context.provider.clean_up(batch_id)
    except Exception as error:  # noqa: BLE001 — the answers are safe; left-over files only cost storage
        log.warning("Could not clean up batch %s at %s: %s", batch_id, context.provider.name, error)
