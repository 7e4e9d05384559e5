"""Where the page of batches is, and on which Airflow there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from airflow import __version__
from packaging.version import Version

if TYPE_CHECKING:
    from airflow_batch_provider.models import TaskKey

ROUTE = "llm-batches"

# Earlier ones cannot list XComs by time (`order_by` of `xcomEntries`), nor show a plugin of a provider in the navigation.
_FIRST = (3, 3)
# Earlier ones know no `applies_to`, and would show a tab at every task of every operator.
_FIRST_WITH_TABS = (3, 4)


def has_page(airflow: str = __version__) -> bool:
    """Return whether this version of Airflow can show the page."""
    return Version(airflow).release >= _FIRST


def has_tab(airflow: str = __version__) -> bool:
    """Return whether this version of Airflow shows a tab at tasks of some operators only."""
    return Version(airflow).release >= _FIRST_WITH_TABS


def page_url(base_url: str, task: TaskKey) -> str:
    """Return the address of the page, narrowed to one task instance.

    Args:
        base_url: of Airflow's UI, with or without a slash at its end.
    """
    narrowed = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id}
    mapped = {"map_index": task.map_index} if task.map_index >= 0 else {}
    return f"{base_url.rstrip('/')}/plugin/{ROUTE}?{urlencode(narrowed | mapped)}"
