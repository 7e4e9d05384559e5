"""The deployment that Airflow's configuration points to."""

from __future__ import annotations

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.storage import Directory


def open_deployment(storage_path: str | None) -> Deployment:
    """Open the deployment below a storage root, the configured one by default, with the configured budgets.

    Raises:
        UsageError: an option of the configuration cannot be read.
    """
    return Deployment(Directory(open_path(storage_path or settings.storage_path())), settings.budgets())
