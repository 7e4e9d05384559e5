"""Messages between a running trigger and the process of Airflow above it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_batch_provider.models import TaskKey

log = logging.getLogger(__name__)

# The first message in a triggerer's life builds Airflow's API in process, which was seen to take 8 seconds; a message
# of a kind that the supervisor does not know is never answered at all. Seconds.
SUPERVISOR_TIMEOUT = 60.0

_T = TypeVar("_T")

# Questions without a reply yet; Python keeps no strong reference to a running task.
_ASKED: set[asyncio.Task[Any]] = set()


async def ask(message: Any) -> Any:
    """Return Airflow's answer; None where there is no asynchronous way to ask, as in `dag.test`."""
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 — known in a running trigger only

    comms: Any = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if not hasattr(comms, "asend"):
        return None
    return await asyncio.wait_for(replied(comms.asend(message)), SUPERVISOR_TIMEOUT)


async def replied(question: Coroutine[Any, Any, _T]) -> _T:
    """Await a question in a task of its own, which takes the reply also when the asker has given up or was cancelled.

    The reply to a question that is cancelled stays in the pipe. Airflow before 3.2.2 gives it to whoever asks next, which ends the
    triggerer ("Response read out of order", 3.1.8); later ones drop it ("Got response for unknown request frame", 3.3.2;
    `TriggerCommsDecoder`).
    """
    asked = asyncio.create_task(question)
    _ASKED.add(asked)
    asked.add_done_callback(_ASKED.discard)
    return await asyncio.shield(asked)


async def publish(task: TaskKey, key: str, record: Any) -> None:
    """Put a small record where people see it; nothing depends on it, so a refusal is only logged."""
    from airflow.sdk.execution_time.comms import SetXCom  # noqa: PLC0415 — known in a running trigger only

    try:
        await ask(
            SetXCom(
                key=key,
                value=record,
                dag_id=task.dag_id,
                run_id=task.run_id,
                task_id=task.task_id,
                map_index=task.map_index,
            )
        )
    except Exception:  # the batch goes on, for any reason that Airflow may give
        log.debug("%s of %s was not published", key, task, exc_info=True)


def threads_may_ask() -> bool:
    """Return whether a thread of this process may ask Airflow for a connection.

    In the triggerer of Airflow before 3.2.2 such a question ends the process (its replies arrive out of order); the
    later one reads its replies in a task of its own, started by `start_reader`.
    """
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return not hasattr(comms, "asend") or hasattr(comms, "start_reader")
