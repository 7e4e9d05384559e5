"""Stage storage that one machine alone has, under an executor whose tasks run on several."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import psutil
import pytest

from airflow_batch_provider.airflow.reach import require_reach
from airflow_batch_provider.exceptions import UsageError

SETTING = r"Set \[batch_provider\] storage_path"
CELERY = "CeleryExecutor"


@pytest.fixture
def configured(monkeypatch):
    """Sets the executor, and the storage of the configuration."""

    def configure(executor, storage=""):
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__STORAGE_PATH", storage)

    return configure


@pytest.mark.parametrize(
    ("executor", "named"),
    [
        ("CeleryExecutor", "CeleryExecutor"),
        ("KubernetesExecutor", "KubernetesExecutor"),
        ("LocalExecutor,CeleryExecutor", "CeleryExecutor"),
        ("pods:KubernetesExecutor", "KubernetesExecutor"),
        ("LocalExecutor; team_a=LocalExecutor, CeleryExecutor", "CeleryExecutor"),
        ("company.executors.BatchExecutor", "company.executors.BatchExecutor"),
    ],
)
def test_a_folder_that_nobody_chose_is_refused_where_tasks_run_on_several_machines(configured, executor, named):
    """A retry elsewhere would buy everything again; the message names the executor and the setting."""
    configured(executor)

    with pytest.raises(UsageError, match=f"{named} runs tasks on several.*{SETTING}"):
        require_reach(None)


@pytest.mark.parametrize(
    "executor", ["LocalExecutor", "here:LocalExecutor", "airflow.executors.local_executor.LocalExecutor"]
)
def test_a_folder_below_airflow_home_is_right_on_one_machine(configured, executor, caplog):
    """Without a word."""
    configured(executor)

    require_reach(None)
    require_reach("file:///tmp/batches")

    assert caplog.records == []


def test_a_pod_that_is_told_it_has_the_local_executor_is_known(configured, monkeypatch):
    """As the templates of the cncf.kubernetes provider do."""
    configured("LocalExecutor")
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")

    with pytest.raises(UsageError, match=f"KubernetesExecutor runs tasks on several.*{SETTING}"):
        require_reach(None)


@pytest.mark.parametrize("chosen", ["/tmp/batches", "file:///tmp/batches", "local:///tmp/batches"])
def test_a_disk_that_was_chosen_is_warned_of(configured, caplog, chosen, monkeypatch):
    """It may be mounted everywhere, which only people know; by the task or by the configuration."""
    monkeypatch.setattr(psutil, "disk_partitions", mounts(("/", "overlay"), ("/tmp", "tmpfs")))
    configured(CELERY, "s3://bucket/batches")
    with caplog.at_level(logging.WARNING):
        require_reach(chosen)
        configured(CELERY, chosen)
        require_reach(None)

    assert len(caplog.records) == 2
    assert all(f"Stage storage is {chosen}, " in line and "CeleryExecutor" in line for line in caplog.messages)
    assert all("Set [batch_provider] storage_path" in line for line in caplog.messages)


def mounts(*pairs):
    return lambda **_: [SimpleNamespace(mountpoint=folder, fstype=kind) for folder, kind in pairs]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "ceph", "fuse.s3fs", "virtiofs"])
@pytest.mark.parametrize("chosen", ["/mnt/shared/batches", "file:///mnt/shared/batches"])
def test_a_volume_that_machines_share_needs_no_warning(configured, caplog, monkeypatch, chosen, kind):
    """Known by the type of the filesystem below the folder, which need not be there yet."""
    monkeypatch.setattr(psutil, "disk_partitions", mounts(("/", "ext4"), ("/mnt", "ext4"), ("/mnt/shared", kind)))
    configured(CELERY, chosen)

    require_reach(None)

    assert caplog.records == []


@pytest.mark.parametrize("chosen", ["s3://bucket/batches", "gs://bucket/batches", "abfs://container/batches"])
def test_an_object_store_reaches_every_machine(configured, caplog, chosen):
    """Without a word."""
    configured(CELERY, chosen)

    require_reach(None)

    assert caplog.records == []
