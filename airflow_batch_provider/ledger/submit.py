"""Claim, submit, receipt: how one batch is bought once, wherever the process dies.

A claim without a receipt is reconciled before anything else: the provider is asked for the batch. Candidate: the receipt is
written. Surely absent after a grace time: it is submitted. Undecidable: a person must look, and nothing is paid.

A batch that was created while another worker took the claim over is cancelled at once.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound, Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.ledger.claims import Hold, Order
from airflow_batch_provider.ledger.patience import PATIENCE, Patience
from airflow_batch_provider.providers.base import BatchQuery, Payload

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.records import Claim, Receipt
    from airflow_batch_provider.providers.base import BatchProvider, Candidate, Prepared

log = logging.getLogger(__name__)

# How long a batch may stay invisible after its create; none of the providers documents it, the lists were seen to lag
# by seconds (batch APIs measured 2026-11-22).
GRACE = timedelta(seconds=60)
# Submits of one batch that may go unanswered in a row before the worker gives up its slot.
_SENDS = 3
# Refusals after which nothing was bought, so the claim can go.
_REFUSALS = (Rejected, Paused, UsageError)


async def submit_once(order: Order, provider: BatchProvider, clock: Clock) -> Receipt:
    """The receipt of the batch: found on disk, found at the provider, or bought now.

    Raises:
        Unresolved: it cannot be known whether the batch was bought; nothing more was paid.
        Unavailable: the provider refuses for a passing reason and surely bought nothing; the claim is withdrawn.
        Rejected, Paused: the provider refuses; nothing was billed; the claim is withdrawn.
    """
    return await _Submission(Hold(order, provider, clock)).receipt()


class _Submission:
    """One worker's try to get one order's receipt."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._order = hold.order
        self._provider = hold.provider
        self._clock = hold.clock
        self._sends = 0

    async def receipt(self) -> Receipt:
        if receipt := self._hold.receipt():
            return receipt
        claim = self._hold.claim()
        if claim is None:
            return await self._take_and_send(self._hold.new_claim())
        if self._order.is_outdated(claim.tag):
            if not self._order.stands():
                raise self._hold.overtaken()
            return await self._take_and_send(self._hold.new_claim(), lost=claim)
        log.warning("A claim for batch %s has no receipt: looking for it at %s.", claim.tag, self._provider.name)
        return await self._reconcile(claim)

    # buying

    async def _take_and_send(self, claim: Claim, lost: Claim | None = None) -> Receipt:
        """Submit under a new claim, unless its batch appears at the last moment.

        Args:
            lost: the claim that it replaces: of a dead worker, or of a batch that failed as a whole.
        """
        with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
            # What an earlier claim may have uploaded is found again; it may be 200 MB.
            payload = self._pack(claim.tag, Path(scratch, "batch.jsonl"), resumed=claim.number > 0)
            if not self._hold.take(claim):
                raise Unavailable(f"Another worker just claimed batch {claim.tag!r}.", ambiguous=False)
            if lost is not None and (receipt := await self._last_look(claim, lost)):
                return receipt
            return await self._in_turn(claim, payload)

    async def _last_look(self, claim: Claim, lost: Claim) -> Receipt | None:
        """The receipt after a claim was replaced: its owner was alive, perhaps, and created what no list showed before."""
        if lost.owner != claim.owner:
            self._hold.end_turn(lost)
        receipt = self._hold.receipt() or (None if claim.waits_for_turn else await self._look(claim))
        if receipt is None:
            log.info("Batch %s is not at %s: submitting it.", claim.tag, self._provider.name)
        return receipt

    def _pack(self, tag: str, path: Path, *, resumed: bool = False) -> Payload:
        first_key = ""
        with path.open("wb", buffering=1 << 20) as file:
            for key, line in self._order.lines(tag):
                first_key = first_key or key
                file.write(line + b"\n")
        return Payload(
            tag=tag,
            label=self._order.label[:512],
            path=path,
            requests=self._order.requests,
            bytes=path.stat().st_size,
            first_key=first_key,
            spec=self._order.spec,
            resumed=resumed,
        )

    async def _in_turn(self, claim: Claim, payload: Payload) -> Receipt:
        """Send; one worker of the deployment at a time where the provider keeps no tags, so that a lost reply is decidable."""
        self._hold.enter(claim)
        if not self._hold.takes_turns:
            return await self._send(claim, payload)
        try:
            return await self._send(await self._hold.take_turn(claim, PATIENCE), payload)
        finally:
            self._hold.end_turn(claim)

    async def _send(self, claim: Claim, payload: Payload) -> Receipt:
        self._sends += 1
        batch_id = await self._create(claim, payload)
        if batch_id is None:
            return await self._reconcile(claim)
        log.info("Submitted batch %s: %d requests, %d bytes.", batch_id, payload.requests, payload.bytes)
        if self._hold.receipt() is None and not self._hold.is_ours():
            await self._cancel_overtaken(claim, batch_id)
        receipt = self._hold.keep(claim, batch_id, self._clock.now())
        if receipt.batch_id != batch_id:
            await self._cancel_overtaken(claim, batch_id)
        return receipt

    async def _create(self, claim: Claim, payload: Payload) -> str | None:
        """The id of the new batch, None when no answer came; a refusal withdraws the claim."""
        patience = self._patience()
        prepared: Prepared | None = None
        while True:
            try:
                prepared = prepared or await self._provider.prepare(payload)
                self._hold.check()
                return await self._provider.create(prepared)
            except Unavailable as error:
                # A fault while preparing bought nothing, whether or not the call took effect.
                if prepared is not None and error.ambiguous:
                    log.warning("No answer to the submit of %s: %s Looking whether it happened.", claim.tag, error)
                    return None
                if not await patience.waited(error):
                    self._hold.withdraw()
                    raise
                # What was uploaded is found again; an upload may be 200 MB.
                payload = replace(payload, resumed=True)
            except _REFUSALS:
                self._hold.withdraw()
                raise
            except NotFound as error:  # the model, or the file, not the batch
                self._hold.withdraw()
                raise Rejected(str(error)) from error

    async def _cancel_overtaken(self, claim: Claim, batch_id: str) -> None:
        """Another worker took the claim over while this one created: two batches of the same rows must not run."""
        what = f"Another worker took batch {claim.tag!r} over while this one created {batch_id!r}"
        try:
            await self._patience().repeat(partial(self._cancel_new, batch_id))
        except Unavailable as error:
            raise Unresolved(
                f"{what}, which could not be cancelled: {error} Cancel it in {self._provider.name}'s console; the other "
                "worker goes on."
            ) from error
        raise Unresolved(f"{what}, which is cancelled. Nothing is to be done: the other one goes on.")

    async def _cancel_new(self, batch_id: str) -> None:
        try:
            await self._provider.cancel(batch_id)
        except NotFound as error:  # not visible yet
            raise Unavailable(str(error)) from error

    # looking

    async def _reconcile(self, claim: Claim) -> Receipt:
        """Find out what became of a claim, and go on from there."""
        if claim.waits_for_turn:
            return await self._take_and_send(self._hold.succession(claim), lost=claim)
        # A batch may have been created a moment ago and still be invisible, so absence counts after a grace time only.
        until = self._clock.now() + GRACE
        receipt = await self._look(claim)
        while receipt is None and self._clock.now() < until:
            await self._clock.sleep(10.0)
            receipt = self._hold.receipt() or await self._look(claim)
        if receipt is not None:
            self._hold.end_turn(claim)
            return receipt
        if self._sends >= _SENDS:
            raise Unavailable(f"{self._provider.name} answered none of {_SENDS} submits of batch {claim.tag!r}.")
        return await self._take_and_send(self._hold.succession(claim), lost=claim)

    async def _look(self, claim: Claim) -> Receipt | None:
        """The receipt of a batch that is at the provider, None when there is none to see."""
        wanted = BatchQuery(
            tag=claim.tag, claimed_at=claim.claimed_at, requests=claim.requests, key_prefix=f"{claim.tag}-"
        )
        found = await self._find(wanted, claim)
        certain = [batch for batch in found if batch.certain]
        candidates = certain or self._hold.free(found, claim.tag)
        if len(candidates) == 1:
            return self._hold.keep(claim, candidates[0].batch_id, claim.claimed_at, tentative=not certain)
        if candidates:
            ids = ", ".join(batch.batch_id for batch in candidates)
            raise Unresolved(
                f"Several batches at {self._provider.name} may be the claimed {claim.tag!r}: {ids}. Look at them in "
                f"the provider's console, then {self._way_on(claim)}"
            )
        return None

    async def _find(self, wanted: BatchQuery, claim: Claim) -> list[Candidate]:
        try:
            return await self._patience().repeat(lambda: self._provider.find(wanted))
        except Unresolved as error:
            raise Unresolved(f"{error} When you know what became of {claim.tag!r}: {self._way_on(claim)}") from error

    def _way_on(self, claim: Claim) -> str:
        """What a person does who knows which batch it is; the commands find only what is in the registry."""
        if self._order.registry is None:
            return (
                f"cancel those that are of no use, delete {self._order.directory.uri(self._order.name)}.claim*.json and submit "
                "again: that buys a new batch."
            )
        return (
            f"say which it is: airflow batches adopt {claim.tag} BATCH_ID, or that it is none of them: airflow batches "
            f"absent {claim.tag} (before Airflow 3.2: python -m airflow_batch_provider batches …). Then clear the task."
        )

    def _patience(self) -> Patience:
        return Patience(self._provider.name, self._clock)
