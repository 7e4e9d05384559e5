"""Every run of a task in a process with an empty home, another working directory and another temporary directory, as in pods."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scenes import SLOW_MACHINE, SOON
from upath import UPath

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.demo.stack import AirflowStack
from airflow_batch_provider.models import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"
# Three providers, and a batch whose rows are the answers of another one.
RUN = ("quickstart", "chain")
BATCHES = ("ask_anthropic", "ask_openai", "ask_gemini", "write", "judge")
pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(1200 * SLOW_MACHINE)]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pods") / "record.jsonl"


@pytest.fixture(scope="module")
def pods(emulator, s3_url: str, record: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    home = tmp_path_factory.mktemp("pods-airflow")
    dags = home / "dags"
    dags.mkdir()
    for name in RUN:
        shutil.copy(EXAMPLES / f"{name}.py", dags)
    connection = {"conn_type": "aws", "login": "k", "password": "s", "extra": {"endpoint_url": s3_url}}
    env = {
        **to_emulator(emulator),
        **SOON,
        "AIRFLOW_CONN_STAGES": json.dumps(connection),
        "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": "s3://stages@batches/pods",
        "AIRFLOW__CORE__EXECUTOR": "pod_executor.PodExecutor",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),  # pods ship their logs; here they write them away
        "PODS_RECORD": str(record),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "executors"), os.environ.get("PYTHONPATH")])),
    }
    with AirflowStack(home / "home", dags, env=env) as running:
        yield running


def wait_for_pods(record: Path) -> list[dict]:
    """What the executor wrote of each pod, once both runs of every batch are there: the last ends after its run."""
    deadline = time.monotonic() + 60 * SLOW_MACHINE
    while True:
        ended = [json.loads(line) for line in record.read_text().splitlines()]
        times = Counter(line["task"] for line in ended)
        if all(times[task] == 2 for task in BATCHES):
            return ended
        assert time.monotonic() < deadline, times
        time.sleep(0.5)


def test_tasks_whose_runs_share_no_disk_buy_once_and_lose_nothing(pods, emulator, record, s3_url):
    """What one run leaves for the next is on S3: its folders are gone, and held nothing of the stage."""
    before = {job["id"] for job in emulator.books()["jobs"]}
    for dag_id in RUN:
        pods.require_dag(dag_id)
    runs = {dag_id: pods.rest.trigger(dag_id) for dag_id in RUN}
    for run in runs.values():
        pods.rest.require_success(run, pods.rest.wait(run, timeout_seconds=400 * SLOW_MACHINE))

    ended = wait_for_pods(record)
    assert {line["code"] for line in ended} == {0}
    assert len({line["root"] for line in ended}) == len(ended)
    assert [line["root"] for line in ended if Path(line["root"]).exists()] == []
    ours = ("requests.jsonl", "plan.json", "results", "claim", "manifest")
    assert [path for line in ended for path in line["left"] if any(word in path for word in ours)] == []

    jobs = [job for job in emulator.books()["jobs"] if job["id"] not in before]
    assert len(jobs) == len(BATCHES)
    assert all(job["billed"] == job["requests"] for job in jobs)
    for dag_id, run in runs.items():
        for task in set(BATCHES) & {task.task_id for task in pods.rest.task_instances(run)}:
            manifest = Manifest.model_validate(pods.rest.xcom(run, task))
            assert manifest.counts["succeeded"] == manifest.requests, (dag_id, task)
            assert manifest.results.startswith("s3://")
            stored = UPath(f"s3://{manifest.results.partition('@')[2]}", key="k", secret="s", endpoint_url=s3_url)
            assert len(stored.read_text().splitlines()) == manifest.requests
