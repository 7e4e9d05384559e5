"""The operator that looks for orphans: batches that nobody waits for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_batch_provider import loop
from airflow_batch_provider.airflow.connections import open_account
from airflow_batch_provider.airflow.deployment import open_deployment
from airflow_batch_provider.airflow.exceptions import as_airflow_errors
from airflow_batch_provider.airflow.task_state import AskFromTask
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.findings import counts
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.registry import distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.fleet.findings import Action, Finding


class ReconcileOperator(BaseOperator):
    """Cancels batches whose task ended or was deleted unseen, gives lost ones back to their tasks, and reports the rest.

    A batch that a task still waits for is never touched. Run it every few minutes, as one task of its own.

    Args:
        conn_ids: Airflow connections whose accounts are searched; templated.
        apply: False only reports what would be done.
        cancel_orphans: also cancel running batches under tags like ours that this storage does not know; they may belong to
            another Airflow at the same account.
        grace: how long a task must have been over before its batches are cancelled: time to fix and clear it.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default; templated.

    The task returns the number of batches by what was found: `keep`, `adopt`, `cancel`, `forget`, `report`; the last are for a
    person, and named in the log.
    """

    template_fields: Sequence[str] = ("conn_ids", "storage_path")
    ui_color = "#e8f0e4"

    def __init__(
        self,
        *,
        conn_ids: Sequence[str] | str,
        apply: bool = True,
        cancel_orphans: bool = False,
        grace: timedelta = timedelta(hours=1),
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_ids = [conn_ids] if isinstance(conn_ids, str) else conn_ids
        self.apply = apply
        self.cancel_orphans = cancel_orphans
        self.grace = grace
        self.storage_path = storage_path
        if not self.conn_ids:
            raise UsageError(f"Task {self.task_id!r} has no conn_ids=: name the connections to search.")

    def execute(self, context: Context) -> dict[Action, int]:
        """Reconcile once."""
        with as_airflow_errors():
            accounts = distinct(open_account(ConnectionRef(conn_id=conn_id)) for conn_id in self.conn_ids)
            deployment = open_deployment(self.storage_path)
            reconciler = Reconciler(deployment, AskFromTask(context), Clock(), Rules(self.grace, self.cancel_orphans))
            findings = loop.run(reconciler.run(accounts, act=self.apply))
        for finding in findings:
            self._log(finding)
        return counts(findings)

    def _log(self, finding: Finding) -> None:
        say = self.log.warning if finding.action == "report" else self.log.info
        done = "" if finding.done or finding.action in ("keep", "report") else " (not done)"
        say(
            "%s%s: batch %s (%s) of %s at %s. %s",
            finding.action,
            done,
            finding.batch_id,
            finding.tag,
            finding.label,
            finding.provider,
            finding.why,
        )
