"""Shows the tab at every task, as Airflow 3.3 shows all tabs, so that it can be seen in a real browser before Airflow 3.4."""

from __future__ import annotations

from airflow_batch_provider.links.page import has_page
from airflow_batch_provider.plugins.batches import TAB

try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:  # Airflow 3.1
    from airflow.plugins_manager import AirflowPlugin  # type: ignore[assignment]


class TabEverywhere(AirflowPlugin):
    """Registers the tab as it is, but for whose tasks have it."""

    name = "tab_everywhere"
    react_apps = [{key: value for key, value in TAB.items() if key != "applies_to"}] if has_page() else []
