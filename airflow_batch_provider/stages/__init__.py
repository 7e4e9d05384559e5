"""Async batch stages: the contract, the values it speaks in, the runner, and the stages that are built in.

Public are the names in `__all__`; the modules themselves are not, except `generate.GenerateStage`, `embed.EmbedStage` and
`config.BatchConfig` for those who give the built-in stages to `AsyncBatchStageOperator`.
"""

from __future__ import annotations

from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.base import AsyncBatchStage
from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext
from airflow_batch_provider.stages.values import CompletionCheck, PollConfig, Suspended, SuspendedState

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
