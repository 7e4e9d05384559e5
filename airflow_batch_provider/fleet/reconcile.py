"""Batches that nobody waits for: found in the registry and at the providers, with an action for each.

A task that is killed while no triggerer runs, a deleted DAG run, a worker lost between claim and receipt: in each case
the provider works on, and bills, for nobody. A batch that a task still waits for is never touched.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Unresolved
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.fleet.findings import Evidence, Finding, decide, decide_locally
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.ledger.records import Receipt
from airflow_batch_provider.providers import connected
from airflow_batch_provider.providers.base import BatchQuery
from airflow_batch_provider.providers.listing import whole
from airflow_batch_provider.registry import account_digest
from airflow_batch_provider.timing import LOOK_BACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.fleet.deployment import AskAirflow, Deployment
    from airflow_batch_provider.models import Account, BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)

# How our tags begin: the nonce of a plan or of a client's submission.
OURS = re.compile(r"[0-9a-f]{12}-")


@dataclass(frozen=True)
class Rules:
    """How far a reconciliation goes.

    Attributes:
        grace: how long a task must have been over, as seen by reconciliations that act, before its batches are cancelled.
        cancel_orphans: cancel running batches under tags like ours that the registry does not know.
    """

    grace: timedelta = timedelta(0)
    cancel_orphans: bool = False


class Reconciler:
    """Compares the registry with the providers and with Airflow.

    Args:
        ask: tells the state of a task instance by Airflow; blocking.
    """

    def __init__(self, deployment: Deployment, ask: AskAirflow, clock: Clock, rules: Rules | None = None) -> None:
        self._deployment = deployment
        self._registry = deployment.registry
        self._ask = ask
        self._clock = clock
        self._rules = rules or Rules()

    async def run(self, accounts: Iterable[Account], *, act: bool) -> list[Finding]:
        """Look through these accounts and, when told to, act; opens their clients and closes them."""
        async with connected(accounts) as providers:
            findings = await self.examine(providers)
            return await self.act(findings, providers) if act else findings

    async def examine(self, providers: Sequence[BatchProvider]) -> list[Finding]:
        """Return the action for each batch; change nothing.

        Args:
            providers: an open client for each account to look through.
        """
        # Providers first, then the registry: a batch is entered in the registry before it is bought.
        accounts = [await _Account.open(provider, self._clock.now() - LOOK_BACK) for provider in providers]
        findings = []
        for tag in self._registry.tags():
            entry = None
            try:
                entry = self._registry.get(tag)
                if entry is not None:  # it may have landed meanwhile
                    findings.append(await self._decide(entry, accounts))
            except BatchError as error:
                findings.append(_trouble(tag, entry, error))
        known = {finding.batch_id for finding in findings}
        for account in accounts:
            findings += account.trouble
            findings += [self._orphan(status, account) for status in account.orphans() if status.batch_id not in known]
        return findings

    async def act(self, findings: Iterable[Finding], providers: Sequence[BatchProvider]) -> list[Finding]:
        """Do what the findings say; each is examined once more right before, and left alone when its task waits again."""
        self._note_over(findings := list(findings))
        acted = []
        for finding in findings:
            try:
                acted.append(await self._act(finding, providers))
            except BatchError as error:
                acted.append(finding.model_copy(update={"action": "report", "why": f"{finding.why} Failed: {error}"}))
        return acted

    # examining

    async def _decide(self, entry: Entry, accounts: Sequence[_Account]) -> Finding:
        evidence = self._evidence(entry)
        if early := decide_locally(evidence):
            return early
        account = next((one for one in accounts if one.has(entry)), None)
        if account is None:
            why = "None of the given connections reaches its account: name the one that does."
            return evidence.finding("report", why)
        evidence = await account.fill(evidence)
        held = self._registry.held_by_others(evidence.doubtful, entry.tag)
        mine = tuple(one for one in evidence.doubtful if one not in held)
        return decide(replace(evidence, doubtful=mine), self._rules.grace)

    def _evidence(self, entry: Entry) -> Evidence:
        """Return what files and Airflow say; files of another tag in the same place are not the batch's own."""
        files = self._deployment.files(entry)
        return Evidence(
            entry=entry,
            task=self._ask(task_of(entry)),
            now=self._clock.now(),
            claim=files.claim_under(entry.tag),
            receipt=files.receipt_under(entry.tag),
            has_landed=self._has_landed(entry),
            deadline_runs=TaskFiles(self._deployment.ledger(entry)).clock_runs(),
            over_since=self._registry.over_since(entry.tag),
        )

    def _has_landed(self, entry: Entry) -> bool:
        files = self._deployment.files(entry)
        return files.claim_under(entry.tag) is not None and files.has_landed()

    def _orphan(self, status: BatchStatus, account: _Account) -> Finding:
        entry = self._registry.get(status.tag or "")
        return Finding(
            action="cancel" if self._rules.cancel_orphans else "report",
            provider=account.provider.name,
            tag=status.tag or "",
            label=entry.label if entry else None,
            batch_id=status.batch_id,
            status=status.status,
            why="Its tag is like ours, but the registry does not have it: another deployment's, or lost."
            if entry is None
            else "It is a second batch under this tag.",
        )

    # acting

    def _note_over(self, findings: Sequence[Finding]) -> None:
        """Remember since when tasks are over."""
        marked = set(self._registry.marked_over())
        over = {finding.tag for finding in findings if finding.label and finding.task in ("over", "gone")}
        for tag in over - marked:
            self._registry.mark_over(tag, self._clock.now())
        for tag in marked - over:
            self._registry.unmark_over(tag)

    async def _act(self, finding: Finding, providers: Sequence[BatchProvider]) -> Finding:
        if finding.action not in ("adopt", "cancel", "forget"):
            return finding
        entry = self._registry.get(finding.tag)
        if finding.task in ("over", "gone") and (entry is None or self._ask(task_of(entry)) == "waiting"):
            return finding.model_copy(update={"action": "keep", "why": "Its task took it up again."})
        if entry is not None and finding.task is not None:
            self._act_on_entry(finding, entry)
        if finding.action == "cancel" and not await self._cancel(finding, entry, providers):
            return finding.model_copy(update={"action": "report", "why": f"{finding.why} It was not found to cancel."})
        log.info(
            "%s: %s batch %s of %s. %s", finding.action, finding.provider, finding.batch_id, finding.label, finding.why
        )
        return finding.model_copy(update={"done": True})

    def _act_on_entry(self, finding: Finding, entry: Entry) -> None:
        if finding.action == "forget":
            if finding.status is None and not self._has_landed(entry):
                self._registry.withdraw(entry.tag)
            else:  # what ran is paid, whether or not anybody lands it
                self._registry.leave(entry.tag)
            self._registry.unmark_over(entry.tag)
        elif finding.batch_id is not None:
            files = self._deployment.files(entry)
            if files.claim_under(entry.tag) and not files.receipt_under(entry.tag):
                files.add_receipt(receipt_of(entry, finding.batch_id))
            if entry.batch_id != finding.batch_id:
                self._registry.enter(entry.model_copy(update={"batch_id": finding.batch_id}))

    async def _cancel(self, finding: Finding, entry: Entry | None, providers: Sequence[BatchProvider]) -> bool:
        reaching = [one for one in providers if entry and account_digest(one.account) == entry.account]
        for provider in reaching or [one for one in providers if one.name == finding.provider]:
            statuses = whole(await provider.statuses([finding.batch_id or ""]))
            if any(_is(status, finding.tag) for status in statuses.values()):
                await provider.cancel(finding.batch_id or "")
                return True
        return False


class _Account:
    """One account at its provider: the batches it lists, and the entries it answers for."""

    def __init__(self, provider: BatchProvider) -> None:
        self.provider = provider
        self.trouble: list[Finding] = []
        self._tagged: dict[str, list[BatchStatus]] = defaultdict(list)

    @classmethod
    async def open(cls, provider: BatchProvider, since: datetime) -> _Account:
        """Read the list of the account."""
        account = cls(provider)
        try:
            async for status in provider.tagged(since):
                if status.tag and OURS.match(status.tag):
                    account._tagged[status.tag].append(status)
        except BatchError as error:
            why = f"Its batches cannot be listed: {error}"
            account.trouble.append(Finding(action="report", provider=provider.name, tag="", why=why))
        return account

    def has(self, entry: Entry) -> bool:
        """Tell whether the entry's batch is at this account: bought with its key, or with an earlier one that it replaced."""
        return account_digest(self.provider.account) == entry.account or (
            self.provider.name == entry.provider and entry.tag in self._tagged
        )

    def orphans(self) -> Iterator[BatchStatus]:
        """Return the listed batches that run."""
        for statuses in self._tagged.values():
            yield from (status for status in statuses if not status.ended)

    async def fill(self, evidence: Evidence) -> Evidence:
        """Add to the evidence what the provider shows of the batch.

        Raises:
            BatchError: the provider does not answer, or refuses.
        """
        receipt, claim, entry = evidence.receipt, evidence.claim, evidence.entry
        listed = tuple(self._tagged.get(entry.tag, ()))
        known = receipt.batch_id if receipt else None if claim else entry.batch_id
        if known is None and listed:
            return replace(evidence, statuses=listed)
        if known is not None:
            return replace(evidence, statuses=await self._statuses(entry.tag, known))
        if claim is None or claim.queued_for_lock or claim.realtime:
            return evidence
        query = BatchQuery(entry.tag, entry.earliest, entry.requests, f"{entry.tag}-")
        found = await self.provider.find(query)
        certain = whole(await self.provider.statuses([one.batch_id for one in found if one.certain]))
        doubtful = tuple(one.batch_id for one in found if not one.certain)
        return replace(evidence, statuses=tuple(certain.values()), doubtful=doubtful)

    async def _statuses(self, tag: str, batch_id: str) -> tuple[BatchStatus, ...]:
        statuses = whole(await self.provider.statuses([batch_id]))
        for status in statuses.values():
            if not _is(status, tag):
                raise Unresolved(f"Batch {batch_id!r} carries the tag {status.tag!r}, not {tag!r}.")
        return tuple(statuses.values())


def _trouble(tag: str, entry: Entry | None, error: BatchError) -> Finding:
    return Finding(
        action="report",
        provider=entry.provider if entry else "?",
        tag=tag,
        label=entry.label if entry else None,
        batch_id=entry.batch_id if entry else None,
        why=str(error),
    )


def _is(status: BatchStatus, tag: str) -> bool:
    """Return False when the provider shows another tag; some that speak OpenAI's language show none."""
    return status.tag in (None, tag)


def receipt_of(entry: Entry, batch_id: str, *, tentative: bool = False) -> Receipt:
    """Return the receipt that makes a batch the claimed one."""
    return Receipt(
        batch_id=batch_id,
        tag=entry.tag,
        requests=entry.requests,
        submitted_at=entry.claimed_at,
        as_of=entry.as_of,
        tentative=tentative,
        reserved_at=entry.reserved_at,
    )
