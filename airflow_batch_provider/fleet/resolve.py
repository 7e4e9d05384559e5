"""A person's word about a claim that nobody could decide: this batch is it, or there is none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound, Unresolved, UsageError
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.fleet.reconcile import receipt_of
from airflow_batch_provider.providers.base import BatchQuery
from airflow_batch_provider.timing import CLOCK_SKEW, GONE_AFTER, LIST_LAG

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.fleet.deployment import AskAirflow, Deployment
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.records import Claim, Receipt
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)


class Resolver:
    """Settles claims by hand.

    Args:
        ask: tells the state of a task instance by Airflow; a task that is still at work settles its claims itself.
    """

    def __init__(self, deployment: Deployment, ask: AskAirflow, clock: Clock) -> None:
        self._deployment = deployment
        self._registry = deployment.registry
        self._ask = ask
        self._clock = clock

    def entry(self, tag: str) -> Entry:
        """Return the open batch of this tag.

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
        files = self._files(entry)
        receipt = files.receipt_under(tag)
        if receipt is not None and receipt.batch_id != batch_id:
            raise _settled(entry, receipt, files)
        _check_claimed(entry, files)
        if receipt is not None:
            return receipt
        status = await _status(batch_id, provider)
        self._check_fit(entry, status)
        receipt = receipt_of(entry, status.batch_id, tentative=status.tag != tag)
        if not files.add_receipt(receipt):
            raise UsageError(f"Batch {tag!r} was given a receipt a moment ago. See: airflow batches list.")
        self._registry.enter(entry.model_copy(update={"batch_id": receipt.batch_id, "tentative": receipt.tentative}))
        log.info("Batch %s is %s of %s from now on.", batch_id, tag, entry.label)
        return receipt

    async def absent(self, tag: str, provider: BatchProvider) -> Entry:
        """Withdraw the claim, so that a clear of the task buys the batch.

        Raises:
            UsageError: the provider has it, or may still show it.
        """
        entry = self.entry(tag)
        files = self._files(entry)
        if receipt := files.receipt_under(tag):
            await self._check_gone(entry, receipt, files, provider)
        claim = _check_claimed(entry, files)
        age = self._clock.now() - entry.claimed_at
        if age < LIST_LAG:
            raise UsageError(
                f"Batch {tag!r} was claimed {age.total_seconds():.0f} s ago and may not be visible yet. Wait a minute."
            )
        if found := await _certain(entry, provider):
            raise UsageError(
                f"{provider.name} has batch {found!r} under the tag {tag!r}, so it is not absent. Adopt it: airflow "
                f"batches adopt {tag} {found}."
            )
        if receipt is not None:
            files.delete_receipt()  # first: a claim without receipt is searched for, a receipt without claim would count
        files.withdraw(claim)
        self._registry.withdraw(tag)
        log.info("The claim of %s by %s is withdrawn.", tag, entry.label)
        return entry

    def _files(self, entry: Entry) -> BatchFiles:
        """Return the files of a batch that its task does not take care of any more."""
        if self._ask(task_of(entry)) == "waiting":
            raise UsageError(
                f"Task {entry.label!r} has not ended, so it settles batch {entry.tag!r} itself. If it cannot, mark it failed "
                "first."
            )
        return self._deployment.files(entry)

    async def _check_gone(self, entry: Entry, receipt: Receipt, files: BatchFiles, provider: BatchProvider) -> None:
        """Refuse unless the provider does not know a batch that it once had."""
        if self._clock.now() - receipt.submitted_at <= GONE_AFTER:
            raise _settled(entry, receipt, files)
        try:
            await provider.status(receipt.batch_id)
        except NotFound:
            return
        raise _settled(entry, receipt, files)

    def _check_fit(self, entry: Entry, status: BatchStatus) -> None:
        """Refuse a batch that cannot be the claimed one."""
        what = f"Batch {status.batch_id!r}"
        remedy = f"Look for another, or say that there is none: airflow batches absent {entry.tag}."
        if status.tag not in (None, entry.tag):
            raise UsageError(f"{what} carries the tag {status.tag!r}, not {entry.tag!r}. {remedy}")
        if self._registry.held_by_others([status.batch_id], entry.tag):
            raise UsageError(f"{what} belongs to another open claim. {remedy}")
        if status.created_at is not None and status.created_at < entry.earliest - CLOCK_SKEW:
            raise UsageError(
                f"{what} was created {status.created_at:%F %T}, before the claim of {entry.claimed_at:%F %T}. {remedy}"
            )
        total = status.counts.total if status.counts else 0
        if total and total != entry.requests:
            raise UsageError(f"{what} has {total} requests, not {entry.requests} like {entry.tag!r}. {remedy}")
        if not total and status.tag is None:
            raise UsageError(f"{what} does not say its number of requests yet. Try again in a minute.")


async def _status(batch_id: str, provider: BatchProvider) -> BatchStatus:
    try:
        return await provider.status(batch_id)
    except NotFound as error:
        raise UsageError(
            f"{provider.name} knows no batch {batch_id!r} under this connection. Copy the id from the provider's console, and "
            "check that the connection is the task's."
        ) from error


def _settled(entry: Entry, receipt: Receipt, files: BatchFiles) -> UsageError:
    return UsageError(
        f"Batch {entry.tag!r} is settled: it is {receipt.batch_id!r}. Clear task {entry.label!r} to go on with "
        f"it; if that is wrong, delete {files.receipt_uri} and say so again."
    )


def _check_claimed(entry: Entry, files: BatchFiles) -> Claim:
    claim = files.claim_under(entry.tag)
    if claim is None:
        raise UsageError(f"Batch {entry.tag!r} of {entry.label!r} is not claimed any more. No action is needed.")
    return claim


async def _certain(entry: Entry, provider: BatchProvider) -> str | None:
    """Return the id of a batch that surely is the claimed one."""
    query = BatchQuery(entry.tag, entry.earliest, entry.requests, f"{entry.tag}-")
    try:
        found = await provider.find(query)
    except Unresolved as error:
        log.warning("%s", error)  # the list is too long to be sure; the person has looked
        return None
    return next((one.batch_id for one in found if one.certain), None)
