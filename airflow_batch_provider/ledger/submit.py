"""Claim, submit, ticket: how one batch is bought once, wherever the process dies.

A claim without a ticket is reconciled before anything else: the provider is asked for the batch. Found: the ticket is
written. Surely absent after a grace time: it is submitted. Undecidable: a person must look, and nothing is paid.

Two workers may run the same task for a while (a zombie and its successor). The successor takes the claim over by
writing its own name into it; whoever submits looks at the claim right before the create, and again right after: a batch
that was created under a lost claim is cancelled at once.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_batch_provider.exceptions import Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.ledger.records import ClaimRecord, Ticket, load, save
from airflow_batch_provider.ledger.registry import Entry, account_digest
from airflow_batch_provider.providers.base import Claim, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from datetime import datetime

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.registry import Registry
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider, Found
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# How long a batch may stay invisible after its create; none of the providers documents it, the lists were seen to lag
# by seconds (batch APIs measured 2026-11-22).
GRACE = timedelta(seconds=60)
# Time that a worker spends waiting for a provider that refuses for a passing reason, before it gives up its slot.
PATIENCE = timedelta(seconds=60)
# Submits of one batch that may go unanswered in a row before the worker gives up its slot.
_SENDS = 3
# Refusals after which nothing was bought, so the claim can go.
_REFUSALS = (Rejected, Paused, UsageError)


@dataclass(frozen=True)
class Order:
    """One batch that is to be bought.

    Attributes:
        directory: where the claim and the ticket are kept.
        name: what their file names begin with.
        tag: our name for the batch; used only when no earlier claim names another.
        lines: the keys and wire lines under a tag, without newline.
        attempt: try of the task, from 1.
        voided: tags of earlier batches of this order, which failed as a whole.
        owned: batch ids that belong to other orders of this task.
        registry: what this deployment has at the providers; None where there is none (a script).
    """

    directory: Directory
    name: str
    tag: str
    label: str
    spec: Spec
    requests: int
    lines: Callable[[str], Iterator[tuple[str, bytes]]]
    attempt: int = 1
    voided: Container[str] = frozenset()
    owned: Container[str] = frozenset()
    registry: Registry | None = None

    @property
    def claim_name(self) -> str:
        """File of the claim."""
        return f"{self.name}.claim.json"

    @property
    def ticket_name(self) -> str:
        """File of the ticket."""
        return f"{self.name}.ticket.json"


async def submit_once(order: Order, provider: BatchProvider, clock: Clock) -> Ticket:
    """The ticket of the batch: found on disk, found at the provider, or bought now.

    Raises:
        Unresolved: it cannot be known whether the batch was bought; nothing more was paid.
        Unavailable: the provider refuses for a passing reason and surely bought nothing; the claim is withdrawn.
        Rejected, Paused: the provider refuses; nothing was billed; the claim is withdrawn.
    """
    return await _Submission(order, provider, clock).ticket()


class _Submission:
    """One worker's try to get one order's ticket; `_owner` is its name in the claim."""

    def __init__(self, order: Order, provider: BatchProvider, clock: Clock) -> None:
        self._order = order
        self._provider = provider
        self._clock = clock
        self._owner = uuid4().hex
        self._sends = 0

    async def ticket(self) -> Ticket:
        order = self._order
        if ticket := self._ticket():
            return ticket
        claim = load(order.directory, order.claim_name, ClaimRecord)
        if claim is None:
            return await self._claim_and_send()
        if claim.tag in order.voided:
            return await self._take_over_and_send(self._claim(order.tag))
        log.warning("A claim for batch %s has no ticket: looking for it at %s.", claim.tag, self._provider.name)
        return await self._reconcile(claim)

    async def _claim_and_send(self) -> Ticket:
        order = self._order
        with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
            parcel = self._pack(order.tag, Path(scratch, "batch.jsonl"))
            claim = self._claim(order.tag)
            if not order.directory.create(order.claim_name, claim.model_dump_json().encode()):
                raise Unavailable(f"Another worker just claimed batch {order.tag!r}.", ambiguous=False)
            return await self._in_turn(claim, parcel)

    async def _take_over_and_send(self, lost: ClaimRecord) -> Ticket:
        """Submit under the tag of a claim whose batch is not there, unless it appears at the last moment."""
        order = self._order
        with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
            parcel = self._pack(lost.tag, Path(scratch, "batch.jsonl"), resumed=True)
            if lost.waits_for_turn and load(order.directory, order.claim_name, ClaimRecord) != lost:
                raise Unavailable(f"Another worker is submitting batch {lost.tag!r}.", ambiguous=False)
            claim = lost.model_copy(update={"owner": self._owner, "attempt": order.attempt})
            save(order.directory, order.claim_name, claim)
            if lost.owner != self._owner:
                self._give_back_turn(lost)
            # Its owner was alive, perhaps, and created a moment ago what no list shows yet.
            if ticket := self._ticket() or (None if claim.waits_for_turn else await self._look(claim)):
                return ticket
            log.info("Batch %s is not at %s: submitting it.", claim.tag, self._provider.name)
            return await self._in_turn(claim, parcel)

    def _claim(self, tag: str) -> ClaimRecord:
        return ClaimRecord(
            tag=tag,
            requests=self._order.requests,
            claimed_at=self._clock.now(),
            attempt=self._order.attempt,
            owner=self._owner,
            waits_for_turn=self._order.registry is not None and not self._provider.keeps_tags,
        )

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
            fence=self._check_owner,
        )

    async def _in_turn(self, claim: ClaimRecord, parcel: Parcel) -> Ticket:
        """Send; one worker of the deployment at a time where the provider keeps no tags, so that a lost reply is decidable."""
        registry = self._order.registry
        if registry is None:
            return await self._send(claim, parcel)
        registry.enter(self._entry(claim))
        if self._provider.keeps_tags:
            return await self._send(claim, parcel)
        try:
            await registry.take_turn(self._provider.account, self._owner, self._clock, PATIENCE)
        except Unavailable:
            self._withdraw(claim)
            raise
        try:
            return await self._send(self._begin_turn(claim), parcel)
        finally:
            self._give_back_turn(claim)

    def _begin_turn(self, claim: ClaimRecord) -> ClaimRecord:
        """Note that from now on the batch may be there; one from before the first turn is surely somebody else's."""
        self._check_owner()
        if not claim.waits_for_turn:
            return claim
        claim = claim.model_copy(update={"waits_for_turn": False, "claimed_at": self._clock.now()})
        save(self._order.directory, self._order.claim_name, claim)
        if self._order.registry is not None:
            self._order.registry.enter(self._entry(claim))
        return claim

    def _give_back_turn(self, claim: ClaimRecord) -> None:
        """Let others submit; also in the name of a killed worker, once it is known what became of its claim."""
        if self._order.registry is not None:
            self._order.registry.end_turn(self._provider.account, claim.owner)

    async def _send(self, claim: ClaimRecord, parcel: Parcel) -> Ticket:
        self._sends += 1
        batch_id = await self._create(claim, parcel)
        if batch_id is None:
            return await self._reconcile(claim)
        log.info("Submitted batch %s: %d requests, %d bytes.", batch_id, parcel.requests, parcel.bytes)
        return await self._keep(claim, batch_id)

    async def _create(self, claim: ClaimRecord, parcel: Parcel) -> str | None:
        """The id of the new batch, None when no answer came; a refusal withdraws the claim."""
        give_up = self._clock.now() + PATIENCE
        while True:
            try:
                return await self._provider.submit(parcel)
            except Unavailable as error:
                if error.ambiguous:
                    log.warning("No answer to the submit of %s: %s Looking whether it happened.", claim.tag, error)
                    return None
                if not await self._waited(error, give_up):
                    self._withdraw(claim)
                    raise
                # What was uploaded is found again; an upload may be 200 MB.
                parcel = replace(parcel, resumed=True)
            except _REFUSALS:
                self._withdraw(claim)
                raise

    async def _waited(self, error: Unavailable, give_up: datetime) -> bool:
        """Sleep as long as the provider asks; False when that is more than the patience that is left."""
        wait = error.retry_after or 5.0
        if self._clock.now() + timedelta(seconds=wait) > give_up:
            return False
        log.info("%s is not ready: %s Trying again in %.0f s.", self._provider.name, error, wait)
        await self._clock.sleep(wait)
        return True

    async def _reconcile(self, claim: ClaimRecord) -> Ticket:
        """Find out what became of a claim, and go on from there."""
        if claim.waits_for_turn:
            return await self._take_over_and_send(claim)
        # A batch may have been created a moment ago and still be invisible, so absence counts after a grace time only.
        until = self._clock.now() + GRACE
        ticket = await self._look(claim)
        while ticket is None and self._clock.now() < until:
            await self._clock.sleep(10.0)
            ticket = self._ticket() or await self._look(claim)
        if ticket is not None:
            self._give_back_turn(claim)
            return ticket
        if self._sends >= _SENDS:
            raise Unavailable(f"{self._provider.name} answered none of {_SENDS} submits of batch {claim.tag!r}.")
        return await self._take_over_and_send(claim)

    async def _look(self, claim: ClaimRecord) -> Ticket | None:
        """The ticket of a batch that is at the provider, None when there is none to see."""
        found = await self._find(claim)
        certain = [batch for batch in found if batch.certain]
        candidates = certain or self._free(found, claim)
        if len(candidates) == 1:
            return await self._keep(claim, candidates[0].batch_id, tentative=not certain, mine=False)
        if candidates:
            ids = ", ".join(batch.batch_id for batch in candidates)
            raise Unresolved(
                f"Several batches at {self._provider.name} may be the claimed {claim.tag!r}: {ids}. Look at them in "
                f"the provider's console, then {self._way_on(claim)}"
            )
        return None

    def _way_on(self, claim: ClaimRecord) -> str:
        """What a person does who knows which batch it is; the commands find only what is in the registry."""
        if self._order.registry is None:
            return (
                f"cancel those that are of no use, delete {self._order.directory.uri(self._order.claim_name)} and submit "
                "again: that buys a new batch."
            )
        return (
            f"say which it is: airflow batches adopt {claim.tag} BATCH_ID, or that it is none of them: airflow batches "
            f"absent {claim.tag} (before Airflow 3.2: python -m airflow_batch_provider batches …). Then clear the task."
        )

    async def _find(self, claim: ClaimRecord) -> list[Found]:
        """Look for the claim, waiting out passing faults for a while: a look costs nothing and may be repeated."""
        give_up = self._clock.now() + PATIENCE
        wanted = Claim(tag=claim.tag, claimed_at=claim.claimed_at, requests=claim.requests, key_prefix=f"{claim.tag}-")
        while True:
            try:
                return await self._provider.find(wanted)
            except Unavailable as error:
                if not await self._waited(error, give_up):
                    raise

    def _free(self, found: list[Found], claim: ClaimRecord) -> list[Found]:
        """Those that are not another claim's already."""
        registry = self._order.registry
        left = [batch for batch in found if batch.batch_id not in self._order.owned]
        if registry is None:
            return left
        free = [batch for batch in left if not registry.is_of_another(batch.batch_id, claim.tag)]
        if free:
            return free
        # A neighbour may have taken for its own what is ours: then both wait until the answers tell.
        account, owner = self._provider.account, self._owner
        return [one for one in left if not registry.is_surely_of_another(one.batch_id, claim.tag, account, owner)]

    async def _keep(self, claim: ClaimRecord, batch_id: str, *, tentative: bool = False, mine: bool = True) -> Ticket:
        """Write the ticket; a batch that was created while another worker took the claim over is cancelled instead."""
        order = self._order
        if mine:
            ticket = self._ticket()
            if ticket.batch_id != batch_id if ticket else not self._owns():
                await self._provider.cancel(batch_id)
                raise Unresolved(
                    f"Another worker took batch {claim.tag!r} over while this one created {batch_id!r}, which is "
                    "cancelled. Nothing is to be done: the other one goes on."
                )
        ticket = Ticket(
            batch_id=batch_id,
            tag=claim.tag,
            requests=claim.requests,
            submitted_at=claim.claimed_at,
            tentative=tentative,
        )
        save(order.directory, order.ticket_name, ticket)
        if order.registry is not None:
            order.registry.enter(self._entry(claim, batch_id, tentative=tentative))
        return ticket

    def _entry(self, claim: ClaimRecord, batch_id: str | None = None, *, tentative: bool = False) -> Entry:
        return Entry(
            tag=claim.tag,
            provider=self._provider.name,
            account=account_digest(self._provider.account),
            label=self._order.label,
            claim=self._order.directory.uri(self._order.claim_name),
            requests=claim.requests,
            claimed_at=claim.claimed_at,
            batch_id=batch_id,
            tentative=tentative,
        )

    def _ticket(self) -> Ticket | None:
        return load(self._order.directory, self._order.ticket_name, Ticket)

    def _owns(self) -> bool:
        claim = load(self._order.directory, self._order.claim_name, ClaimRecord)
        return claim is not None and claim.owner == self._owner

    def _check_owner(self) -> None:
        if not self._owns():
            raise Unresolved(
                f"Another worker took over what this one was about to submit ({self._order.directory}). Nothing is to "
                "be done: the other one goes on."
            )

    def _withdraw(self, claim: ClaimRecord) -> None:
        if self._owns():
            self._order.directory.delete(self._order.claim_name)
            if self._order.registry is not None:
                self._order.registry.leave(claim.tag)
