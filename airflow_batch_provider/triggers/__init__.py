"""The trigger that waits for suspended stages."""

from __future__ import annotations

from airflow_batch_provider.triggers.stage import AsyncBatchTrigger

__all__ = ["AsyncBatchTrigger"]
