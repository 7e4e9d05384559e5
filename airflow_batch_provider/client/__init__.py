"""Batches for custom stages and for the hook."""

from __future__ import annotations

from airflow_batch_provider.client.client import BatchClient, BatchHandle

__all__ = ["BatchClient", "BatchHandle"]
