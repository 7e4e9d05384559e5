"""What a worker writes about one batch: the claim in its name, the receipt, the entry in the registry.

Two workers may run the same task for a while (a zombie and its successor). The successor takes the claim over with one
in its own name; whoever submits looks whether its claim still counts right before the create, and again right after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_batch_provider.exceptions import Unavailable, Unresolved
from airflow_batch_provider.ledger.claim_log import ClaimLog
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.records import load, save
from airflow_batch_provider.registry import Entry, account_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider, Candidate
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True)
class Order:
    """One batch that is to be bought.

    Attributes:
        directory: where the claim and the receipt are kept.
        name: what their file names begin with.
        tag: our name for the batch; used only when no earlier claim names another.
        lines: the keys and wire lines under a tag, without newline.
        attempt: try of the task, from 1.
        is_outdated: tells a tag under which a claim or a receipt does not count any more: its batch failed as a whole, or
            is of other requests, which were set aside.
        stands: False once another worker has set aside what is ordered here.
        is_siblings: tells a batch id that belongs to another order of this task.
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
    is_siblings: Callable[[str], bool] = lambda _batch_id: False
    registry: Registry | None = None

    @property
    def claim_name(self) -> str:
        """File of the claim."""
        return f"{self.name}.claim.json"

    @property
    def receipt_name(self) -> str:
        """File of the receipt."""
        return f"{self.name}.receipt.json"


@dataclass
class Hold:
    """One worker's hold on one order.

    Attributes:
        owner: the worker's name in its claims.
        held: the last claim that this worker made.
    """

    order: Order
    provider: BatchProvider
    clock: Clock
    owner: str = field(default_factory=lambda: uuid4().hex)
    held: Claim | None = field(default=None, init=False)

    @property
    def takes_turns(self) -> bool:
        """True where one worker of the deployment submits at a time, because the provider keeps no tags."""
        return self.order.registry is not None and not self.provider.keeps_tags

    @property
    def _log(self) -> ClaimLog:
        return ClaimLog(self.order.directory, self.order.name)

    def receipt(self) -> Receipt | None:
        """The receipt, whoever wrote it."""
        receipt = load(self.order.directory, self.order.receipt_name, Receipt)
        return None if receipt is None or self.order.is_outdated(receipt.tag) else receipt

    def claim(self) -> Claim | None:
        """The claim that counts, in whoever's name."""
        return self._log.last()

    def new_claim(self) -> Claim:
        """A claim in this worker's name under the order's own tag, to be taken."""
        return Claim(
            number=self._log.next(),
            tag=self.order.tag,
            requests=self.order.requests,
            claimed_at=self.clock.now(),
            attempt=self.order.attempt,
            owner=self.owner,
            waits_for_turn=self.takes_turns,
        )

    def succession(self, lost: Claim) -> Claim:
        """The claim that takes this one over, to be taken; the former owner then submits nothing more."""
        return lost.model_copy(update={"number": lost.number + 1, "owner": self.owner, "attempt": self.order.attempt})

    def take(self, claim: Claim) -> bool:
        """Put a claim on disk; False when another worker was first."""
        if self._log.add(claim):
            self.held = claim
            return True
        return False

    def is_ours(self) -> bool:
        """True while no other worker has taken the claim over, withdrawn it, or set aside what is ordered."""
        return self.held is not None and self._log.is_last(self.held) and self.order.stands()

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

    def withdraw(self) -> None:
        """Nothing was bought under this worker's claim; another one's stays."""
        claim = self.held
        if claim is not None and self._log.withdraw(claim) and self.order.registry is not None:
            self.order.registry.leave(claim.tag)

    def keep(self, claim: Claim, batch_id: str, submitted_at: datetime, *, tentative: bool = False) -> Receipt:
        """Write the receipt, and tell the deployment; returns the one that counts, which another worker may have written."""
        receipt = Receipt(
            batch_id=batch_id,
            tag=claim.tag,
            requests=claim.requests,
            submitted_at=submitted_at,
            tentative=tentative,
        )
        if not self.order.directory.create(self.order.receipt_name, receipt.model_dump_json().encode()):
            there = self.receipt()
            if there is not None and there.batch_id != batch_id:
                return there
            save(self.order.directory, self.order.receipt_name, receipt)
        self.enter(claim, batch_id, tentative=tentative)
        return receipt

    # the deployment

    def enter(self, claim: Claim, batch_id: str | None = None, *, tentative: bool = False) -> None:
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

    async def take_turn(self, claim: Claim, patience: timedelta) -> Claim:
        """Wait until this worker may submit; the claim then says that its batch may be there.

        What was created before the first turn is surely somebody else's.

        Raises:
            Unavailable: others submitted all the time of the patience; the claim is withdrawn.
            Unresolved: the claim was taken over meanwhile.
        """
        registry = self.order.registry
        assert registry is not None  # only where turns are taken
        await self._wait_for_turn(registry, patience)
        self.check()
        if not claim.waits_for_turn:
            return claim
        begun = self.succession(claim).model_copy(update={"waits_for_turn": False, "claimed_at": self.clock.now()})
        if not self.take(begun):
            raise self.overtaken()
        self.enter(begun)
        return begun

    async def _wait_for_turn(self, registry: Registry, patience: timedelta) -> None:
        try:
            await registry.take_turn(self.provider.account, self.owner, self.clock, patience)
        except Unavailable:
            self.withdraw()
            raise

    def end_turn(self, claim: Claim) -> None:
        """Let others submit; also in the name of a killed worker, once it is known what became of its claim."""
        if self.order.registry is not None:
            self.order.registry.end_turn(self.provider.account, claim.owner)

    def free(self, found: list[Candidate], tag: str) -> list[Candidate]:
        """Those batches that are not another claim's already."""
        registry = self.order.registry
        left = [batch for batch in found if not self.order.is_siblings(batch.batch_id)]
        if registry is None:
            return left
        free = [batch for batch in left if not registry.is_of_another(batch.batch_id, tag)]
        if free:
            return free
        # A neighbour may have taken for its own what is ours: then both wait until the answers tell.
        account = self.provider.account
        return [one for one in left if not registry.is_surely_of_another(one.batch_id, tag, account, self.owner)]
