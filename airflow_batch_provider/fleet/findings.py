"""What is to be done about one batch, decided from what the ledger, the provider and Airflow say about it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.models import BatchState, FrozenModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.fleet.deployment import Slot, TaskState
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.registry import Entry

# A batch that no list shows this long after its claim was not bought.
VISIBLE = timedelta(minutes=10)

Action = Literal["keep", "adopt", "cancel", "forget", "report"]


class Finding(FrozenModel):
    """One batch, and what is to be done about it.

    Attributes:
        action: `keep`: nothing. `adopt`: write the receipt, so that a clear of the task goes on with the batch. `cancel`
            it at the provider. `forget` the registry's entry. `report`: a person must look.
        label: whose batch it is, `dag/run/task[/map_index]`; None where the registry knows nothing about it.
        status: at the provider, None where it was not looked at or shows no such batch.
        task: what Airflow thinks of the task, None where the registry names none.
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


@dataclass(frozen=True)
class Case:
    """One entry of the registry, with all that is known about it."""

    entry: Entry
    slot: Slot
    task: TaskState
    now: datetime
    over_since: datetime | None
    statuses: tuple[BatchStatus, ...] = ()
    doubtful: tuple[str, ...] = ()

    def finding(self, action: Action, why: str) -> Finding:
        only = self.statuses[0] if len(self.statuses) == 1 else None
        known = self.slot.receipt.batch_id if self.slot.receipt else self.entry.batch_id
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


def without_provider(case: Case) -> Finding | None:
    """What needs no look at the provider."""
    if case.slot.landed:
        return case.finding("forget", "Its rows have landed.")
    if case.task == "unknown":
        return case.finding(
            "report", "Airflow does not know its DAG: another one that shares this storage may wait for it."
        )
    if case.task == "waiting" and case.slot.claim is not None:
        return case.finding("keep", "Its task waits for it.")
    return None


def verdict(case: Case, grace: timedelta) -> Finding:
    """What is to be done about a batch whose task is over or gone, or whose claim is."""
    if case.doubtful and not case.statuses:
        return case.finding("report", _undecided(case, case.doubtful))
    if len(case.statuses) > 1:
        return case.finding("report", _undecided(case, [status.batch_id for status in case.statuses]))
    if not case.statuses:
        if case.now - case.entry.claimed_at < VISIBLE:
            return case.finding("keep", "The provider does not show it yet.")
        return case.finding("forget", "The provider shows no such batch.")
    if case.statuses[0].ended:
        return _ended(case)
    return _running(case, grace)


def _ended(case: Case) -> Finding:
    if case.slot.claim is None or case.task != "over":
        return case.finding("forget", "It has ended, and nobody will land it.")
    if case.slot.receipt is None:
        return case.finding("adopt", "It has ended; with a receipt, a clear of its task lands it.")
    return case.finding("forget", "It has ended; a clear of its task lands it.")


def _running(case: Case, grace: timedelta) -> Finding:
    if case.task == "waiting":
        return case.finding("report", "It runs, but its task lost the claim: cancel it at the provider.")
    if case.slot.receipt is not None and case.slot.receipt.tentative:
        return case.finding("report", "It runs for nobody, and is ours by its time and size only: cancel it by hand.")
    if case.task == "over" and _left(case.slot):
        return case.finding("keep", "Its task left it running on purpose (on_timeout='leave').")
    since = case.over_since or case.now
    if case.now - since < grace:
        action: Action = "keep" if case.slot.receipt or case.slot.claim is None else "adopt"
        return case.finding(action, f"Its task is {case.task}; it is cancelled after {since + grace:%Y-%m-%d %H:%M}.")
    said = "was deleted" if case.task == "gone" else "is over"
    return case.finding("cancel", f"It runs, but its task {said}.")


def _undecided(case: Case, batch_ids: Iterable[str]) -> str:
    return (
        f"Each of these may be it: {', '.join(batch_ids)}. Look at the provider's console, then say which it is: airflow "
        f"batches adopt {case.entry.tag} BATCH_ID, or that none is: airflow batches absent {case.entry.tag}."
    )


def _left(slot: Slot) -> bool:
    """True when the deadline passed, which removes the clock, and the task was told to leave its batches running then."""
    config = slot.root.read("config.json")
    told = json.loads(config) if config else None
    leaves = isinstance(told, dict) and told.get("on_timeout") == "leave"
    return leaves and not slot.root.exists("clock.json")


def counts(findings: Iterable[Finding]) -> dict[Action, int]:
    """Findings by their action."""
    numbers = Counter(finding.action for finding in findings)
    return {action: numbers[action] for action in ("keep", "adopt", "cancel", "forget", "report")}
