"""Source, stage storage and result each on its own filesystem and connection, through real Airflow tasks."""

from __future__ import annotations

import re
import threading
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, task
from upath import UPath

from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.storage import Directory

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def threads_of_s3(monkeypatch):
    """The threads in which a filesystem was made for `s3`, whose connection was asked for there."""
    from airflow.sdk.io import fs
    from fsspec.implementations.memory import MemoryFileSystem

    threads = []

    def made(_conn_id):
        threads.append(threading.get_ident())
        return MemoryFileSystem(skip_instance_cache=True)

    monkeypatch.setattr(fs, "_register_filesystems", lambda: {"s3": made})
    return threads


def ask(dag_id, **options):
    with DAG(dag_id, schedule=None) as dag:
        BatchGenerateOperator(task_id="ask", model="claude-sonnet-4-5", poll=SOON, retries=0, **options)
    return dag


@pytest.mark.parametrize("deferrable", [True, False])
def test_data_on_s3_under_two_connections_and_storage_on_disk(tested, lake, deferrable):
    """Section 9, the blocker: each filesystem is first made in another process of the task."""
    lake.pipe_file("lake/in.csv", b"id,text\na,good\nb,bad\n")
    run = tested(
        ask(
            f"two_{deferrable}",
            source="s3://reading@lake/in.csv",
            prompt="Say {text}",
            key="id",
            result_path="s3://writing@lake/out.jsonl",
            deferrable=deferrable,
        )
    )

    assert run.state("ask") == "success"
    assert [row.custom_id for row in BatchResults(run.xcom("ask"))] == ["a", "b"]
    assert lake.exists("lake/out.jsonl")


def test_storage_on_s3_and_data_on_disk(tested, lake, tmp_path):
    """The other way round; the triggerer opens stage storage, too."""
    (tmp_path / "in.csv").write_text("text\ngood\n")
    run = tested(
        ask(
            "s3_storage", source=(tmp_path / "in.csv").as_uri(), prompt="{text}", storage_path="s3://writing@lake/store"
        )
    )

    assert run.state("ask") == "success"
    assert run.xcom("ask")["results"].startswith("s3://writing@lake/store/s3_storage/")


def check_all_on(lake, scheme, opened, tested, monkeypatch):
    """Run a task whose source, storage and result are in a lake; Airflow's provider, which opens it, is stood in for."""
    from airflow.sdk.io import fs, store

    monkeypatch.setattr(store, "_STORE_CACHE", {})
    monkeypatch.setattr(fs, "_register_filesystems", lambda: {scheme: lambda _conn_id, _more: opened()})
    lake.write("in.csv", b"id,text\na,good\nb,bad\n")
    base = f"{scheme}://lake@{lake.root.path}"
    files = {"source": f"{base}/in.csv", "result_path": f"{base}/out.jsonl", "storage_path": f"{base}/store"}

    run = tested(ask(f"on_{scheme}", prompt="Say {text}", key="id", **files))

    assert run.state("ask") == "success"
    assert [row.custom_id for row in BatchResults(run.xcom("ask"))] == ["a", "b"]
    assert lake.exists("out.jsonl")
    assert lake.names(f"store/on_{scheme}")


def test_source_storage_and_result_on_google_cloud_storage(tested, gcs, connections, monkeypatch):
    """Through gcsfs."""
    from gcsfs import GCSFileSystem

    options = gcs.root.storage_options
    check_all_on(gcs, "gs", lambda: GCSFileSystem(**options), tested, monkeypatch)


def test_source_storage_and_result_on_azure(tested, azure, connections, monkeypatch):
    """Through adlfs."""
    from adlfs import AzureBlobFileSystem

    lake = Directory(UPath(f"az://batches/{uuid.uuid4().hex}", **azure))
    check_all_on(lake, "abfs", lambda: AzureBlobFileSystem(**azure), tested, monkeypatch)


def test_batch_requests_come_from_an_upstream_task(tested, lake):
    """Section 6: with Airflow's own allow list as it is."""
    with DAG("upstream", schedule=None) as dag:

        @task
        def rows():
            return [BatchRequest(custom_id="a", prompt="x")]

        BatchGenerateOperator(task_id="ask", model="claude-sonnet-4-5", poll=SOON, requests=rows())

    assert [row.custom_id for row in BatchResults(tested(dag).xcom("ask"))] == ["a"]


def test_a_typo_in_the_bucket_is_refused_and_makes_none(tested, lake, tmp_path):
    """Section 6: a bucket is never made."""
    bucket = f"typo-{uuid.uuid4().hex}"
    run = tested(ask("typo", requests=["a"], result_path=f"s3://writing@{bucket}/out.jsonl"))

    assert run.state("ask") == "failed"
    assert "cannot be written" in run.log
    assert not lake.exists(bucket)


def test_the_first_dag_of_the_readme_runs(tested, lake, monkeypatch):
    """Verbatim: S3 in, S3 out, storage on disk; only the first poll comes sooner than after five minutes."""
    monkeypatch.setattr("airflow_batch_provider.airflow.settings.poll", lambda: SOON)
    import pyarrow as pa
    import pyarrow.parquet as pq

    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    names = {"__name__": "readme"}
    exec(code, names)
    dag = names["reviews"]()

    from datetime import UTC, datetime

    day = datetime.now(UTC).date().isoformat()
    with lake.open(f"lake/reviews/{day}.parquet", "wb") as file:
        pq.write_table(pa.table({"review_id": [7, 8], "text": ["good", "bad"]}), file)
    run = tested(dag)

    assert run.state("classify") == "success", run.log
    rows = list(BatchResults(run.xcom("classify"), names["Review"]))
    assert [row.custom_id for row in rows] == ["7", "8"]
    assert all(isinstance(row.output, names["Review"]) for row in rows)
    assert lake.exists(f"lake/labels/{day}.parquet")


async def test_a_trigger_asks_on_its_own_loop_where_a_thread_would_end_the_triggerer(threads_of_s3, monkeypatch):
    """Airflow before 3.2.2, whose triggerer takes questions of its own thread only."""
    from airflow.sdk.io import store

    from airflow_batch_provider.airflow import supervisor
    from airflow_batch_provider.airflow.hosts import TriggererHost
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import TaskKey

    host = TriggererHost(Clock(), TaskKey("dag", "run", "task"))
    for may_ask in (True, False):
        monkeypatch.setattr(store, "_STORE_CACHE", {})
        monkeypatch.setattr(supervisor, "threads_may_ask", lambda may_ask=may_ask: may_ask)
        host.open_path("s3://storage@bucket/x")
        assert (threads_of_s3.pop() == threading.get_ident()) is not may_ask
