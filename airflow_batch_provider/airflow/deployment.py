"""The deployment that Airflow's configuration points to."""

from __future__ import annotations

from airflow.sdk import ObjectStoragePath

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.storage import Directory


def open_deployment(storage_path: str | None) -> Deployment:
    """Open the deployment below a storage root, the configured one by default."""
    return Deployment(Directory(ObjectStoragePath(storage_path or settings.storage_path())))
