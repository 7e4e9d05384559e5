"""One worker's writes about one batch: the claim in its name, the receipt, the entry in the registry.

Two workers may run the same task for a while (a zombie and its successor). The successor takes the claim over with one
in its own name; a worker that submits checks that its claim still counts right before the create, and again right after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import Overtaken, Unavailable, UsageError
from airflow_batch_provider.ledger.budget_check import BudgetCheck
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.registry import Entry, account_digest
from airflow_batch_provider.signals import BatchBought
from airflow_batch_provider.timing import WORKER_RETRY_BUDGET

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_batch_provider.ledger.batch import BatchToBuy
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.providers.base import Candidate
    from airflow_batch_provider.registry import Registry


@dataclass
class ClaimHandle:
    """One worker's hold on one batch.

    Attributes:
        owner: the worker's name in its claims.
        claim: the last claim that this worker made.
        files: of the batch.
    """

    batch: BatchToBuy
    owner: str = field(init=False)
    claim: Claim | None = field(default=None, init=False)
    files: BatchFiles = field(init=False)

    def __post_init__(self) -> None:
        self.owner = self.batch.context.new_id()
        self.files = self.batch.files

    @property
    def needs_lock(self) -> bool:
        """Tell whether one worker of the deployment submits at a time, because the provider keeps no tags."""
        return self._registry is not None and not self.batch.context.provider.keeps_tags

    @property
    def _registry(self) -> Registry | None:
        return self.batch.context.registry

    def receipt(self) -> Receipt | None:
        """Return the receipt, whoever wrote it."""
        receipt = self.files.receipt()
        return None if receipt is None or self.batch.is_outdated(receipt.tag) else receipt

    def new_claim(self, number: int, *, realtime: bool = False) -> Claim:
        """Return a claim in this worker's name under the batch's own tag, to be taken."""
        context = self.batch.context
        return Claim(
            number=number,
            tag=self.batch.tag,
            requests=self.batch.chunk.requests,
            claimed_at=context.clock.now(),
            as_of=context.provider.now(),
            attempt=context.attempt,
            owner=self.owner,
            queued_for_lock=self.needs_lock,
            realtime=realtime,
        )

    def succession(self, lost: Claim) -> Claim:
        """Return the claim that takes this one over, to be taken; the former owner then submits nothing more."""
        update = {"number": lost.number + 1, "owner": self.owner, "attempt": self.batch.context.attempt}
        return lost.model_copy(update=update)

    def take(self, claim: Claim) -> bool:
        """Put a claim on disk; False when another worker was first."""
        if self.files.add_claim(claim):
            self.claim = claim
            return True
        return False

    def is_ours(self) -> bool:
        """Tell whether no other worker has taken the claim over, withdrawn it, or set the requests aside."""
        return self.claim is not None and self.files.is_last(self.claim) and self.batch.is_current()

    def check(self) -> None:
        """Stop this worker when another one took its claim over.

        Raises:
            Overtaken: the claim is another worker's.
        """
        if not self.is_ours():
            raise self.overtaken()

    def overtaken(self) -> Overtaken:
        """Return the error for a worker whose claim was taken over."""
        return Overtaken(
            f"Another worker took over what this one was about to submit ({self.files.directory}). No action is needed: "
            "the other one goes on."
        )

    def withdraw(self) -> None:
        """Say that nothing was bought under this worker's claim; another one's stays."""
        if self.claim is not None and self.files.withdraw(self.claim) and self._registry is not None:
            self._registry.withdraw(self.claim.tag)

    def write_receipt(self, claim: Claim, batch_id: str, submitted_at: datetime, *, tentative: bool = False) -> Receipt:
        """Write the receipt and tell the deployment; return the one that counts, which another worker may have written."""
        context = self.batch.context
        receipt = Receipt(
            batch_id=batch_id,
            tag=claim.tag,
            requests=claim.requests,
            submitted_at=submitted_at,
            as_of=context.provider.now(),
            tentative=tentative,
            traceparent=context.signals.traceparent(),
            reserved_at=self.reserved_at(claim),
        )
        if self.files.add_receipt(receipt):
            context.signals.bought(self._bought(receipt))
        else:
            there = self.receipt()
            if there is not None and there.batch_id != batch_id:
                return there
            self.files.replace_receipt(receipt)
        self.register(claim, batch_id, tentative=tentative)
        return receipt

    def _bought(self, receipt: Receipt) -> BatchBought:
        context = self.batch.context
        return BatchBought(provider=context.provider.name, model=self.batch.plan.spec.model, requests=receipt.requests)

    # the deployment

    def reserved_at(self, claim: Claim) -> datetime | None:
        """Return when budgets let the claim in, by the clock of the worker; None where none is set."""
        known = self._registry.get(claim.tag) if self._registry else None
        return known.reserved_at if known else None

    async def reserve(self, claim: Claim) -> None:
        """Tell the deployment of the claim, and let its budgets count the batch; one that has no room withdraws the claim.

        Raises:
            OverBudget: a budget has no room for it.
            Unavailable: others are asking for what is left; come back later.
        """
        try:
            check = BudgetCheck.of(self.batch, claim.tag)
            self.register(claim, check=check)
            if check is not None:
                await check.keep(self.batch.context)
        except (UsageError, Unavailable):
            self.withdraw()
            raise

    def register(
        self, claim: Claim, batch_id: str | None = None, *, tentative: bool = False, check: BudgetCheck | None = None
    ) -> None:
        """Note in the registry what is claimed, or more about it.

        Args:
            check: of the budgets that count it from now on, beside those that do already.
        """
        if self._registry is None:
            return
        context, known = self.batch.context, self._registry.get(claim.tag)
        entry = Entry(
            tag=claim.tag,
            provider=context.provider.name,
            account=account_digest(context.provider.account),
            connection=context.connection,
            label=context.label,
            claim=self.files.claim_uri,
            requests=claim.requests,
            claimed_at=claim.claimed_at,
            as_of=claim.as_of,
            batch_id=batch_id,
            tentative=tentative,
            leave_running=context.policy.leave_running,
            reserved=tuple(dict.fromkeys((*(known.reserved if known else ()), *(check.files if check else ())))),
            reserved_at=check.at if check else known.reserved_at if known else None,
        )
        self._registry.enter(entry)

    async def acquire_submit_lock(self, claim: Claim) -> Claim:
        """Wait until this worker may submit; the claim then says that its batch may be there.

        A batch that was created before the lock was acquired is surely somebody else's.

        Raises:
            Unavailable: others submitted for as long as a worker waits; the claim is withdrawn.
            Overtaken: the claim was taken over meanwhile.
        """
        await self._wait_for_lock(claim)
        self.check()
        if not claim.queued_for_lock:
            return claim
        context = self.batch.context
        times = {"claimed_at": context.clock.now(), "as_of": context.provider.now()}
        begun = self.succession(claim).model_copy(update={"queued_for_lock": False, **times})
        if not self.take(begun):
            raise self.overtaken()
        self.register(begun)
        return begun

    async def _wait_for_lock(self, claim: Claim) -> None:
        assert self._registry is not None  # only where a lock is needed
        context = self.batch.context
        try:
            await self._registry.acquire_submit_lock(
                context.provider.account,
                self.owner,
                Clock(now=context.provider_now, sleep=context.clock.sleep),
                WORKER_RETRY_BUDGET,
                claim.tag,
            )
        except Unavailable:
            self.withdraw()
            raise

    def release_submit_lock(self, claim: Claim) -> None:
        """Let others submit; also in the name of a killed worker, once it is known what became of its claim."""
        if self._registry is not None:
            self._registry.release_submit_lock(self.batch.context.provider.account, claim.owner)

    def free(self, found: list[Candidate], tag: str) -> list[Candidate]:
        """Return those batches that are not another claim's already."""
        left = self.batch.without_siblings(found)
        if self._registry is None:
            return left
        held = self._registry.held_by_others([one.batch_id for one in left], tag)
        free = [one for one in left if one.batch_id not in held]
        if free:
            return free
        # A neighbour may have taken for its own what is ours: then both wait until the answers tell.
        account = self.batch.context.provider.account
        return [one for one in left if not self._registry.is_certain(held[one.batch_id], account, self.owner)]
