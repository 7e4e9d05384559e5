"""Whether stage storage reaches every machine on which a task may run."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from airflow.configuration import conf
from fsspec.core import strip_protocol
from fsspec.utils import get_protocol

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.exceptions import UsageError

log = logging.getLogger(__name__)

_DISK = ("file", "local")
# Filesystems of Linux that several machines mount at once, by the start of their type in /proc/mounts.
_SHARED = ("nfs", "cifs", "smb", "ceph", "gluster", "lustre", "beegfs", "gpfs", "ocfs2", "9p", "virtiofs", "fuse.")
_REMEDY = "Set [batch_provider] storage_path to a place that workers and triggerers reach: s3://bucket/batches, a shared volume."


def require_reach(storage_path: str | None) -> None:
    """Refuse a folder that nobody chose, and warn of a disk that was chosen, where tasks run on several machines.

    What was bought is known from stage storage alone: a retry on a machine without it would buy everything again.

    Args:
        storage_path: the task's own root of stage storage, a URI; None takes the configured one.

    Raises:
        UsageError: neither the task nor the configuration names a place, and the executor is not a local one.
    """
    executor = _distributed_executor()
    if executor is None:
        return
    chosen = storage_path or settings.chosen_storage_path()
    if not chosen:
        raise UsageError(
            f"Stage storage would be {settings.storage_path()}, a folder of this machine, but {executor} runs tasks on "
            f"several: a retry elsewhere would not find what was bought, and buy it again. {_REMEDY}"
        )
    if get_protocol(chosen) in _DISK and not _is_shared(chosen):
        log.warning(
            "Stage storage is %s, which looks like a disk of this machine alone, but %s runs tasks on several: a retry "
            "elsewhere would not find what was bought, and buy it again. %s",
            chosen,
            executor,
            _REMEDY,
        )


def _distributed_executor() -> str | None:
    """Return the first configured executor whose tasks may run on several machines.

    Pods are told that their executor is the local one (cncf.kubernetes 10.25, `basic_template.yaml`), and by another
    variable what they are (`pod_generator.py`).
    """
    if os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"):
        return "KubernetesExecutor"
    # `LocalExecutor`, `alias:LocalExecutor`, `a.module.Executor`, several of them, and for teams `team=One;Another`.
    named = [re.split(r"[:=]", name)[-1].strip() for name in re.split(r"[,;]", conf.get("core", "executor"))]
    return next((name for name in named if name.rpartition(".")[2] != "LocalExecutor"), None)


def _is_shared(uri: str) -> bool:
    """Return whether the folder is on a filesystem that several machines can mount."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 — a DAG file must not pay for it

    kinds = {Path(mount.mountpoint): str(mount.fstype) for mount in psutil.disk_partitions(all=True)}
    folder = Path(strip_protocol(uri)).resolve()
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "").startswith(_SHARED)
