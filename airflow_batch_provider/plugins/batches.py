"""The page "LLM batches", which Airflow's navigation names "Batches", and the tab of a task that shows its line.

Every process of Airflow imports its plugins, so nothing that serves files is imported before a browser asks for one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.links.page import ROUTE, has_page, has_tab

try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:  # Airflow 3.1
    from airflow.plugins_manager import AirflowPlugin  # type: ignore[assignment]

if TYPE_CHECKING:
    from starlette.staticfiles import StaticFiles
    from starlette.types import Receive, Scope, Send

# Airflow cuts labels in its navigation off after about ten letters.
NAME = "Batches"
TAB_NAME = "LLM batch"
"""Of the tab; the script puts its component under the same name, so that Airflow's loader finds it."""

OPERATORS = (
    "AsyncBatchStageOperator",
    "BatchEmbedOperator",
    "BatchGenerateOperator",
    "BatchSensor",
    "@task.batch_embed",
    "@task.batch_generate",
)
"""Whose tasks have the tab, by the names that Airflow shows."""


async def page_files(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page's scripts and icons; they hold no data, so that no login is asked for."""
    await _files()(scope, receive, send)


@cache
def _files() -> StaticFiles:
    from airflow_batch_provider.plugins.files import PageFiles  # noqa: PLC0415 — only the API server needs it

    return PageFiles()


_SERVED: list[dict[str, Any]] = [{"name": NAME, "url_prefix": f"/{ROUTE}", "app": page_files}]
_SHOWN: list[dict[str, Any]] = [
    {
        "name": NAME,
        "bundle_url": f"{ROUTE}/main.js",
        "destination": "nav",
        "nav_top_level": True,
        "url_route": ROUTE,
        "icon": f"{ROUTE}/icon.svg",
        "icon_dark_mode": f"{ROUTE}/icon-dark.svg",
    }
]
TAB: dict[str, Any] = {
    "name": TAB_NAME,
    "bundle_url": f"{ROUTE}/tab.js",
    "destination": "task_instance",
    "url_route": "llm-batch",
    "icon": f"{ROUTE}/icon.svg",
    "icon_dark_mode": f"{ROUTE}/icon-dark.svg",
    "applies_to": {"operator_name": list(OPERATORS)},
}


class LlmBatchesPlugin(AirflowPlugin):
    """Registers the page where Airflow can show it, and nothing elsewhere."""

    name = "llm_batches"
    fastapi_apps = _SERVED if has_page() else []
    react_apps = (_SHOWN if has_page() else []) + ([TAB] if has_tab() else [])
