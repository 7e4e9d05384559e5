"""Tables that come in when the task runs: Arrow streams, frames, chunks of a query, dicts."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.config import Source


class Relation:
    """As a DuckDB relation: it has nothing but the capsule interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


COLUMNS = {"id": [1, 2, 3], "text": ["a", "b", "c"], "price": [Decimal("1.50"), None, Decimal("2.00")]}
TABLE = pa.table(COLUMNS)
SHAPES = {
    "table": lambda: TABLE,
    "reader": lambda: pa.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches(max_chunksize=2)),
    "relation": lambda: Relation(TABLE),
    "batches": lambda: iter(TABLE.to_batches(max_chunksize=1)),
    "frame": lambda: pd.DataFrame(COLUMNS),
    "chunks": lambda: (pd.DataFrame({name: [value[place]] for name, value in COLUMNS.items()}) for place in range(3)),
    "dicts": lambda: iter(TABLE.to_pylist()),
}


def table_job(job, value, **config):
    task = job(
        **{"source": Source(prompt="{text}", key="id"), "keep_columns": True, "result_format": "parquet"} | config
    )
    task.requests = value
    return task


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_table_comes_in_as_whatever_arrow_reads(job, provider, shape):
    """Once through, and its columns go out again; chunks may differ in type, as those of a frame do where one is null."""
    manifest = await table_job(job, SHAPES[shape]()).run()

    records = pq.read_table(manifest.results).to_pylist()
    assert [(row["id"], row["text"], row["output"]) for row in records] == [
        (1, "a", "echo: a"), (2, "b", "echo: b"), (3, "c", "echo: c"),
    ]  # fmt: skip
    assert [str(row["price"] or "") for row in records] == ["1.50", "", "2.00"]
    if shape in ("table", "reader", "relation", "batches"):
        assert str(pq.read_schema(manifest.results).field("price").type) == "decimal128(3, 2)"


async def test_a_retry_reads_the_table_again_and_buys_nothing_twice(job, provider):
    """The function is called for each try; the same rows are the same requests."""
    task = table_job(job, SHAPES["reader"]())
    await task.start()
    task.requests = SHAPES["reader"]()
    manifest = await task.retry()

    assert provider.bought == {"a": 1, "b": 1, "c": 1}
    assert manifest.counts["succeeded"] == 3


async def test_a_stream_that_is_read_once_outlives_a_change_of_requests(job, provider):
    """The rows are compared with the old plan first, and then planned."""
    task = table_job(job, SHAPES["reader"]())
    await task.run()
    task.requests = iter([TABLE.slice(0, 1)])
    manifest = await task.retry()

    assert manifest.requests == 1


async def test_dates_of_dicts_are_text(job, provider):
    """In the prompt and in the table."""
    rows = [{"text": dt.date(2026, 11, 23), "n": 1}]
    manifest = await table_job(job, rows, source=Source(prompt="on {text}"), result_format="jsonl").run()

    record = json.loads(UPath(manifest.results).read_text())
    assert (record["text"], record["output"]) == ("2026-11-23", "echo: on 2026-11-23")


@pytest.mark.parametrize("value", ["s3://x", None, 5, ["text"], [TABLE, {"a": 1}]])
async def test_what_is_not_a_table_is_refused_before_anything_is_paid(job, provider, value):
    """With what a table may be."""
    with pytest.raises(UsageError, match=r"source\(\) .*Return an Arrow table"):
        await table_job(job, value).run()
    assert not provider.batches


async def test_an_empty_table_is_an_empty_input(job):
    """As an empty file is."""
    manifest = await table_job(job, iter([]), on_empty="skip").run()

    assert manifest.requests == 0
    with pytest.raises(UsageError, match=r"Cannot submit empty batch: source\(\) has no rows"):
        await table_job(job, iter([])).run()


@pytest.mark.parametrize("column", [["secret", 5], [[1], "secret"], [object(), 1]], ids=["text", "list", "object"])
@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_frame_that_arrow_does_not_take_is_refused_by_its_column(job, provider, column, pieces):
    """Without what its cells hold; also when it is the last of several."""
    frames = [pd.DataFrame({"id": [0], "text": ["a"]}), pd.DataFrame({"id": [1, 2], "text": column})]
    with pytest.raises(UsageError, match=r"source\(\) has a column that Arrow does not take: .*text") as refused:
        await table_job(job, iter(frames[-pieces:])).run()
    assert "secret" not in str(refused.value)
    assert not provider.batches


@pytest.mark.parametrize("value", [pd.DataFrame({"text": ["a"]}, index=["x"]), [{"text": "a"}]], ids=["frame", "dicts"])
async def test_a_column_that_a_returned_table_lacks_is_told_of_the_function(job, value):
    """The files that it is kept in say nothing to the user; an index without a name is not one."""
    with pytest.raises(UsageError, match=r"Row 0 of source\(\) has no column 'id'\. Its columns are 'text'\."):
        await table_job(job, value).run()


@pytest.mark.parametrize("keys", [["x", "y"], [1, 2], [5, 3]])
async def test_the_named_index_of_a_frame_is_a_column(job, provider, keys):
    """Whatever its values are: pandas itself keeps some and drops others."""
    frame = pd.DataFrame({"id": keys, "text": ["a", "b"]}).set_index("id")
    manifest = await table_job(job, frame).run()

    assert pq.read_table(manifest.results)["id"].to_pylist() == keys


async def test_each_level_of_an_index_is_a_column_if_it_has_a_name(job):
    """Pieces that were put together have a level without one."""
    pieces = [pd.DataFrame({"text": [text]}, index=pd.Index([key], name="id")) for key, text in ((7, "a"), (3, "b"))]
    manifest = await table_job(job, pd.concat(pieces, keys=["x", "y"])).run()

    table = pq.read_table(manifest.results)
    assert table["id"].to_pylist() == [7, 3]
    assert table.column_names[:3] == ["id", "text", "output"]


async def test_an_index_without_a_name_is_left_out(job):
    """Rows that were filtered have one that pandas would keep."""
    frame = pd.DataFrame({"id": [1, 2, 3], "text": ["a", "b", "c"]}).query("id != 2")
    manifest = await table_job(job, frame).run()

    assert pq.read_schema(manifest.results).names[:3] == ["id", "text", "output"]
