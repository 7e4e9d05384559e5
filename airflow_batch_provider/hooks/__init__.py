"""Airflow connections to the batch APIs."""

from __future__ import annotations

from airflow_batch_provider.hooks.batch import AnthropicBatchHook, BatchHook, GeminiBatchHook, OpenAIBatchHook

__all__ = ["AnthropicBatchHook", "BatchHook", "GeminiBatchHook", "OpenAIBatchHook"]
