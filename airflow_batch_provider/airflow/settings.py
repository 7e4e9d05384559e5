"""The `[batch_provider]` section of Airflow's configuration."""

from __future__ import annotations

from pathlib import Path

from airflow.configuration import AIRFLOW_HOME, conf

from airflow_batch_provider.stages.values import PollConfig

_SECTION = "batch_provider"


def chosen_storage_path() -> str:
    """Return the root of all stage storage as the configuration names it, a URI; "" where it names none."""
    configured: str = conf.get(_SECTION, "storage_path", fallback="")
    return configured.rstrip("/")


def storage_path() -> str:
    """Return the root of all stage storage, a URI; a folder below AIRFLOW_HOME where none is configured."""
    return chosen_storage_path() or Path(AIRFLOW_HOME, "batch_provider").resolve().as_uri()


def poll() -> PollConfig:
    """Return how tasks poll their batches unless they say so themselves.

    Raises:
        UsageError: the option names no preset.
    """
    return PollConfig.of(conf.get(_SECTION, "poll", fallback="") or "long")


def base_url() -> str:
    """Return the address of Airflow's UI as people reach it; "/" where none is configured."""
    configured: str = conf.get("api", "base_url", fallback="")
    return configured or "/"
