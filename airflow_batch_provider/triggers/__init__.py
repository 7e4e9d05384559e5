"""The trigger that waits for suspended stages. Public is `AsyncBatchTrigger`.

Its class path, `airflow_batch_provider.triggers.stage.AsyncBatchTrigger`, lies in the database of every Airflow that has a
task waiting, and stays.
"""

from __future__ import annotations

from airflow_batch_provider.triggers.stage import AsyncBatchTrigger

__all__ = ["AsyncBatchTrigger"]
