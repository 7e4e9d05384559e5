"""Operators: one for stages of your own, two for the built-in stages, and one that reconciles all open batches.

Public are the names in `__all__`; the modules of this package are not.
"""

from __future__ import annotations

from airflow_batch_provider.operators.embed import BatchEmbedOperator
from airflow_batch_provider.operators.generate import BatchGenerateOperator
from airflow_batch_provider.operators.reconcile import ReconcileOperator
from airflow_batch_provider.operators.stage import AsyncBatchStageOperator

__all__ = ["AsyncBatchStageOperator", "BatchEmbedOperator", "BatchGenerateOperator", "ReconcileOperator"]
