"""The operator that looks for batches which nobody waits for."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.fleet.findings import counts
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.hooks.accounts import open_account
from airflow_batch_provider.operators import settings
from airflow_batch_provider.operators.errors import as_airflow_errors
from airflow_batch_provider.operators.loop import run
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.registry import distinct
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.triggers.supervisor import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.fleet.deployment import TaskState
    from airflow_batch_provider.fleet.findings import Action, Finding
    from airflow_batch_provider.models import TaskKey

log = logging.getLogger(__name__)


class ReconcileOperator(BaseOperator):
    """Cancels batches whose task ended or was deleted unseen, gives lost ones back to their tasks, and tells the rest.

    A batch that a task still waits for is never touched. Run it every few minutes, as one task of its own.

    Args:
        conn_ids: Airflow connections whose accounts are looked through; templated.
        apply: False only tells what would be done.
        cancel_strays: also cancel running batches under tags like ours that this storage does not know; they may belong to
            another Airflow at the same account.
        grace: how long a task must have been over before its batches are cancelled: time to mend and clear it.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default; templated.

    Returns:
        Number of batches by what was found: `keep`, `adopt`, `cancel`, `forget`, `report`; the last are for a person, and
        told in the log.
    """

    template_fields: Sequence[str] = ("conn_ids", "storage_path")
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        conn_ids: Sequence[str] | str,
        apply: bool = True,
        cancel_strays: bool = False,
        grace: timedelta = timedelta(hours=1),
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_ids = [conn_ids] if isinstance(conn_ids, str) else conn_ids
        self.apply = apply
        self.cancel_strays = cancel_strays
        self.grace = grace
        self.storage_path = storage_path
        if not self.conn_ids:
            raise UsageError(f"Task {self.task_id!r} has no conn_ids=: name the connections to look through.")

    def execute(self, context: Context) -> dict[Action, int]:
        """One reconciliation."""
        with as_airflow_errors():
            accounts = distinct(map(open_account, self.conn_ids))
            deployment = Deployment(Directory(open_path(self.storage_path or settings.storage_path())))
            reconciler = Reconciler(deployment, _Asked(context), Clock(), Rules(self.grace, self.cancel_strays))
            findings = run(reconciler.run(accounts, act=self.apply))
        for finding in findings:
            self._tell(finding)
        return counts(findings)

    def _tell(self, finding: Finding) -> None:
        tell = self.log.warning if finding.action == "report" else self.log.info
        done = "" if finding.done or finding.action in ("keep", "report") else " (not done)"
        tell(
            "%s%s: batch %s (%s) of %s at %s. %s",
            finding.action,
            done,
            finding.batch_id,
            finding.tag,
            finding.label,
            finding.provider,
            finding.why,
        )


class _Asked:
    """What Airflow says of task instances, asked through the running task: a worker has no database."""

    def __init__(self, context: Any) -> None:
        self._ti = context["ti"]

    def __call__(self, task: TaskKey) -> TaskState:
        states: dict[str, dict[str, Any]] = self._ti.get_task_states(
            dag_id=task.dag_id, run_ids=[task.run_id], task_ids=[task.task_id], map_index=task.map_index
        )
        name = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
        of_run = states.get(task.run_id) or {}
        if name not in of_run:
            return "gone" if self._knows(task.dag_id) else "unknown"
        state = of_run[name]
        return "over" if state is not None and str(getattr(state, "value", state)) in TERMINAL else "waiting"

    def _knows(self, dag_id: str) -> bool:
        """True when this Airflow has the DAG; where it cannot be asked for it, when it has runs of it."""
        from airflow.sdk.execution_time import comms, task_runner  # noqa: PLC0415 — known in a running task

        ask: Any = getattr(comms, "GetDag", None)
        if ask is None:
            return bool(self._ti.get_dr_count(dag_id=dag_id))
        try:
            task_runner.SUPERVISOR_COMMS.send(ask(dag_id=dag_id))
        except Exception as error:  # noqa: BLE001 — a 404 comes as one error from a worker, as another in `dag.test`
            log.debug("DAG %r is not known: %s", dag_id, error)  # and what is not known is never cancelled
            return False
        return True
