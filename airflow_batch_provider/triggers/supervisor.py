"""What a trigger asks of Airflow while it runs: its task's state, and a place for a progress record."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_batch_provider.stages import TaskKey

log = logging.getLogger(__name__)

# The first message in a triggerer's life builds Airflow's API in process, which was seen to take 8 seconds; a message
# of a kind that the supervisor does not know is never answered at all. Seconds.
PATIENCE = 60.0

# States in which nobody waits for the batch any more. In all others a newer try, or another triggerer, owns it:
# Airflow also calls `on_kill` of a live trigger which another triggerer took over after a stall.
TERMINAL = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})

PROGRESS = "batch_progress"


async def task_state(task: TaskKey) -> str | None:
    """The state of the task instance in Airflow's own words, None when Airflow does not tell."""
    from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415 — known in a running trigger only

    reply = await _ask(
        GetTaskStates(
            dag_id=task.dag_id,
            run_ids=[task.run_id],
            task_ids=[task.task_id],
            map_index=task.map_index,
        )
    )
    states = getattr(reply, "task_states", {}).get(task.run_id) or {}
    name = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
    found = states.get(name)
    return None if found is None else str(getattr(found, "value", found))


async def publish_progress(task: TaskKey, record: dict[str, Any]) -> None:
    """Put a small record where people see it; nothing depends on it, so a refusal is no error."""
    from airflow.sdk.execution_time.comms import SetXCom  # noqa: PLC0415

    try:
        await _ask(
            SetXCom(
                key=PROGRESS,
                value=record,
                dag_id=task.dag_id,
                run_id=task.run_id,
                task_id=task.task_id,
                map_index=task.map_index,
            )
        )
    except Exception:  # whatever Airflow has against it, the batch goes on
        log.debug("Progress of %s was not published", task, exc_info=True)


async def _ask(message: Any) -> Any:
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    comms: Any = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if not hasattr(comms, "asend"):
        return None  # `dag.test` has no asynchronous way
    return await asyncio.wait_for(comms.asend(message), PATIENCE)


def threads_may_ask() -> bool:
    """Whether a thread of this process may ask Airflow for a connection.

    In the triggerer of Airflow before 3.2.2 such a question ends the process (its replies arrive out of order); the
    later one reads its replies in a task of its own, started by `start_reader`.
    """
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return not hasattr(comms, "asend") or hasattr(comms, "start_reader")
