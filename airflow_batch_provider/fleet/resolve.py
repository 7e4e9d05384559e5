"""A person's word about a claim that nobody could decide: this batch is it, or there is none."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound, Unresolved, UsageError
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.fleet.reconcile import receipt_of
from airflow_batch_provider.ledger.submit import GRACE
from airflow_batch_provider.providers.base import BatchQuery

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.fleet.deployment import AskAirflow, Deployment, Slot
    from airflow_batch_provider.ledger.records import Receipt
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)

# The provider's clock and ours may differ so much.
_SKEW = timedelta(minutes=10)


class Resolver:
    """Settles claims by hand.

    Args:
        ask: what Airflow thinks of a task instance; a task that is still at work settles its claims itself.
    """

    def __init__(self, deployment: Deployment, ask: AskAirflow, clock: Clock) -> None:
        self._deployment = deployment
        self._registry = deployment.registry
        self._ask = ask
        self._clock = clock

    def entry(self, tag: str) -> Entry:
        """The open batch of this tag.

        Raises:
            UsageError: there is none.
        """
        entry = self._registry.get(tag)
        if entry is None:
            raise UsageError(
                f"No open batch below {self._deployment.storage} has the tag {tag!r}; `airflow batches list` shows those "
                "that are open. Give --storage-path when the task has a storage_path of its own."
            )
        return entry

    async def adopt(self, tag: str, batch_id: str, provider: BatchProvider) -> Receipt:
        """Write the receipt that makes this batch the claimed one.

        Raises:
            UsageError: it cannot be; says why.
        """
        entry = self.entry(tag)
        slot = self._unsettled(entry, but=batch_id)
        if slot.receipt is not None:
            return slot.receipt
        status = await _look(batch_id, provider)
        self._check_fit(entry, status)
        receipt = receipt_of(entry, status.batch_id, tentative=status.tag != tag)
        if not slot.keep(receipt):
            raise UsageError(f"Batch {tag!r} was given a receipt a moment ago. Look again: airflow batches list.")
        self._registry.enter(entry.model_copy(update={"batch_id": receipt.batch_id, "tentative": receipt.tentative}))
        log.info("Batch %s is %s of %s from now on.", batch_id, tag, entry.label)
        return receipt

    async def absent(self, tag: str, provider: BatchProvider) -> Entry:
        """Withdraw the claim, so that a clear of the task buys the batch.

        Raises:
            UsageError: the provider has it, or may still show it.
        """
        entry = self.entry(tag)
        slot = self._unsettled(entry)
        age = self._clock.now() - entry.claimed_at
        if age < GRACE:
            raise UsageError(
                f"Batch {tag!r} was claimed {age.total_seconds():.0f} s ago and may not be visible yet. Wait a minute."
            )
        if found := await _certain(entry, provider):
            raise UsageError(
                f"{provider.name} has batch {found!r} under the tag {tag!r}, so it is not absent. Adopt it: airflow "
                f"batches adopt {tag} {found}."
            )
        slot.withdraw()
        self._registry.leave(tag)
        log.info("The claim of %s by %s is withdrawn.", tag, entry.label)
        return entry

    def _unsettled(self, entry: Entry, but: str | None = None) -> Slot:
        """The files of a claim without receipt, or with the receipt of the batch `but`."""
        if self._ask(task_of(entry)) == "waiting":
            raise UsageError(
                f"Task {entry.label!r} has not ended, so it settles batch {entry.tag!r} itself. If it cannot, mark it failed "
                "first."
            )
        slot = self._deployment.slot(entry)
        if slot.receipt is not None and slot.receipt.batch_id != but:
            raise UsageError(
                f"Batch {entry.tag!r} is settled: it is {slot.receipt.batch_id!r}. Clear task {entry.label!r} to go on with "
                f"it; if that is wrong, delete {slot.directory.uri(slot.receipt_name)} and say so again."
            )
        if slot.claim is None:
            raise UsageError(
                f"Batch {entry.tag!r} of {entry.label!r} is not claimed any more: nothing is to be settled."
            )
        return slot

    def _check_fit(self, entry: Entry, status: BatchStatus) -> None:
        """Refuse a batch that cannot be the claimed one."""
        what = f"Batch {status.batch_id!r}"
        remedy = f"Look for another, or say that there is none: airflow batches absent {entry.tag}."
        if status.tag not in (None, entry.tag):
            raise UsageError(f"{what} carries the tag {status.tag!r}, not {entry.tag!r}. {remedy}")
        if self._registry.is_of_another(status.batch_id, entry.tag):
            raise UsageError(f"{what} belongs to another open claim. {remedy}")
        if status.created_at is not None and status.created_at < entry.claimed_at - _SKEW:
            raise UsageError(
                f"{what} was created {status.created_at:%F %T}, before the claim of {entry.claimed_at:%F %T}. {remedy}"
            )
        total = status.counts.total if status.counts else 0
        if total and total != entry.requests:
            raise UsageError(f"{what} has {total} requests, not {entry.requests} like {entry.tag!r}. {remedy}")
        if not total and status.tag is None:
            raise UsageError(f"{what} does not tell its number of requests yet. Try again in a minute.")


async def _look(batch_id: str, provider: BatchProvider) -> BatchStatus:
    try:
        return await provider.status(batch_id)
    except NotFound as error:
        raise UsageError(
            f"{provider.name} knows no batch {batch_id!r} under this connection. Copy the id from the provider's console, and "
            "check that the connection is the task's."
        ) from error


async def _certain(entry: Entry, provider: BatchProvider) -> str | None:
    """The id of a batch that surely is the claimed one."""
    wanted = BatchQuery(entry.tag, entry.claimed_at, entry.requests, f"{entry.tag}-")
    try:
        found = await provider.find(wanted)
    except Unresolved as error:
        log.warning("%s", error)  # the list is too long to be sure; the person has looked
        return None
    return next((one.batch_id for one in found if one.certain), None)
