"""What a worker writes about one batch: the claim in its name, the ticket, the entry in the registry.

Two workers may run the same task for a while (a zombie and its successor). The successor takes the claim over by
writing its own name into it; whoever submits looks at the claim right before the create, and again right after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_batch_provider.exceptions import Unavailable, Unresolved
from airflow_batch_provider.ledger.records import ClaimRecord, Ticket, load, save
from airflow_batch_provider.ledger.registry import Entry, account_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from datetime import timedelta

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.ledger.registry import Registry
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider, Found
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True)
class Order:
    """One batch that is to be bought.

    Attributes:
        directory: where the claim and the ticket are kept.
        name: what their file names begin with.
        tag: our name for the batch; used only when no earlier claim names another.
        lines: the keys and wire lines under a tag, without newline.
        attempt: try of the task, from 1.
        is_outdated: tells a tag under which a claim or a ticket does not count any more: its batch failed as a whole, or
            is of other requests, which were set aside.
        stands: False once another worker has set aside what is ordered here.
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
    is_outdated: Callable[[str], bool] = lambda _tag: False
    stands: Callable[[], bool] = lambda: True
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


@dataclass(frozen=True)
class Hold:
    """One worker's hold on one order.

    Attributes:
        owner: the worker's name in the claim.
    """

    order: Order
    provider: BatchProvider
    clock: Clock
    owner: str = field(default_factory=lambda: uuid4().hex)

    @property
    def takes_turns(self) -> bool:
        """True where one worker of the deployment submits at a time, because the provider keeps no tags."""
        return self.order.registry is not None and not self.provider.keeps_tags

    def ticket(self) -> Ticket | None:
        """The ticket, whoever wrote it."""
        ticket = load(self.order.directory, self.order.ticket_name, Ticket)
        return None if ticket is None or self.order.is_outdated(ticket.tag) else ticket

    def claim(self) -> ClaimRecord | None:
        """The claim, in whoever's name."""
        return load(self.order.directory, self.order.claim_name, ClaimRecord)

    def new_claim(self, tag: str) -> ClaimRecord:
        """A claim in this worker's name, not yet on disk."""
        return ClaimRecord(
            tag=tag,
            requests=self.order.requests,
            claimed_at=self.clock.now(),
            attempt=self.order.attempt,
            owner=self.owner,
            waits_for_turn=self.takes_turns,
        )

    def take(self, claim: ClaimRecord) -> bool:
        """Put the claim on disk; False when another worker was first."""
        return self.order.directory.create(self.order.claim_name, claim.model_dump_json().encode())

    def take_over(self, lost: ClaimRecord) -> ClaimRecord:
        """Put this worker's name into a claim; its former owner submits nothing more."""
        claim = lost.model_copy(update={"owner": self.owner, "attempt": self.order.attempt})
        save(self.order.directory, self.order.claim_name, claim)
        if lost.owner != self.owner:
            self.end_turn(lost)
        return claim

    def is_ours(self) -> bool:
        """True while no other worker has taken the claim over, withdrawn it, or set aside what is ordered."""
        claim = self.claim()
        return claim is not None and claim.owner == self.owner and self.order.stands()

    def check(self) -> None:
        """The fence.

        Raises:
            Unresolved: the claim is another worker's.
        """
        if not self.is_ours():
            raise self.overtaken()

    def overtaken(self) -> Unresolved:
        """What ends a worker that has a successor."""
        return Unresolved(
            f"Another worker took over what this one was about to submit ({self.order.directory}). Nothing is to be "
            "done: the other one goes on."
        )

    def withdraw(self, claim: ClaimRecord) -> None:
        """Nothing was bought under this claim; another worker's stays."""
        if self.is_ours():
            self.order.directory.delete(self.order.claim_name)
            if self.order.registry is not None:
                self.order.registry.leave(claim.tag)

    def keep(self, claim: ClaimRecord, batch_id: str, *, tentative: bool = False) -> Ticket:
        """Write the ticket, and tell the deployment."""
        ticket = Ticket(
            batch_id=batch_id,
            tag=claim.tag,
            requests=claim.requests,
            submitted_at=claim.claimed_at,
            tentative=tentative,
        )
        save(self.order.directory, self.order.ticket_name, ticket)
        self.enter(claim, batch_id, tentative=tentative)
        return ticket

    # the deployment

    def enter(self, claim: ClaimRecord, batch_id: str | None = None, *, tentative: bool = False) -> None:
        """Note in the registry what is claimed, or more about it."""
        if self.order.registry is None:
            return
        entry = Entry(
            tag=claim.tag,
            provider=self.provider.name,
            account=account_digest(self.provider.account),
            label=self.order.label,
            claim=self.order.directory.uri(self.order.claim_name),
            requests=claim.requests,
            claimed_at=claim.claimed_at,
            batch_id=batch_id,
            tentative=tentative,
        )
        self.order.registry.enter(entry)

    async def take_turn(self, claim: ClaimRecord, patience: timedelta) -> ClaimRecord:
        """Wait until this worker may submit; the claim then says that its batch may be there.

        What was created before the first turn is surely somebody else's.

        Raises:
            Unavailable: others submitted all the time of the patience; the claim is withdrawn.
            Unresolved: the claim was taken over meanwhile.
        """
        registry = self.order.registry
        assert registry is not None  # only where turns are taken
        await self._wait_for_turn(registry, claim, patience)
        self.check()
        if not claim.waits_for_turn:
            return claim
        begun = claim.model_copy(update={"waits_for_turn": False, "claimed_at": self.clock.now()})
        save(self.order.directory, self.order.claim_name, begun)
        self.enter(begun)
        return begun

    async def _wait_for_turn(self, registry: Registry, claim: ClaimRecord, patience: timedelta) -> None:
        try:
            await registry.take_turn(self.provider.account, self.owner, self.clock, patience)
        except Unavailable:
            self.withdraw(claim)
            raise

    def end_turn(self, claim: ClaimRecord) -> None:
        """Let others submit; also in the name of a killed worker, once it is known what became of its claim."""
        if self.order.registry is not None:
            self.order.registry.end_turn(self.provider.account, claim.owner)

    def free(self, found: list[Found], tag: str) -> list[Found]:
        """Those batches that are not another claim's already."""
        registry = self.order.registry
        left = [batch for batch in found if batch.batch_id not in self.order.owned]
        if registry is None:
            return left
        free = [batch for batch in left if not registry.is_of_another(batch.batch_id, tag)]
        if free:
            return free
        # A neighbour may have taken for its own what is ours: then both wait until the answers tell.
        account = self.provider.account
        return [one for one in left if not registry.is_surely_of_another(one.batch_id, tag, account, self.owner)]
