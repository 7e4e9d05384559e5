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
    """Opens the provider's console at the oldest open batch, or at the last that landed; the page links every batch."""

    @property
    def name(self) -> str:
        """The button's label."""
        return "Provider console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 — Airflow's signature
        """Return the console's address, an empty one where there is none."""
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415 — sets up the backend, which a DAG file needs not

        record = XCom.get_one(
            key=PROGRESS,
            dag_id=ti_key.dag_id,
            run_id=ti_key.run_id,
            task_id=ti_key.task_id,
            map_index=_map_index(ti_key),
        )
        return console_of(record)


def console_of(record: Any) -> str:
    """Return the console's address for a progress record of whatever shape, an empty one where it names none."""
    if not isinstance(record, dict):
        return _NONE
    shown = [*(record.get("batches") or ()), *reversed(record.get("landed") or ())]
    urls = (batch.get("url") for batch in shown if isinstance(batch, dict))
    return next((url for url in urls if isinstance(url, str) and url.startswith(("https://", "http://"))), _NONE)


def _map_index(ti_key: TaskInstanceKey) -> int:
    return -1 if ti_key.map_index is None else ti_key.map_index
