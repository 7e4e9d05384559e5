"""The canary in realtime: its rows are asked by single calls, at the price without a batch, and land at once.

No provider lets a single call be found again whose reply was lost. So a row is asked in this way once, under the first claim
of its chunk, and whatever comes to nothing under that claim is bought as a batch. Rows can be paid twice only where a worker
dies, or a connection breaks, in the seconds between the calls and their rows; those are the canary's alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound, Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.ledger.claims import ClaimHandle
from airflow_batch_provider.ledger.ended_batches import landing_of, settle_landed
from airflow_batch_provider.ledger.landing import land_in_realtime
from airflow_batch_provider.ledger.records import Receipt
from airflow_batch_provider.ledger.retry import RetryBudget
from airflow_batch_provider.ledger.side_by_side import side_by_side
from airflow_batch_provider.models import Reply, RowError

if TYPE_CHECKING:
    from airflow_batch_provider.exceptions import BatchError
    from airflow_batch_provider.ledger.batch import BatchToBuy
    from airflow_batch_provider.ledger.current_wave import CurrentWave
    from airflow_batch_provider.ledger.records import Claim, PlannedRow

log = logging.getLogger(__name__)

_CALLS = 8
"""Calls under way at once; the first one alone, so that a wrong key or model is found out by one call."""


class RealtimeCanary:
    """One worker's only try to ask the canary of a wave by single calls.

    Args:
        batch: of the canary; no worker has claimed it yet.
    """

    def __init__(self, wave: CurrentWave, batch: BatchToBuy) -> None:
        self._wave = wave
        self._batch = batch
        self._context = batch.context
        self._handle = ClaimHandle(batch)
        self._replies: list[Reply] = []
        self._retries = RetryBudget(self._context.provider.name, self._context.clock)

    async def landed(self) -> bool:
        """Ask the rows and land them; False when no call was answered, so that they must be bought as a batch.

        Raises:
            Rejected, Paused: the provider refuses the first call; nothing was billed, and the claim is withdrawn.
            OverBudget: a budget of the deployment has no room for it; the claim is withdrawn.
            Unavailable: another worker was first.
            Overtaken: another worker went on with it meanwhile.
        """
        claim = self._handle.new_claim(0, realtime=True)
        if not self._handle.take(claim):
            raise Unavailable(f"Another worker just claimed batch {claim.tag!r}.", ambiguous=False)
        await self._handle.reserve(claim)
        fault = await self._ask_all(claim)
        if not self._replies:
            log.warning("The canary got no answer in realtime, so it is bought as a batch: %s", fault)
            return False
        self._handle.check()
        await asyncio.to_thread(self._land, self._receipt(claim), fault)
        return True

    async def _ask_all(self, claim: Claim) -> BatchError | None:
        """Ask row by row; return the fault after which no other row was asked."""
        calls = (self._ask(claim, row) for row in self._batch.files.planned_rows())
        try:
            await side_by_side(calls, _CALLS)
        except Unavailable as error:
            return error
        except (Rejected, Paused, NotFound, UsageError) as error:
            if self._replies:  # these are paid; the rest of the wave will meet the same refusal
                return error
            self._handle.withdraw()
            if isinstance(error, NotFound):  # the model, or the address
                raise Rejected(str(error)) from error
            raise
        return None

    async def _ask(self, claim: Claim, row: PlannedRow) -> None:
        key, spec = f"{claim.tag}-{row.index}", self._batch.plan.spec
        while True:
            try:
                self._replies.append(await self._context.provider.ask(key, bytes(row.body), spec))
            except Unavailable as error:
                # One that may have been answered is not asked once more in this way.
                if error.ambiguous or not await self._retries.waited(error):
                    raise
            else:
                return

    def _receipt(self, claim: Claim) -> Receipt:
        """Return what stands for the calls where a batch has its receipt; no file keeps it."""
        return Receipt(
            batch_id="",
            tag=claim.tag,
            requests=claim.requests,
            submitted_at=self._context.clock.now(),
            as_of=self._context.provider.now(),
            reserved_at=self._handle.reserved_at(claim),
        )

    def _land(self, receipt: Receipt, fault: BatchError | None) -> None:
        files = self._batch.files
        landing = landing_of(self._wave, files, receipt)
        counts = land_in_realtime(landing, self._replies, _unanswered(fault))
        settle_landed(self._wave, files, receipt)
        said = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
        log.info("Asked the canary in realtime: %s.", said)


def _unanswered(fault: BatchError | None) -> Reply:
    """Return what stands for a row that got no answer: another wave may ask it again."""
    why = str(fault) if fault else "the provider gave no reason"
    error = RowError(code="no_answer", message=f"it was asked in realtime and got no answer: {why}", retryable=True)
    return Reply(key="", status="failed", error=error)
