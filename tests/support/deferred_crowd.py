"""Defers the tasks of a run without workers, in one process on Airflow's database: what starting each costs is measured elsewhere.

    python deferred_crowd.py RUN_ID CONN_ID MODEL

Each task buys its batch through the operator, as on a worker; its row and its trigger are then written as the execution
API writes them (Airflow 3.3.2, `api_fastapi/execution_api/routes/task_instances.py`).
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
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


@dataclass
class Running:
    """What a running task knows of itself; its progress record is not kept."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int = 1

    def xcom_push(self, key: str, value: Any) -> None:
        """Nobody reads it."""


@dataclass(frozen=True)
class Deferral:
    """What a task left for its trigger."""

    trigger: tuple[str, dict[str, Any]]
    method: str
    timeout: Any


def deferral(task: Running, *, conn_id: str, model: str) -> Deferral:
    """Run a task until it defers."""
    operator = BatchGenerateOperator(
        task_id=task.task_id,
        conn_id=conn_id,
        model=model,
        requests=[f"row of {task.map_index}"],
        poll=_POLL,
        storage_path=Path(os.environ["AIRFLOW_HOME"], "crowd").as_uri(),
    )
    try:
        operator.execute({"ti": task})
    except TaskDeferred as deferred:
        return Deferral(deferred.trigger.serialize(), deferred.method_name, deferred.timeout)
    raise AssertionError(f"task {task.map_index} did not defer")


def defer(session: Any, row: TaskInstance, deferred: Deferral) -> None:
    """Write what the execution API writes for a task that defers."""
    trigger = Trigger(*deferred.trigger)
    session.add(trigger)
    session.flush()
    row.start_date, row.try_number = timezone.utcnow(), 1
    row.state, row.trigger_id = TaskInstanceState.DEFERRED, trigger.id
    row.next_method, row.next_kwargs = deferred.method, {}
    row.trigger_timeout = timezone.utcnow() + deferred.timeout


def main(run_id: str, conn_id: str, model: str) -> None:
    # The processes are forked before there is a connection to the database that they would share.
    with ProcessPoolExecutor(_AT_ONCE, get_context("fork")) as workers, create_session() as session:
        workers.submit(os.getpid).result()
        rows = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)).all()
        tasks = [Running(row.dag_id, row.run_id, row.task_id, row.map_index) for row in rows]
        began = time.monotonic()
        deferrals = list(workers.map(partial(deferral, conn_id=conn_id, model=model), tasks))
        print(f"{len(rows)} submitted within {time.monotonic() - began:.0f} s, {_AT_ONCE} at a time", file=sys.stderr)
        for row, deferred in zip(rows, deferrals, strict=True):
            defer(session, row, deferred)
        rows[0].dag_run.state, rows[0].dag_run.start_date = DagRunState.RUNNING, timezone.utcnow()


if __name__ == "__main__":
    main(*sys.argv[1:])
