"""The sensor for batches that were submitted elsewhere. Public is `BatchSensor`; the module behind it is not."""

from __future__ import annotations

from airflow_batch_provider.sensors.batch import BatchSensor

__all__ = ["BatchSensor"]
