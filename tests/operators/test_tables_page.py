"""The page about tables, run as a user would: through real Airflow tasks, the emulator and an object store."""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

PAGE = Path(__file__).parents[2] / "docs/tables.md"
SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))


@pytest.fixture(autouse=True)
def polls_at_once(monkeypatch):
    monkeypatch.setattr("airflow_batch_provider.airflow.settings.poll", lambda: SOON)


@pytest.fixture
def warehouse(tmp_path, monkeypatch):
    """A database behind a `DbApiHook`."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import BaseHook

    class Hook(DbApiHook):
        conn_name_attr = "conn_id"
        conn_id = "warehouse"

        def get_conn(self):
            return sqlite3.connect(tmp_path / "warehouse.sqlite")

    day = datetime.now(UTC).date()
    with Hook().get_conn() as database:
        database.execute("CREATE TABLE reviews (review_id INTEGER, body TEXT, day TEXT)")
        rows = [(2, "bad", str(day)), (1, "good", str(day)), (3, "old", str(day - timedelta(days=9)))]
        database.executemany("INSERT INTO reviews VALUES (?, ?, ?)", rows)
    database.close()
    monkeypatch.setattr(BaseHook, "get_hook", lambda _conn_id: Hook())


def block(number, name):
    """What a block of the page defines, and its DAG."""
    names = {"__name__": f"page_{number}"}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[number], names)
    return names, names[name]()


def test_the_page_about_tables_runs(tested, lake):
    """A folder of partitions in, part files out, with the columns that the page shows."""
    for country, first in (("at", 7), ("de", 9)):
        with lake.open(f"lake/reviews/country={country}/part-0.parquet", "wb") as file:
            table = {"review_id": [first, first + 1], "text": ["good", "bad"], "stars": [4.5, 1.0], "more": [0, 0]}
            pq.write_table(pa.table(table), file)
    names, dag = block(0, "label_reviews")
    run = tested(dag)

    assert run.state("label") == "success", run.log
    manifest = run.xcom("label")
    with lake.open("lake/labelled/part-00000.parquet", "rb") as file:
        records = pq.read_table(file).to_pylist()
    assert [(row["review_id"], row["country"], row["stars"], row["status"]) for row in records] == [
        (7, "at", 4.5, "succeeded"), (8, "at", 1.0, "succeeded"), (9, "de", 4.5, "succeeded"), (10, "de", 1.0, "succeeded"),
    ]  # fmt: skip
    shown = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| review_id |"))
    columns = shown.strip("| …").split(" | ")
    assert [name for name in records[0] if name in columns] == columns
    assert manifest["files"] == 1
    rows = list(BatchResults(manifest, names["Review"]))
    assert all(isinstance(row.output, names["Review"]) for row in rows)
    assert [row.custom_id for row in rows] == ["7", "8", "9", "10"]


def test_a_query_becomes_a_table(tested, lake, warehouse):
    """The second example: rows of a database by a function, the day's only, CSV out; the UI shows the function's name."""
    _, dag = block(1, "summaries")
    assert str(dag.get_task("summarize").source) == "what reviews() returns"
    run = tested(dag)

    assert run.state("summarize") == "success", run.log
    manifest = run.xcom("summarize")
    day = datetime.now(UTC).date().isoformat()
    lines = gzip.decompress(lake.cat_file(f"lake/summaries/{day}.csv.gz")).decode().splitlines()
    assert lines[0].startswith("review_id,output,status,")
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["1", "echo: Summarize: good", "succeeded"], ["2", "echo: Summarize: bad", "succeeded"],
    ]  # fmt: skip
    assert [row.columns for row in BatchResults(manifest)] == [{"review_id": "1"}, {"review_id": "2"}]
    assert json.dumps(manifest)
