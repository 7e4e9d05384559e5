"""Claim, submit, receipt: how one batch is bought once, wherever the process dies.

A claim without a receipt is reconciled before anything else: the provider is asked for the batch. Found: the receipt is
written. Surely absent after a grace time: it is submitted. Undecidable: a person must look, and nothing is paid.

A batch that was created while another worker took the claim over is cancelled at once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import (
    NotFound,
    Overtaken,
    Paused,
    Rejected,
    Unavailable,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.ledger.claims import ClaimHandle
from airflow_batch_provider.ledger.retry import RetryBudget
from airflow_batch_provider.providers.base import BatchQuery, Payload
from airflow_batch_provider.providers.consoles import console_url
from airflow_batch_provider.scratch import scratch_folder, written
from airflow_batch_provider.timing import LIST_LAG, SEARCH_PAUSE

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.ledger.batch import BatchToBuy
    from airflow_batch_provider.ledger.records import Claim, Receipt
    from airflow_batch_provider.providers.base import Candidate, Prepared

log = logging.getLogger(__name__)

# Submits of one batch that may go unanswered in a row before the worker gives up its slot.
_SENDS = 3
# Refusals after which nothing was bought, so the claim can go.
_REFUSALS = (Rejected, Paused, UsageError)


async def submit_once(batch: BatchToBuy) -> Receipt:
    """Return the receipt of the batch: found on disk, found at the provider, or bought now.

    Raises:
        Unresolved: it cannot be known whether the batch was bought; nothing more was paid.
        Overtaken: another worker goes on with it.
        Unavailable: the provider refuses for a passing reason and surely bought nothing; the claim is withdrawn.
        Rejected, Paused: the provider refuses; nothing was billed; the claim is withdrawn.
        OverBudget: a budget of the deployment has no room for it; the claim is withdrawn.
    """
    return await _Submission(batch).receipt()


class _Submission:
    """One worker's try to get the receipt of one batch."""

    def __init__(self, batch: BatchToBuy) -> None:
        self._batch = batch
        self._handle = ClaimHandle(batch)
        self._provider = batch.context.provider
        self._clock = batch.context.clock
        self._sends = 0

    async def receipt(self) -> Receipt:
        await self._ask_the_time()
        if receipt := self._handle.receipt():
            return receipt
        # Before the check of the claim: one that another worker makes after it has this number, so both cannot be taken.
        number = self._batch.files.next_claim()
        claim = self._batch.files.claim()
        if claim is None:
            return await self._take_and_send(self._handle.new_claim(number))
        if self._batch.is_outdated(claim.tag):
            if not self._batch.is_current():
                raise self._handle.overtaken()
            return await self._take_and_send(self._handle.new_claim(number), lost=claim)
        if claim.realtime:
            return await self._take_and_send(self._handle.new_claim(number), lost=claim)
        log.warning("A claim for batch %s has no receipt: looking for it at %s.", claim.tag, self._provider.name)
        return await self._reconcile(claim)

    async def _ask_the_time(self) -> None:
        """Learn the provider's time before a claim says when it was made: the clock of this machine may be wrong.

        A provider that does not tell it even then keeps no time that its batches could be looked for by.
        """
        budget = self._budget()
        while self._provider.now() is None:
            try:
                await self._provider.check()
            except Unavailable as error:
                if self._provider.now() is None:
                    await budget.wait(error)
            except (NotFound, Rejected, Paused):  # the create will say more
                return
            else:
                return

    # buying

    async def _take_and_send(self, claim: Claim, lost: Claim | None = None) -> Receipt:
        """Submit under a new claim, unless its batch appears at the last moment.

        Args:
            lost: the claim that it replaces: of a dead worker, or of a batch that failed as a whole.
        """
        with scratch_folder() as scratch:
            # The file that an earlier claim may have uploaded is found again; it may be 200 MB.
            path = scratch / "batch.jsonl"
            async with self._batch.pack_turn:
                payload = await asyncio.to_thread(self._pack, claim.tag, path, resumed=claim.number > 0)
            if not self._handle.take(claim):
                raise Unavailable(f"Another worker just claimed batch {claim.tag!r}.", ambiguous=False)
            if lost is not None and (receipt := await self._last_search(claim, lost)):
                return receipt
            return await self._submit(claim, payload)

    async def _last_search(self, claim: Claim, lost: Claim) -> Receipt | None:
        """Return the receipt after a claim was replaced: its owner, perhaps alive, may have created an unlisted batch.

        Raises:
            Overtaken: its owner asked the rows in realtime, and they have landed.
        """
        if lost.realtime:
            if self._batch.files.has_landed():
                raise self._handle.overtaken()
            return None
        if lost.owner != claim.owner:
            self._handle.release_submit_lock(lost)
        receipt = self._handle.receipt() or (None if claim.queued_for_lock else await self._search(claim))
        if receipt is None:
            log.info("Batch %s is not at %s: submitting it.", claim.tag, self._provider.name)
        return receipt

    def _pack(self, tag: str, path: Path, *, resumed: bool) -> Payload:
        with written(path, 1 << 20) as file:
            file.writelines(self._batch.lines(tag))
        return Payload(
            tag=tag,
            label=self._batch.context.label[:512],
            path=path,
            requests=self._batch.chunk.requests,
            bytes=path.stat().st_size,
            spec=self._batch.plan.spec,
            resumed=resumed,
        )

    async def _submit(self, claim: Claim, payload: Payload) -> Receipt:
        """Submit. Where the provider keeps no tags (Anthropic), hold the account's submit lock.

        Then a batch that is seen after a lost reply can only be ours.
        """
        await self._handle.reserve(claim)
        if not self._handle.needs_lock:
            return await self._send(claim, payload)
        try:
            return await self._send(await self._handle.acquire_submit_lock(claim), payload)
        finally:
            self._handle.release_submit_lock(claim)

    async def _send(self, claim: Claim, payload: Payload) -> Receipt:
        self._sends += 1
        batch_id = await self._create(claim, payload)
        if batch_id is None:
            return await self._reconcile(claim)
        see = console_url(self._provider.account, batch_id)
        log.info(
            "Submitted batch %r to %s: %d requests, %d bytes.%s",
            batch_id,
            self._provider.name,
            payload.requests,
            payload.bytes,
            f" See {see}" if see else "",
        )
        if self._handle.receipt() is None and not self._handle.is_ours():
            await self._cancel_overtaken(claim, batch_id)
        receipt = self._handle.write_receipt(claim, batch_id, self._clock.now())
        if receipt.batch_id != batch_id:
            await self._cancel_overtaken(claim, batch_id)
        return receipt

    async def _create(self, claim: Claim, payload: Payload) -> str | None:
        """Return the id of the new batch, None when no answer came; a refusal withdraws the claim."""
        budget = self._budget()
        prepared: Prepared | None = None
        while True:
            try:
                prepared = prepared or await self._provider.prepare(payload)
                self._handle.check()
                return await self._provider.create(prepared)
            except Unavailable as error:
                # A fault while preparing bought nothing, whether or not the call took effect.
                if prepared is not None and error.ambiguous:
                    log.warning("No answer to the submit of %s: %s Looking whether it happened.", claim.tag, error)
                    return None
                if not await budget.waited(error):
                    self._handle.withdraw()
                    raise
                # The uploaded file is found again; an upload may be 200 MB.
                payload = replace(payload, resumed=True)
            except _REFUSALS:
                self._handle.withdraw()
                raise
            except NotFound as error:  # the model, or the file, not the batch
                self._handle.withdraw()
                raise Rejected(str(error)) from error

    async def _cancel_overtaken(self, claim: Claim, batch_id: str) -> None:
        """Cancel a batch whose claim another worker took over while this one created it: two of them must not run.

        Raises:
            Overtaken: it is cancelled.
            Unresolved: it could not be cancelled; a person must.
        """
        fact = f"Another worker took batch {claim.tag!r} over while this one created {batch_id!r}"
        try:
            await self._cancel_new(batch_id)
        except Unavailable as error:
            raise Unresolved(
                f"{fact}, which could not be cancelled: {error} Cancel it in {self._provider.name}'s console; the other "
                "worker goes on."
            ) from error
        raise Overtaken(f"{fact}, which is cancelled. No action is needed: the other one goes on.")

    async def _cancel_new(self, batch_id: str) -> None:
        budget = self._budget()
        while True:
            try:
                return await self._provider.cancel(batch_id)
            except Unavailable as error:
                await budget.wait(error)
            except NotFound as error:  # not visible yet
                await budget.wait(Unavailable(str(error)))

    # searching

    async def _reconcile(self, claim: Claim) -> Receipt:
        """Find out what became of a claim, and go on from there."""
        if claim.queued_for_lock:
            return await self._take_and_send(self._handle.succession(claim), lost=claim)
        # A batch may have been created a moment ago and still be invisible, so absence counts after a grace time only.
        # It is counted in pauses, because the clock of this machine may jump.
        receipt = await self._search(claim)
        for _ in range(LIST_LAG // SEARCH_PAUSE):
            if receipt is not None:
                break
            await self._clock.sleep(SEARCH_PAUSE.total_seconds())
            receipt = self._handle.receipt() or await self._search(claim)
        if receipt is not None:
            self._handle.release_submit_lock(claim)
            return receipt
        if self._sends >= _SENDS:
            raise Unavailable(f"{self._provider.name} answered none of {_SENDS} submits of batch {claim.tag!r}.")
        return await self._take_and_send(self._handle.succession(claim), lost=claim)

    async def _search(self, claim: Claim) -> Receipt | None:
        """Return the receipt of a batch that is at the provider, None when there is none to see."""
        found = await self._find(claim)
        certain = [one for one in found if one.certain]
        candidates = certain or self._handle.free(found, claim.tag)
        if len(candidates) == 1:
            return self._handle.write_receipt(claim, candidates[0].batch_id, claim.claimed_at, tentative=not certain)
        if candidates:
            ids = ", ".join(one.batch_id for one in candidates)
            raise Unresolved(
                f"Several batches at {self._provider.name} may be the claimed {claim.tag!r}: {ids}. See them in "
                f"the provider's console, then {self._way_on(claim)}"
            )
        return None

    async def _find(self, claim: Claim) -> list[Candidate]:
        query = BatchQuery(claim.tag, claim.earliest, claim.requests, key_prefix=f"{claim.tag}-")
        budget = self._budget()
        while True:
            try:
                return await self._provider.find(query)
            except Unavailable as error:
                await budget.wait(error)
            except Unresolved as error:
                raise Unresolved(
                    f"{error} When you know what became of {claim.tag!r}: {self._way_on(claim)}"
                ) from error

    def _way_on(self, claim: Claim) -> str:
        """Return what a person does who knows which batch it is; the commands find only batches of the registry."""
        if self._batch.context.registry is None:
            return (
                f"cancel those you do not need, delete {self._batch.files.claim_pattern} and submit "
                "again: that buys a new batch."
            )
        return (
            f"say which it is: airflow batches adopt {claim.tag} BATCH_ID, or that it is none of them: airflow batches "
            f"absent {claim.tag} (before Airflow 3.2: python -m airflow_batch_provider batches …). Then clear the task."
        )

    def _budget(self) -> RetryBudget:
        return RetryBudget(self._provider.name, self._clock)
