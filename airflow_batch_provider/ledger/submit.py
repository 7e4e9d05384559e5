"""Claim, submit, ticket: how one batch is bought once, wherever the process dies.

A claim without a ticket is reconciled before anything else: the provider is asked for the batch. Found: the ticket is
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
from airflow_batch_provider.providers.base import Claim, Parcel

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.records import ClaimRecord, Ticket
    from airflow_batch_provider.providers.base import BatchProvider, Found

log = logging.getLogger(__name__)

# How long a batch may stay invisible after its create; none of the providers documents it, the lists were seen to lag
# by seconds (batch APIs measured 2026-11-22).
GRACE = timedelta(seconds=60)
# Submits of one batch that may go unanswered in a row before the worker gives up its slot.
_SENDS = 3
# Refusals after which nothing was bought, so the claim can go.
_REFUSALS = (Rejected, Paused, UsageError)


async def submit_once(order: Order, provider: BatchProvider, clock: Clock) -> Ticket:
    """The ticket of the batch: found on disk, found at the provider, or bought now.

    Raises:
        Unresolved: it cannot be known whether the batch was bought; nothing more was paid.
        Unavailable: the provider refuses for a passing reason and surely bought nothing; the claim is withdrawn.
        Rejected, Paused: the provider refuses; nothing was billed; the claim is withdrawn.
    """
    return await _Submission(Hold(order, provider, clock)).ticket()


class _Submission:
    """One worker's try to get one order's ticket."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._order = hold.order
        self._provider = hold.provider
        self._clock = hold.clock
        self._sends = 0

    async def ticket(self) -> Ticket:
        if ticket := self._hold.ticket():
            return ticket
        claim = self._hold.claim()
        if claim is None:
            return await self._take_and_send(self._hold.new_claim())
        if self._order.is_outdated(claim.tag):
            if not self._order.stands():
                raise self._hold.overtaken()
            return await self._take_and_send(self._hold.new_claim(), lost=claim)
        log.warning("A claim for batch %s has no ticket: looking for it at %s.", claim.tag, self._provider.name)
        return await self._reconcile(claim)

    # buying

    async def _take_and_send(self, claim: ClaimRecord, lost: ClaimRecord | None = None) -> Ticket:
        """Submit under a new claim, unless its batch appears at the last moment.

        Args:
            lost: the claim that it replaces: of a dead worker, or of a batch that failed as a whole.
        """
        with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
            # What an earlier claim may have uploaded is found again; it may be 200 MB.
            parcel = self._pack(claim.tag, Path(scratch, "batch.jsonl"), resumed=claim.number > 0)
            if not self._hold.take(claim):
                raise Unavailable(f"Another worker just claimed batch {claim.tag!r}.", ambiguous=False)
            if lost is not None and (ticket := await self._last_look(claim, lost)):
                return ticket
            return await self._in_turn(claim, parcel)

    async def _last_look(self, claim: ClaimRecord, lost: ClaimRecord) -> Ticket | None:
        """The ticket after a claim was replaced: its owner was alive, perhaps, and created what no list showed before."""
        if lost.owner != claim.owner:
            self._hold.end_turn(lost)
        ticket = self._hold.ticket() or (None if claim.waits_for_turn else await self._look(claim))
        if ticket is None:
            log.info("Batch %s is not at %s: submitting it.", claim.tag, self._provider.name)
        return ticket

    def _pack(self, tag: str, path: Path, *, resumed: bool = False) -> Parcel:
        first_key = ""
        with path.open("wb", buffering=1 << 20) as file:
            for key, line in self._order.lines(tag):
                first_key = first_key or key
                file.write(line + b"\n")
        return Parcel(
            tag=tag,
            label=self._order.label[:512],
            path=path,
            requests=self._order.requests,
            bytes=path.stat().st_size,
            first_key=first_key,
            spec=self._order.spec,
            resumed=resumed,
            fence=self._hold.check,
        )

    async def _in_turn(self, claim: ClaimRecord, parcel: Parcel) -> Ticket:
        """Send; one worker of the deployment at a time where the provider keeps no tags, so that a lost reply is decidable."""
        self._hold.enter(claim)
        if not self._hold.takes_turns:
            return await self._send(claim, parcel)
        try:
            return await self._send(await self._hold.take_turn(claim, PATIENCE), parcel)
        finally:
            self._hold.end_turn(claim)

    async def _send(self, claim: ClaimRecord, parcel: Parcel) -> Ticket:
        self._sends += 1
        batch_id = await self._create(claim, parcel)
        if batch_id is None:
            return await self._reconcile(claim)
        log.info("Submitted batch %s: %d requests, %d bytes.", batch_id, parcel.requests, parcel.bytes)
        if self._hold.ticket() is None and not self._hold.is_ours():
            await self._cancel_overtaken(claim, batch_id)
        ticket = self._hold.keep(claim, batch_id, self._clock.now())
        if ticket.batch_id != batch_id:
            await self._cancel_overtaken(claim, batch_id)
        return ticket

    async def _create(self, claim: ClaimRecord, parcel: Parcel) -> str | None:
        """The id of the new batch, None when no answer came; a refusal withdraws the claim."""
        patience = self._patience()
        while True:
            try:
                return await self._provider.submit(parcel)
            except Unavailable as error:
                if error.ambiguous:
                    log.warning("No answer to the submit of %s: %s Looking whether it happened.", claim.tag, error)
                    return None
                if not await patience.waited(error):
                    self._hold.withdraw()
                    raise
                # What was uploaded is found again; an upload may be 200 MB.
                parcel = replace(parcel, resumed=True)
            except _REFUSALS:
                self._hold.withdraw()
                raise
            except NotFound as error:  # the model, or the file, not the batch
                self._hold.withdraw()
                raise Rejected(str(error)) from error

    async def _cancel_overtaken(self, claim: ClaimRecord, batch_id: str) -> None:
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

    async def _reconcile(self, claim: ClaimRecord) -> Ticket:
        """Find out what became of a claim, and go on from there."""
        if claim.waits_for_turn:
            return await self._take_and_send(self._hold.succession(claim), lost=claim)
        # A batch may have been created a moment ago and still be invisible, so absence counts after a grace time only.
        until = self._clock.now() + GRACE
        ticket = await self._look(claim)
        while ticket is None and self._clock.now() < until:
            await self._clock.sleep(10.0)
            ticket = self._hold.ticket() or await self._look(claim)
        if ticket is not None:
            self._hold.end_turn(claim)
            return ticket
        if self._sends >= _SENDS:
            raise Unavailable(f"{self._provider.name} answered none of {_SENDS} submits of batch {claim.tag!r}.")
        return await self._take_and_send(self._hold.succession(claim), lost=claim)

    async def _look(self, claim: ClaimRecord) -> Ticket | None:
        """The ticket of a batch that is at the provider, None when there is none to see."""
        wanted = Claim(tag=claim.tag, claimed_at=claim.claimed_at, requests=claim.requests, key_prefix=f"{claim.tag}-")
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

    async def _find(self, wanted: Claim, claim: ClaimRecord) -> list[Found]:
        try:
            return await self._patience().repeat(lambda: self._provider.find(wanted))
        except Unresolved as error:
            raise Unresolved(f"{error} When you know what became of {claim.tag!r}: {self._way_on(claim)}") from error

    def _way_on(self, claim: ClaimRecord) -> str:
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
