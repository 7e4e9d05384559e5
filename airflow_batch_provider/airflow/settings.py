"""The `[batch_provider]` section of Airflow's configuration."""

from __future__ import annotations

import logging
from pathlib import Path

from airflow.configuration import AIRFLOW_HOME, conf

from airflow_batch_provider.stages.values import PollConfig

log = logging.getLogger(__name__)

_SECTION = "batch_provider"


def storage_path() -> str:
    """Return the root of all stage storage, a URI; warns when the default may not be the same folder for every process."""
    configured: str = conf.get(_SECTION, "storage_path", fallback="")
    if configured:
        return configured.rstrip("/")
    executor: str = conf.get("core", "executor")
    if executor.rpartition(".")[2] != "LocalExecutor":
        log.warning(
            "Stage storage is a folder below AIRFLOW_HOME, which workers and triggerer only share on one machine, but the "
            "executor is %s. Set [batch_provider] storage_path to a place that both reach, e.g. s3://bucket/batches.",
            executor,
        )
    return Path(AIRFLOW_HOME, "batch_provider").resolve().as_uri()


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
