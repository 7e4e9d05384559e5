"""The state of a task instance in Airflow's eyes, for those who may cancel its batch: one question, three ways to ask."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow import supervisor

if TYPE_CHECKING:
    from airflow_batch_provider.fleet.deployment import TaskState
    from airflow_batch_provider.models import TaskKey

log = logging.getLogger(__name__)

# States in which nobody waits for the batch any more. In all others a newer try, or another triggerer, owns it:
# Airflow also calls `on_kill` of a live trigger which another triggerer took over after a stall.
TERMINAL = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})


async def ask_from_trigger(task: TaskKey) -> str | None:
    """Ask from a running trigger; returns Airflow's own word, None when Airflow does not say."""
    from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415 — known in a running trigger only

    reply = await supervisor.ask(
        GetTaskStates(
            dag_id=task.dag_id,
            run_ids=[task.run_id],
            task_ids=[task.task_id],
            map_index=task.map_index,
        )
    )
    return _word(_states(getattr(reply, "task_states", {}), task).get(_name(task)))


class AskFromTask:
    """Asks through the running task, because a worker has no database.

    Args:
        context: Airflow's context of that task.
    """

    def __init__(self, context: Any) -> None:
        self._ti = context["ti"]

    def __call__(self, task: TaskKey) -> TaskState:
        """Return what becomes of the task instance; `unknown` where this Airflow has no such DAG at all."""
        reply = self._ti.get_task_states(
            dag_id=task.dag_id, run_ids=[task.run_id], task_ids=[task.task_id], map_index=task.map_index
        )
        states = _states(reply, task)
        if _name(task) not in states:
            return "gone" if self._knows(task.dag_id) else "unknown"
        return _over_or_waiting(states[_name(task)])

    def _knows(self, dag_id: str) -> bool:
        """True when this Airflow has the DAG; where it cannot be asked for it, when it has runs of it."""
        from airflow.sdk.execution_time import comms, task_runner  # noqa: PLC0415 — known in a running task

        question: Any = getattr(comms, "GetDag", None)
        if question is None:
            return bool(self._ti.get_dr_count(dag_id=dag_id))
        try:
            task_runner.SUPERVISOR_COMMS.send(question(dag_id=dag_id))
        except Exception as error:  # noqa: BLE001 — a 404 comes as one error from a worker, as another in `dag.test`
            log.debug("DAG %r is not known: %s", dag_id, error)  # and what is not known is never cancelled
            return False
        return True


def ask_database(task: TaskKey) -> TaskState:
    """Ask Airflow's database, from a process that reaches it; `unknown` where it has no such DAG at all."""
    from airflow.models.dag import DagModel  # noqa: PLC0415 — tasks and triggers may not import Airflow's models
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    with create_session() as session:
        query = select(TaskInstance.state).where(
            TaskInstance.dag_id == task.dag_id,
            TaskInstance.run_id == task.run_id,
            TaskInstance.task_id == task.task_id,
            TaskInstance.map_index == task.map_index,
        )
        for (state,) in session.execute(query):
            return _over_or_waiting(state)
        known = session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == task.dag_id))
    return "unknown" if known is None else "gone"


def _states(reply: dict[str, Any], task: TaskKey) -> dict[str, Any]:
    """The states in Airflow's reply that belong to the task's run."""
    return reply.get(task.run_id) or {}


def _name(task: TaskKey) -> str:
    """How Airflow names the states of mapped tasks."""
    return task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"


def _word(state: Any) -> str | None:
    """A state as a word, which Airflow gives as a text or as a member of its enumeration; None has not been scheduled."""
    return None if state is None else str(getattr(state, "value", state))


def _over_or_waiting(state: Any) -> TaskState:
    return "over" if _word(state) in TERMINAL else "waiting"
