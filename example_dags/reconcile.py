"""Look after all batches: cancel those whose task was killed or deleted while no triggerer was there to see it.

Every fifteen minutes, over the accounts of these three connections. `grace` leaves people time to clear a failed task,
which then goes on with its batches. What only a person can decide is told in the log, with the command to decide it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag

from airflow_batch_provider.operators import ReconcileOperator


@dag(
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["batch"],
)
def reconcile():
    ReconcileOperator(
        task_id="reconcile",
        conn_ids=["anthropic_default", "openai_default", "gemini_default"],
        grace=timedelta(hours=1),
    )


reconcile()
