"""The links of this package's operators; Airflow asks for them whenever a worker lets go of a task, also to defer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.operatorlink import BaseOperatorLink

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.links.page import page_url
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.host import PROGRESS

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

# Airflow asks for all links of a task one after the other; each would be one more call of its API for the same record. The
# first link reads it again.
_SEEN: dict[TaskKey, list[str]] = {}
# Airflow shows no button for an empty address.
_NONE = ""


class BatchLink(BaseOperatorLink):
    """Opens the page of batches at this task instance."""

    @property
    def name(self) -> str:
        """The button's label."""
        return "Batch"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 — Airflow's signature
        """Return the page's address."""
        task = TaskKey(ti_key.dag_id, ti_key.run_id, ti_key.task_id, _map_index(ti_key))
        return page_url(settings.base_url(), task)


class ConsoleLink(BaseOperatorLink):
    """Opens the provider's console at one batch of the task: the open ones from the oldest, then those that landed last.

    Airflow fixes the number and the names of a task's links when it parses the DAG, before anybody knows of batches, so that
    there are a few of them (`CONSOLE_LINKS`), of which it shows those that lead somewhere; the page links every batch.

    Args:
        place: of the batch, from 0.
    """

    def __init__(self, place: int = 0) -> None:
        self._place = place

    @property
    def name(self) -> str:
        """The button's label."""
        return "Provider console" + self._number

    @property
    def xcom_key(self) -> str:
        """The XCom in which Airflow keeps the address."""
        return "_link_ConsoleLink" + self._number.replace(" ", "_")

    @property
    def _number(self) -> str:
        return f" {self._place + 1}" if self._place else ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 — Airflow's signature
        """Return the console's address, an empty one where there is none."""
        task = TaskKey(ti_key.dag_id, ti_key.run_id, ti_key.task_id, _map_index(ti_key))
        urls = _SEEN.get(task) if self._place else None
        if urls is None:
            urls = consoles_of(_record_of(task))
            _SEEN.clear()
            _SEEN[task] = urls  # another thread may clear it at any moment
        return next(iter(urls[self._place :]), _NONE)


# Most tasks have one batch: it takes tens of thousands of rows.
CONSOLE_LINKS = tuple(map(ConsoleLink, range(4)))


def consoles_of(record: Any) -> list[str]:
    """Return the console's addresses for a progress record of whatever shape, each once."""
    if not isinstance(record, dict):
        return []
    shown = [*_listed(record, "batches"), *reversed(_listed(record, "landed"))]
    urls = (batch.get("url") for batch in shown if isinstance(batch, dict))
    return list(dict.fromkeys(url for url in urls if isinstance(url, str) and url.startswith(("https://", "http://"))))


def _record_of(task: TaskKey) -> Any:
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415 — sets up the backend, which a DAG file needs not

    return XCom.get_one(
        key=PROGRESS, dag_id=task.dag_id, run_id=task.run_id, task_id=task.task_id, map_index=task.map_index
    )


def _listed(record: dict[str, Any], name: str) -> list[Any]:
    value = record.get(name)
    return value if isinstance(value, list) else []


def _map_index(ti_key: TaskInstanceKey) -> int:
    return -1 if ti_key.map_index is None else ti_key.map_index
