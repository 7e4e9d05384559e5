"""The action for one batch, decided from the evidence of the ledger, the provider and Airflow; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import BatchState
from airflow_batch_provider.timing import GONE_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from airflow_batch_provider.fleet.deployment import TaskState
    from airflow_batch_provider.ledger.records import Claim, Receipt
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.registry import Entry

Action = Literal["keep", "adopt", "cancel", "forget", "report"]


class Finding(FrozenModel):
    """One batch, and the action for it.

    Attributes:
        action: `keep`: nothing. `adopt`: write the receipt, so that a clear of the task goes on with the batch. `cancel`
            it at the provider. `forget` the registry's entry. `report`: a person must look.
        label: whose batch it is, `dag/run/task[/map_index]`; None where the registry does not know it.
        status: at the provider, None where it was not asked or shows no such batch.
        task: its state by Airflow, None where the registry names none.
        why: one sentence.
        done: True when the action was taken.
    """

    action: Action
    provider: str
    tag: str
    label: str | None = None
    batch_id: str | None = None
    status: BatchState | None = None
    task: Literal["waiting", "over", "gone", "unknown"] | None = None
    why: str
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known about one entry of the registry.

    Attributes:
        task: by Airflow.
        claim: None when it was withdrawn or replaced.
        receipt: None when nobody wrote one.
        has_landed: the rows are here.
        deadline_runs: the task still counts the time until its deadline.
        over_since: when the task was first seen to be over.
        statuses: of the batches at the provider that surely are the claimed one.
        doubtful: ids of batches at the provider that fit only by time and size.
    """

    entry: Entry
    task: TaskState
    now: datetime
    claim: Claim | None = None
    receipt: Receipt | None = None
    has_landed: bool = False
    deadline_runs: bool = False
    over_since: datetime | None = None
    statuses: tuple[BatchStatus, ...] = ()
    doubtful: tuple[str, ...] = ()

    def finding(self, action: Action, why: str) -> Finding:
        """Return the decision about this batch."""
        only = self.statuses[0] if len(self.statuses) == 1 else None
        known = self.receipt.batch_id if self.receipt else self.entry.batch_id
        return Finding(
            action=action,
            provider=self.entry.provider,
            tag=self.entry.tag,
            label=self.entry.label,
            batch_id=only.batch_id if only else known,
            status=only.status if only else None,
            task=self.task,
            why=why,
        )


def decide_locally(evidence: Evidence) -> Finding | None:
    """Return the decision that needs no question to the provider, None when one is needed."""
    if evidence.has_landed:
        return evidence.finding("forget", "Its rows have landed.")
    if evidence.task == "unknown":
        return evidence.finding(
            "report", "Airflow does not know its DAG: another one that shares this storage may wait for it."
        )
    if evidence.task == "waiting" and evidence.claim is not None:
        return evidence.finding("keep", "Its task waits for it.")
    return None


def decide(evidence: Evidence, grace: timedelta) -> Finding:
    """Decide about a batch whose task or claim is over or gone."""
    if evidence.doubtful and not evidence.statuses:
        return evidence.finding("report", _undecided(evidence, evidence.doubtful))
    if len(evidence.statuses) > 1:
        return evidence.finding("report", _undecided(evidence, [status.batch_id for status in evidence.statuses]))
    if not evidence.statuses:
        if evidence.now - evidence.entry.claimed_at < GONE_AFTER:
            return evidence.finding("keep", "The provider does not show it yet.")
        return evidence.finding("forget", "The provider shows no such batch.")
    if evidence.statuses[0].ended:
        return _ended(evidence)
    return _running(evidence, grace)


def _ended(evidence: Evidence) -> Finding:
    if evidence.claim is None or evidence.task != "over":
        return evidence.finding("forget", "It has ended, and nobody will land it.")
    if evidence.receipt is None:
        return evidence.finding("adopt", "It has ended; with a receipt, a clear of its task lands it.")
    return evidence.finding("forget", "It has ended; a clear of its task lands it.")


def _running(evidence: Evidence, grace: timedelta) -> Finding:
    if evidence.task == "waiting":
        return evidence.finding("report", "It runs, but its task lost the claim: cancel it at the provider.")
    if evidence.receipt is not None and evidence.receipt.tentative:
        return evidence.finding(
            "report", "It runs for nobody, and is ours by its time and size only: cancel it by hand."
        )
    if evidence.task == "over" and _was_left(evidence):
        return evidence.finding("keep", "Its task left it running on purpose (on_timeout='leave').")
    since = evidence.over_since or evidence.now
    if evidence.now - since < grace:
        action: Action = "keep" if evidence.receipt or evidence.claim is None else "adopt"
        return evidence.finding(
            action, f"Its task is {evidence.task}; it is cancelled after {since + grace:%Y-%m-%d %H:%M}."
        )
    said = "was deleted" if evidence.task == "gone" else "is over"
    return evidence.finding("cancel", f"It runs, but its task {said}.")


def _undecided(evidence: Evidence, batch_ids: Iterable[str]) -> str:
    return (
        f"Each of these may be it: {', '.join(batch_ids)}. Look at the provider's console, then say which it is: airflow "
        f"batches adopt {evidence.entry.tag} BATCH_ID, or that none is: airflow batches absent {evidence.entry.tag}."
    )


def _was_left(evidence: Evidence) -> bool:
    """Tell whether the deadline passed, and the task was told to leave its batches running then."""
    return evidence.entry.leave_running and not evidence.deadline_runs


def counts(findings: Iterable[Finding]) -> dict[Action, int]:
    """Count the findings by their action."""
    numbers = Counter(finding.action for finding in findings)
    return {action: numbers[action] for action in ("keep", "adopt", "cancel", "forget", "report")}
