"""What a task that waits takes of Airflow's limits: its pool, `max_active_tis_per_dag`, `max_active_tasks`, its queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from airflow.jobs.scheduler_job_runner import ConcurrencyMap
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG
from airflow.sdk.definitions import dag as running
from airflow.sdk.execution_time import supervisor
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))
LIMITS = {"pool": "providers", "pool_slots": 3, "queue": "big", "priority_weight": 7}


@dataclass
class Counted:
    """What Airflow's scheduler counts while the task is deferred.

    Attributes:
        limits: those of the task, as they are in the database then.
        queue: which triggerers may run the trigger; None lets all of them.
    """

    pool: Any
    of_the_task: int
    of_the_run: int
    limits: dict[str, Any]
    queue: str | None = None


def limits_of(row: TaskInstance) -> dict[str, Any]:
    return {name: getattr(row, name) for name in LIMITS}


def counted(row, session) -> Counted:
    scheduler = ConcurrencyMap()
    scheduler.load(session=session)
    return Counted(
        Pool.slots_stats(session=session)["providers"],
        scheduler.task_concurrency_map[row.dag_id, row.task_id],
        scheduler.dag_run_active_tasks_map[row.dag_id, row.run_id],
        limits_of(row),
    )


@pytest.fixture
def seen(monkeypatch):
    """What is counted at each deferral, and what the worker handed over in it."""
    found, handed = [], []

    def run(**given):
        done = run_task(**given)
        handed.append(done.msg)
        return done

    def look(trigger, ti):
        with create_session() as session:
            row = session.get(TaskInstance, ti.id)
            row.state = TaskInstanceState.DEFERRED  # as the worker left it, before `dag.test` runs the trigger
            session.flush()
            found.append(counted(row, session))
            found[-1].queue = handed[-1].queue
            row.state = TaskInstanceState.QUEUED
        return run_trigger(trigger, ti)

    run_task, run_trigger = supervisor.run_task_in_process, running._run_inline_trigger
    monkeypatch.setattr(supervisor, "run_task_in_process", run)
    monkeypatch.setattr(running, "_run_inline_trigger", look)
    return found


@pytest.fixture
def ran(tested, connections, seen):
    """Runs a task in a pool of four slots to its end, and returns what was counted while it was deferred."""

    def run(dag_id, *, include_deferred=False):
        with create_session() as session:
            Pool.create_or_update_pool("providers", 4, "", include_deferred, session=session)
        with DAG(dag_id, schedule=None) as dag:
            BatchGenerateOperator(
                task_id="ask", model="claude-sonnet-4-5", requests=["a"], poll=SOON, retries=0, **LIMITS
            )
        done = tested(dag)
        assert done.state("ask") == "success", done.log
        assert limits_of(done.run.get_task_instances()[0]) == LIMITS
        [one] = seen
        return one

    return run


@pytest.mark.parametrize(("include_deferred", "left"), [(False, 4), (True, 1)])
def test_a_task_that_waits_holds_slots_only_of_a_pool_that_counts_deferred_ones(ran, include_deferred, left):
    """As many as it has; its limits are as they were when it goes on."""
    counted = ran(f"pool_{include_deferred}", include_deferred=include_deferred)

    assert (counted.pool["open"], counted.pool["deferred"]) == (left, 3)
    assert counted.limits == LIMITS


def test_a_task_that_waits_counts_for_its_own_limit_and_not_for_that_of_the_run(ran):
    """`max_active_tis_per_dag` and `max_active_tis_per_dagrun`, but not `max_active_tasks`."""
    counted = ran("active")

    assert (counted.of_the_task, counted.of_the_run) == (1, 0)


@pytest.mark.parametrize(("enabled", "queue"), [("False", None), ("True", "big")])
def test_a_trigger_goes_to_the_triggerers_of_its_tasks_queue_where_airflow_is_told_so(ran, monkeypatch, enabled, queue):
    """Elsewhere every triggerer may have it."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", enabled)

    assert ran(f"queues_{enabled}").queue == queue
