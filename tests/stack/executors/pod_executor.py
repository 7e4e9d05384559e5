"""An executor for tests that runs a task as Kubernetes does: each time in a process that finds nothing and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.executors.base_executor import BaseExecutor

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where each pod that has ended gets a line.
RECORD = "PODS_RECORD"
# The command of KubernetesExecutor's pods (cncf.kubernetes 10.25, `kubernetes_executor_utils.py`).
_COMMAND = (sys.executable, "-m", "airflow.sdk.execution_time.execute_workload", "--json-string")
# Folders of a pod, by the variable that names each; the working directory is another one.
_FOLDERS = {"HOME": "home", "TMPDIR": "tmp", "AIRFLOW_HOME": "airflow"}


class Pod:
    """One run of one task, in folders that are made for it and gone with it; it is told nothing of Airflow's database."""

    def __init__(self, workload: Any) -> None:
        self.key = workload.ti.key
        self.root = Path(tempfile.mkdtemp(prefix="pod-"))
        folders = {variable: self.root / name for variable, name in _FOLDERS.items()}
        for folder in (*folders.values(), self.root / "work"):
            folder.mkdir()
        environment = {
            **os.environ,
            **{variable: str(folder) for variable, folder in folders.items()},
            # What the pod templates of the provider say of a pod.
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW_IS_K8S_EXECUTOR_POD": "True",
        }
        del environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        command = [*_COMMAND, workload.model_dump_json()]
        self.process = subprocess.Popen(command, cwd=self.root / "work", env=environment, stdin=subprocess.DEVNULL)

    def end(self) -> int:
        """Delete what the run left, and write down what that was."""
        left = sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        shutil.rmtree(self.root)
        line = {"task": self.key.task_id, "root": str(self.root), "code": self.process.returncode, "left": left}
        with Path(os.environ[RECORD]).open("a", encoding="utf-8") as record:
            record.write(json.dumps(line) + "\n")
        return self.process.returncode


class PodExecutor(BaseExecutor):
    """Starts a pod for each workload, and tells when it has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pods: list[Pod] = []

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        for workload in workload_items:
            self.running.add(workload.ti.key)
            self.queued_tasks.pop(workload.ti.key, None)
            self._pods.append(Pod(workload))

    def sync(self) -> None:
        """Look after the pods that have ended."""
        ended = [pod for pod in self._pods if pod.process.poll() is not None]
        self._pods = [pod for pod in self._pods if pod not in ended]
        for pod in ended:
            (self.fail if pod.end() else self.success)(pod.key)

    def end(self) -> None:
        """Wait for every pod."""
        for pod in self._pods:
            pod.process.wait()
        self.sync()

    def terminate(self) -> None:
        """End every pod."""
        for pod in self._pods:
            pod.process.terminate()
        self.end()
