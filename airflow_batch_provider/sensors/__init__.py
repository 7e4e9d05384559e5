"""The sensor for batches that were submitted elsewhere."""

from __future__ import annotations

from airflow_batch_provider.sensors.batch import BatchSensor

__all__ = ["BatchSensor"]
