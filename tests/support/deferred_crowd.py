"""Defers the tasks of a run without workers, in one process on Airflow's database: what starting each costs is measured elsewhere.

    python deferred_crowd.py RUN_ID CONN_ID MODEL

Each task buys its batch through the operator, as on a worker; its row and its trigger are then written as the execution
API writes them (Airflow 3.3.2, `api_fastapi/execution_api/routes/task_instances.py`).
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import timezone
from airflow.sdk.exceptions import TaskDeferred
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import select

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

# As many as the cluster's workers run.
_AT_ONCE = 8
_POLL = PollConfig(interval=timedelta(seconds=10), max_wait=timedelta(hours=6))


class Running:
    """What a running task knows of itself; its progress record is not kept."""

    def __init__(self, row: TaskInstance) -> None:
        self.dag_id, self.run_id, self.task_id = row.dag_id, row.run_id, row.task_id
        self.map_index, self.try_number = row.map_index, 1

    def xcom_push(self, key: str, value: Any) -> None:
        """Nobody reads it."""


def deferral(task: Running, *, conn_id: str, model: str) -> TaskDeferred:
    """Run a task until it defers."""
    requests = [f"row of {task.map_index}"]
    operator = BatchGenerateOperator(task_id=task.task_id, conn_id=conn_id, model=model, requests=requests, poll=_POLL)
    try:
        operator.execute({"ti": task})
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError(f"task {task.map_index} did not defer")


def defer(session: Any, row: TaskInstance, deferred: TaskDeferred) -> None:
    """Write what the execution API writes for a task that defers."""
    trigger = Trigger(*deferred.trigger.serialize())
    session.add(trigger)
    session.flush()
    row.start_date, row.try_number = timezone.utcnow(), 1
    row.state, row.trigger_id = TaskInstanceState.DEFERRED, trigger.id
    row.next_method, row.next_kwargs = deferred.method_name, {}
    assert isinstance(deferred.timeout, timedelta)
    row.trigger_timeout = timezone.utcnow() + deferred.timeout


def main(run_id: str, conn_id: str, model: str) -> None:
    with create_session() as session:
        rows = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)).all()
        with ThreadPoolExecutor(_AT_ONCE) as workers:
            deferrals = list(
                workers.map(partial(deferral, conn_id=conn_id, model=model), [Running(row) for row in rows])
            )
        for row, deferred in zip(rows, deferrals, strict=True):
            defer(session, row, deferred)
        rows[0].dag_run.state, rows[0].dag_run.start_date = DagRunState.RUNNING, timezone.utcnow()


if __name__ == "__main__":
    main(*sys.argv[1:])
