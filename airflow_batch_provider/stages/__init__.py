"""Async batch stages: the contract, and the two that are built in."""

from __future__ import annotations

from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.base import (
    AsyncBatchStage,
    CompletionCheck,
    PollConfig,
    Suspended,
    SuspendedState,
)
from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext

__all__ = [
    "AsyncBatchStage",
    "CheckCompletionContext",
    "CompletionCheck",
    "PollConfig",
    "StageContext",
    "Suspended",
    "SuspendedState",
    "TaskKey",
]
