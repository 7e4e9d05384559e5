"""Airflow's metrics: statsd, Datadog or OpenTelemetry, as `[metrics]` says."""

from __future__ import annotations

import re
import socket
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow.signals import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_batch_provider.airflow.signals.table import Metric
    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.signals import BatchBought, BatchLanded
    from airflow_batch_provider.usage import Usage

# Airflow 3.3; 3.2; 3.1.
_HOMES = ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats")

# Other characters end a tag in the formats of statsd, or have the metric refused (Airflow 3.3.2, `validators.py`).
_NOT_IN_TAGS = re.compile(r"[^a-zA-Z0-9_.\-/]")
_LONGEST_TAG = 100


def are_on() -> bool:
    """Tell whether Airflow sends metrics anywhere."""
    from airflow.configuration import conf  # noqa: PLC0415 — the function is called in a running task only

    return any(
        conf.getboolean("metrics", option, fallback=False)
        for option in ("statsd_on", "statsd_datadog_enabled", "otel_on")
    )


@cache
def _stats() -> Any:
    for home in _HOMES:
        try:
            return import_module(home).Stats
        except ImportError:
            continue
    raise ImportError(f"This Airflow has its metrics in none of {', '.join(_HOMES)}.")


def count(metric: Metric, number: int, tags: Mapping[str, str | None]) -> None:
    """Add to a counter."""
    if number > 0:
        _stats().incr(metric.name, number, tags=_tags(metric, tags))


def gauge(metric: Metric, value: float, tags: Mapping[str, str | None]) -> None:
    """Say how much it is now."""
    _stats().gauge(metric.name, value, tags=_tags(metric, tags))


def _tags(metric: Metric, tags: Mapping[str, str | None]) -> dict[str, str]:
    found = ((name, tags.get(name)) for name in metric.tags)
    return {name: _NOT_IN_TAGS.sub("_", value)[:_LONGEST_TAG] for name, value in found if value}


def task_tags(task: TaskKey, provider: str | None, model: str | None) -> dict[str, str | None]:
    """Return the tags of a task's metrics; runs and mapped instances are none, for there is no end of them."""
    return {"dag_id": task.dag_id, "task_id": task.task_id, "provider": provider, "model": model}


@cache
def hostname() -> str:
    """Return the name of this machine, which tells the gauges of several triggerers apart."""
    return socket.gethostname()


def bought(task: TaskKey, batch: BatchBought) -> None:
    """Count a batch that was bought."""
    count(table.BOUGHT, 1, task_tags(task, batch.provider, batch.model))


def landed(task: TaskKey, batch: BatchLanded) -> None:
    """Count a batch that has landed: its rows, tokens and cost."""
    tags = task_tags(task, batch.provider, batch.model)
    count(table.LANDED, 1, tags)
    for status, number in batch.rows.items():
        count(table.ROWS, number, {**tags, "status": status})
    for kind, number in tokens(batch.usage).items():
        count(table.TOKENS, number, {**tags, "kind": kind})
    if batch.cost.usd is not None:
        count(table.COST, round(batch.cost.usd * 1_000_000), tags)


def tokens(usage: Usage) -> dict[str, int]:
    """Return the tokens by kind: `input_tokens` is `input`."""
    return {name.removesuffix("_tokens"): number for name, number in usage.told().items() if name.endswith("_tokens")}


def swept(provider: str, *, answered: bool) -> None:
    """Count a sweep."""
    count(table.SWEEPS, 1, {"provider": provider, "outcome": "answered" if answered else "failed"})
