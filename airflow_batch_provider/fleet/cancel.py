"""A person's word that batches of a task are not wanted any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.exceptions import BatchError, UsageError
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.frozen import FrozenModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.fleet.deployment import AskAirflow, Deployment, TaskState
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)


class Cancellation(FrozenModel):
    """One open batch of the tasks that a person named.

    Attributes:
        action: `cancel`; `skip` one that cannot be; `cancelled` once it is, `failed` when the provider refused.
        why: one sentence.
    """

    action: Literal["cancel", "skip", "cancelled", "failed"]
    tag: str
    provider: str
    batch_id: str | None
    label: str
    requests: int
    task_is: str
    why: str


class Canceller:
    """Finds and cancels the open batches of tasks.

    Args:
        ask: tells the state of a task instance by Airflow.
        even_if_waiting: also batches that a task waits for, which may then ask their rows again.
    """

    def __init__(self, deployment: Deployment, ask: AskAirflow, *, even_if_waiting: bool = False) -> None:
        self._deployment = deployment
        self._ask = ask
        self._even_if_waiting = even_if_waiting

    def entries(self, dag_id: str, run_id: str, task_id: str | None, map_index: int | None) -> list[Entry]:
        """Return the open batches of one run's tasks.

        Args:
            task_id: None takes all tasks of the run.
            map_index: None takes all instances of a mapped task.
        """
        found = []
        for entry in self._deployment.registry.entries():
            try:
                task = task_of(entry)
            except UsageError as error:
                log.warning("%s", error)
                continue
            if (task.dag_id, task.run_id) != (dag_id, run_id) or task_id not in (None, task.task_id):
                continue
            found += [entry] if map_index in (None, task.map_index) else []
        return found

    def plan(self, entries: Iterable[Entry]) -> list[Cancellation]:
        """Return the action for each batch; nothing is changed."""
        return [self._planned(entry) for entry in entries]

    def _planned(self, entry: Entry) -> Cancellation:
        state = self._ask(task_of(entry))
        why = self._obstacle(entry, state)
        return Cancellation(
            action="skip" if why else "cancel",
            tag=entry.tag,
            provider=entry.provider,
            batch_id=entry.batch_id,
            label=entry.label,
            requests=entry.requests,
            task_is=state,
            why=why or "What has finished by then is paid, and a clear of its task lands it.",
        )

    def _obstacle(self, entry: Entry, state: TaskState) -> str | None:
        if entry.batch_id is None:
            return "It is claimed, and not known at the provider: 'batches reconcile' looks for it."
        if entry.tentative:
            return "It is ours by its time and size only: cancel it at the provider."
        if state == "waiting" and not self._even_if_waiting:
            return (
                "Its task waits and may ask its rows again: mark the task failed in Airflow, which cancels its batches."
            )
        return None

    async def cancel(self, planned: Cancellation, provider: BatchProvider) -> Cancellation:
        """Cancel one batch at its provider; return what became of it."""
        if planned.action != "cancel" or planned.batch_id is None:
            return planned
        try:
            await provider.cancel(planned.batch_id)
        except BatchError as error:
            return planned.model_copy(update={"action": "failed", "why": str(error)})
        log.info("Cancelled batch %s of %s.", planned.batch_id, planned.label)
        return planned.model_copy(update={"action": "cancelled"})
