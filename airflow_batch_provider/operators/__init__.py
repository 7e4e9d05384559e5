"""Operators: the general one for stages, the two for the built-in stages, and the one that looks after all of them."""

from __future__ import annotations

from airflow_batch_provider.operators.batch import BatchEmbedOperator, BatchGenerateOperator
from airflow_batch_provider.operators.reconcile import ReconcileOperator
from airflow_batch_provider.operators.stage import AsyncBatchStageOperator

__all__ = ["AsyncBatchStageOperator", "BatchEmbedOperator", "BatchGenerateOperator", "ReconcileOperator"]
