"""Hooks for Airflow connections to the batch APIs. Public are the names in `__all__`; the module behind them is not."""

from __future__ import annotations

from airflow_batch_provider.hooks.batch import AnthropicBatchHook, BatchHook, GeminiBatchHook, OpenAIBatchHook

__all__ = ["AnthropicBatchHook", "BatchHook", "GeminiBatchHook", "OpenAIBatchHook"]
