"""Table in, table out: kept columns beside the fields of the answers and what became of each row."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import json
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Job, failing
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ValidationError

from airflow_batch_provider import prompts
from airflow_batch_provider import results as results_module
from airflow_batch_provider.exceptions import RowsFailed, UsageError
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.row_files import RowFile, blocks_in, records
from airflow_batch_provider.stages.config import Source


class Review(BaseModel):
    label: str
    score: int
    tags: list[str] = []


ROWS = [
    {"review_id": 7, "text": "a", "stars": 4.5},
    {"review_id": 8, "text": "b", "stars": None},
    {"review_id": 9, "text": "c", "stars": 1.0},
]
ANSWERS = {
    "a": '{"label": "good", "score": 1, "tags": ["x", "y"]}',
    "b": "no json",
    "c": '{"label": "bad", "score": 2}',
}
FORMATS = ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst", "tsv", "parquet"]
ADDED = [
    "status", "error_code", "error", "retryable", "finish_reason", "input_tokens", "output_tokens", "model", "wave",
    "batch_id", "same_as", "cached_at", "raw_output",
]  # fmt: skip


@pytest.fixture(autouse=True)
def plain_paths(monkeypatch):
    from upath import UPath

    monkeypatch.setattr(results_module, "open_path", UPath)


@pytest.fixture
def answers(provider):
    provider.answer = lambda body, _n: Reply(key="", status="succeeded", output=ANSWERS[body["prompt"]], model="m-1")


def written(path, rows=ROWS):
    """A source of these rows, in the format of its name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ".jsonl" in path.name:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def table_job(job, source, prompt="{text}", key="review_id", **config):
    return job(**{"source": Source(uri=str(source), prompt=prompt, key=key), "keep_columns": True} | config)


def records_of(manifest):
    """The rows of the file as any reader of its format has them."""
    if manifest.format == "parquet":
        return pq.read_table(manifest.results).to_pylist()
    return [row for block in blocks_in(RowFile(LocalFileSystem(), manifest.results, "out"), None) for row in block]


@pytest.mark.parametrize("out", FORMATS)
async def test_a_table_tells_which_answers_were_not_bought_for_their_row(provider, clock, answers, tmp_path, out):
    """As other results do: the key of the row whose answer it is, or when an earlier task was answered."""
    cache = {"row_cache": (tmp_path / "cache").as_uri(), "dedup_rows": True}
    for folder, more in (("first", ROWS[:1]), ("second", [*ROWS[:1], ROWS[2], ROWS[2] | {"review_id": 10}])):
        (tmp_path / folder).mkdir()
        source = written(tmp_path / folder / "in.parquet", more)
        result = str(tmp_path / folder / f"out.{out}")
        new_job = partial(Job, tmp_path / folder / "storage", provider, clock, [])
        manifest = await table_job(new_job, source, output_type=Review, result_path=result, **cache).run()

    records, rows = records_of(manifest), list(BatchResults(manifest, Review))
    assert [str(record["same_as"] or "") for record in records] == ["", "", "9"]
    assert [bool(record["cached_at"]) for record in records] == [True, False, False]
    assert [row.same_as for row in rows] == [None, None, "9"]
    assert [row.cached_at and row.cached_at.utcoffset() for row in rows] == [dt.timedelta(0), None, None]


@pytest.mark.parametrize("out", FORMATS)
async def test_a_table_has_the_sources_columns_the_answers_fields_and_what_became_of_each_row(
    job, answers, tmp_path, out
):
    """In this order, in every format, row by row as the source has them."""
    source = written(tmp_path / "in.parquet")
    manifest = await table_job(job, source, output_type=Review, result_path=str(tmp_path / f"out.{out}")).run()

    records = records_of(manifest)
    assert manifest.format == out
    names = ["review_id", "text", "stars", "label", "score", "tags", *ADDED]
    assert list(records[0]) == names
    assert [str(record["review_id"]) for record in records] == ["7", "8", "9"]
    assert [record["text"] for record in records] == ["a", "b", "c"]
    assert [record["label"] or None for record in records] == ["good", None, "bad"]
    assert [str(record["score"] or "") for record in records] == ["1", "", "2"]
    assert [record["status"] for record in records] == ["succeeded", "invalid", "succeeded"]
    assert [record["error_code"] or None for record in records] == [None, "invalid_output", None]
    assert {str(record["input_tokens"]) for record in records} == {"10"}
    assert {record["model"] for record in records} == {"m-1"}
    assert {record["batch_id"] for record in records} == {"batch-0"}


@pytest.mark.parametrize("out", FORMATS)
async def test_the_rows_of_a_table_are_those_of_its_results(job, answers, tmp_path, out):
    """Typed, with their keys and errors, exactly as without a table; and with what was kept."""
    source = written(tmp_path / "in.parquet")
    plain = await job(source=Source(uri=str(source), prompt="{text}", key="review_id"), output_type=Review).run()
    table = table_job(job, source, output_type=Review, result_path=str(tmp_path / f"out.{out}"))
    table.root = table.root / "table"
    manifest = await table.run()

    expected = [row.model_copy(update={"batch_id": "batch-1"}) for row in BatchResults(plain)]
    rows = list(BatchResults(manifest.model_dump(mode="json")))
    assert [row.model_copy(update={"columns": {}}) for row in rows] == expected
    assert rows[0].output == {"label": "good", "score": 1, "tags": ["x", "y"]}
    assert [review.score for review in BatchResults(manifest, Review).outputs()] == [1, 2]
    assert [str(row.columns["review_id"]) for row in rows] == ["7", "8", "9"]
    assert BatchResults(manifest).to_pandas()["text"].tolist() == ["a", "b", "c"]
    assert BatchResults(manifest).to_arrow()["text"].to_pylist() == ["a", "b", "c"]
    assert len(BatchResults(manifest)) == 3


async def test_columns_of_parquet_keep_their_types_and_the_answers_get_those_of_the_schema(job, answers, tmp_path):
    """Decimals, timestamps, nested values and dates that Python does not know."""
    types = pa.schema(
        [
            ("review_id", pa.int32()),
            ("text", pa.string()),
            ("price", pa.decimal128(9, 2)),
            ("at", pa.timestamp("us", "UTC")),
            ("far", pa.date32()),
            ("nested", pa.struct([("a", pa.list_(pa.int16()))])),
        ]
    )
    columns = [[7, 8, 9], ["a", "b", "c"], [Decimal("1.50"), None, Decimal("2.00")]]
    columns += [
        [dt.datetime(2026, 11, 23, tzinfo=dt.UTC)] * 3,
        pa.array([4_000_000] * 3, pa.date32()),
        [{"a": [1]}] * 3,
    ]
    table = pa.table(dict(zip(types.names, columns, strict=True)), types)
    pq.write_table(table, tmp_path / "in.parquet")

    manifest = await table_job(job, tmp_path / "in.parquet", output_type=Review).run()

    found = pq.read_table(manifest.results)
    assert manifest.format == "parquet"
    assert found.select(types.names).replace_schema_metadata(None).equals(table)
    assert [str(found.schema.field(name).type) for name in ("label", "score", "tags", "retryable", "wave")] == [
        "string", "int64", "list<element: string>", "bool", "int64",
    ]  # fmt: skip


@pytest.mark.parametrize("out", ["jsonl", "csv"])
async def test_values_that_json_does_not_know_are_text_there(job, answers, tmp_path, out):
    """Also a date that Python does not know."""
    columns = {
        "text": ["a"],
        "price": [Decimal("1.50")],
        "at": [dt.datetime(2026, 11, 23)],  # noqa: DTZ001 — as tables have it
        "far": pa.array([4_000_000], pa.date32()),
        "nan": [float("nan")],
        "took": [dt.timedelta(seconds=2)],
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    manifest = await table_job(job, tmp_path / "in.parquet", key=None, result_path=str(tmp_path / f"out.{out}")).run()

    record = records_of(manifest)[0]
    assert record["price"] == "1.50"
    assert record["at"].startswith("2026-11-23")
    assert record["far"] == "12921-08-18"
    assert not record["nan"]


@pytest.mark.parametrize("out", ["jsonl", "csv", "parquet"])
async def test_a_cell_that_has_no_text_keeps_no_answer_from_being_written(job, answers, tmp_path, out):
    """Bytes, a time zone that nobody knows, a date that Python does not know within others: the rows are paid by then."""
    columns = {
        "text": ["a"],
        "bytes": [b"\xff"],
        "at": pa.array([7], pa.timestamp("us", tz="Nowhere/City")),
        "far": pa.array([{"on": [4_000_000, 0]}], pa.struct([("on", pa.list_(pa.date32()))])),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    path = tmp_path / f"out.{out}"
    manifest = await table_job(job, tmp_path / "in.parquet", key=None, result_path=str(path)).run()

    assert manifest.counts["succeeded"] == 1
    if out != "parquet":
        record = records_of(manifest)[0]
        assert (record["bytes"], record["at"]) == ("/w==", "7")
        far = record["far"] if out == "jsonl" else json.loads(record["far"])
        assert far == {"on": ["12921-08-18", "1970-01-01"]}


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff")])


def test_text_that_is_not_utf8_is_the_bytes_that_it_is():
    """As a file of another writer may hold it."""
    assert records(pa.record_batch({"text": NOT_UTF8})) == [{"text": b"\xff"}]


NOT_OF_PYTHON = {
    "moment beyond the year 9999": pa.array([300_000_000_000], pa.timestamp("s")),
    "moment long ago": pa.array([-(2**62)], pa.timestamp("us")),
    "day beyond all years": pa.array([2**31 - 1], pa.date32()),
    "time zone of nowhere": pa.array([7], pa.timestamp("us", tz="Nowhere/City")),
    "long time": pa.array([2**62], pa.duration("s")),
    "not UTF-8": NOT_UTF8,
    "not UTF-8 in a list": pa.ListArray.from_arrays([0, 1], NOT_UTF8),
    "number of 64 bits": pa.array([2**64 - 1], pa.uint64()),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("out", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("cell", NOT_OF_PYTHON.values(), ids=NOT_OF_PYTHON)
async def test_a_kept_cell_that_python_does_not_know_keeps_no_row_from_being_read(job, answers, tmp_path, out, cell):
    """Row by row, and as a table of Arrow's."""
    pq.write_table(pa.table({"text": ["a"], "odd": cell}), tmp_path / "in.parquet")
    manifest = await table_job(job, tmp_path / "in.parquet", key=None, result_path=str(tmp_path / f"out.{out}")).run()

    [row] = BatchResults(manifest)
    assert (row.status, row.columns["text"]) == ("succeeded", "a")
    assert row.columns["odd"] is not None
    assert BatchResults(manifest).to_arrow().num_rows == 1


KEYS = [b"k-1", b"\xff", dt.datetime(2026, 11, 23, 5, tzinfo=dt.UTC), dt.timedelta(seconds=2), Decimal("1.50"), True, 7]


@pytest.mark.parametrize("out", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("key", KEYS, ids=repr)
async def test_the_key_of_a_row_is_the_one_it_was_asked_under(job, answers, tmp_path, out, key):
    """Whatever each format makes of its column; a cell that gives no key leaves the row its number."""
    pq.write_table(pa.table({"review_id": [key], "text": ["a"]}), tmp_path / "in.parquet")
    task = table_job(job, tmp_path / "in.parquet", result_path=str(tmp_path / f"out.{out}"), on_bad_row="skip")
    usable = prompts.usable_key(key)
    if usable is None:
        with pytest.raises(RowsFailed):
            await task.run()
        return
    assert [row.custom_id for row in BatchResults(await task.run())] == [usable]


async def test_csv_in_is_csv_out_and_a_table_of_text(job, answers, tmp_path):
    """The same format out as in, when nothing else is said; commas, quotes and newlines stay."""
    rows = [{"review_id": "0007", "text": "a", "note": 'he said "a,\nb"'}]
    manifest = await table_job(job, written(tmp_path / "in.csv", rows), output_type=Review).run()

    assert manifest.format == "csv"
    record = records_of(manifest)[0]
    assert (record["review_id"], record["note"]) == ("0007", 'he said "a,\nb"')
    assert record["tags"] == '["x","y"]'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("in.jsonl", "jsonl"),
        ("in.jsonl.gz", "jsonl.gz"),
        ("in.tsv", "tsv"),
        ("in.parquet", "parquet"),
        ("*.csv", "csv"),
    ],
)
async def test_a_table_has_the_format_of_its_source(job, answers, tmp_path, name, expected):
    """In stage storage and in a folder."""
    written(tmp_path / name.replace("*", "in"))
    manifest = await table_job(job, tmp_path / name, result_path=str(tmp_path / "folder")).run()

    assert manifest.format == expected
    assert manifest.results.endswith(f"results.{expected}")


async def test_only_the_columns_that_are_named_are_kept_and_the_key(job, answers, tmp_path):
    """In the order in which they are named."""
    for name in ("in.parquet", "in.csv", "in.jsonl"):
        task = table_job(job, written(tmp_path / name), keep_columns=("stars",), result_format="parquet")
        task.root = task.root / name
        found = pq.read_table((await task.run()).results)
        assert found.column_names[:3] == ["review_id", "stars", "output"]


async def test_text_and_vectors_have_one_column(job, provider, tmp_path):
    """`output`; other answers of a text task, such as tool calls, are JSON in `raw_output`."""
    from airflow_batch_provider.stages.embed import EmbedStage

    source = written(tmp_path / "in.jsonl")
    outputs = {"a": "fine", "b": {"tool_calls": [], "text": None}, "c": "x,y"}
    provider.answer = lambda body, _n: Reply(key="", status="succeeded", output=outputs[body["prompt"]])
    for out in ("jsonl", "csv", "parquet"):
        task = table_job(job, source, result_path=str(tmp_path / f"text.{out}"))
        task.root = task.root / out
        rows = list(BatchResults(await task.run()))
        assert [row.output for row in rows] == list(outputs.values())

    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output=[0.5, 0.25])
    for out in ("jsonl", "csv", "parquet"):
        task = table_job(job, source, kind="embed", result_path=str(tmp_path / f"vectors.{out}"))
        task.stage, task.root = EmbedStage(), task.root / f"vectors-{out}"
        manifest = await task.run()
        assert next(BatchResults(manifest).outputs()) == [0.5, 0.25]
    assert str(pq.read_schema(tmp_path / "vectors.parquet").field("output").type) == "list<element: float>"


@pytest.mark.parametrize("out", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    "answer",
    [
        {"label": "", "score": None, "more": {"a": 1}, "any": [1, "x"]},
        {"label": "x", "score": 2**70, "any": None},
        {"label": None, "score": 1.0},
        {"label": "5", "unknown": True},
        {},
    ],
)
async def test_an_answer_is_given_back_exactly(job, provider, tmp_path, out, answer):
    """Whatever its fields hold or lack: what the columns cannot tell stands in `raw_output`."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "score": {"type": ["number", "null"]},
            "more": {"$ref": "#/$defs/open"},
            "any": {},
        },
        "$defs": {"open": {"type": "object", "additionalProperties": True}},
    }
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output=json.dumps(answer))
    source = written(tmp_path / "in.jsonl", ROWS[:1])
    manifest = await table_job(job, source, output_type=schema, result_path=str(tmp_path / f"out.{out}")).run()

    (row,) = BatchResults(manifest)
    assert json.dumps(row.output, sort_keys=True) == json.dumps(answer, sort_keys=True)


async def test_a_type_without_fields_has_one_column(job, provider, tmp_path):
    """A list, of the type of the list."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output='{"value": [1, 2]}')
    source = written(tmp_path / "in.jsonl", ROWS[:1])
    for out in ("jsonl", "csv", "parquet"):
        task = table_job(job, source, output_type=list[int], result_path=str(tmp_path / f"out.{out}"))
        task.root = task.root / out
        assert [row.output for row in BatchResults(await task.run(), list[int])] == [[1, 2]]
    assert str(pq.read_schema(tmp_path / "out.parquet").field("output").type) == "list<element: int64>"


async def test_ragged_json_becomes_columns(job, answers, tmp_path):
    """All that any row has; a column of one kind has its type, others are JSON text."""
    rows = [
        {"text": "a", "n": 1, "mixed": 1, "deep": {"x": [1]}},
        {"text": "b", "n": 2.5, "late": True},
        {"text": "c", "mixed": "one", "none": None, "big": 2**60},
    ]
    source = written(tmp_path / "in.jsonl", rows)
    manifest = await table_job(job, source, key=None, result_path=str(tmp_path / "out.parquet")).run()

    table = pq.read_table(manifest.results)
    kinds = {name: str(table.schema.field(name).type) for name in ("n", "mixed", "deep", "late", "none", "big")}
    assert kinds == {
        "n": "double", "mixed": "string", "deep": "string", "late": "bool", "none": "string", "big": "int64",
    }  # fmt: skip
    assert table["mixed"].to_pylist() == ["1", None, '"one"']
    assert table["deep"].to_pylist() == ['{"x":[1]}', None, None]


async def test_rows_that_cannot_be_asked_keep_their_place_and_columns(job, answers, tmp_path):
    """Skipped as bad: an empty prompt, a broken line."""
    (tmp_path / "in.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "", "n": 2}\n{\n{"text": "c", "n": 4}\n')
    for out in ("jsonl", "csv", "parquet"):
        task = table_job(
            job, tmp_path / "in.jsonl", key=None, on_bad_row="skip", result_path=str(tmp_path / f"out.{out}")
        )
        task.root = task.root / out
        manifest = await task.run()
        records = records_of(manifest)
        assert [str(record["n"] or "") for record in records] == ["1", "2", "", "4"]
        assert [record["status"] for record in records] == ["succeeded", "failed", "failed", "succeeded"]
        assert [row.custom_id for row in BatchResults(manifest)] == [f"request-{index}" for index in range(4)]


async def test_kept_columns_are_those_of_the_rows_that_were_planned(job, provider, answers, tmp_path):
    """The source is another one when the answers are here."""
    source = written(tmp_path / "in.parquet")
    task = table_job(job, source)
    suspended = await task.start()
    written(source, [{"review_id": 1, "text": "z", "stars": 0.0}])
    await task.wait(suspended)
    manifest = await task.resume(suspended)

    assert [record["stars"] for record in records_of(manifest)] == [4.5, None, 1.0]


async def test_a_retry_keeps_the_columns_of_the_plan_and_may_keep_others(job, provider, tmp_path):
    """Nothing is bought for them: the rows are the same."""
    source = written(tmp_path / "in.parquet")
    good = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else good
    task = table_job(job, source, on_partial="fail", keep_columns=("stars",))
    with pytest.raises(Exception, match=r"2 of 3"):
        await task.run()
    written(source, [row | {"stars": 9.0} for row in ROWS])

    again = table_job(job, source, on_partial="fail", keep_columns=("stars",))
    again.attempt = 2
    assert [record["stars"] for record in records_of(await again.run())] == [4.5, None, 1.0]
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


async def test_a_finished_task_that_is_cleared_may_keep_other_columns(job, provider, answers, tmp_path):
    """The results are written again as they are asked for now; nothing is bought."""
    source = written(tmp_path / "in.parquet")
    await table_job(job, source, keep_columns=("stars",)).run()
    again = table_job(job, source, keep_columns=("text",))
    again.attempt = 2
    manifest = await again.run()

    assert manifest.table.kept == ("review_id", "text")
    assert list(records_of(manifest)[0])[:3] == ["review_id", "text", "output"]
    assert len(provider.batches) == 1


@pytest.mark.parametrize("name", ["in.parquet", "in.csv", "in.jsonl"])
@pytest.mark.parametrize(
    ("column", "options"), [("status", {}), ("label", {}), ("llm_score", {"column_prefix": "llm_"}), ("raw_output", {})]
)
async def test_a_column_that_is_named_as_one_of_the_results_is_refused_before_anything_is_paid(
    job, provider, tmp_path, name, column, options
):
    """With the remedy; two prefixes apart they go together."""
    source = written(tmp_path / name, [{"text": "a", column: "x"}])
    task = table_job(job, source, key=None, output_type=Review, **options)
    with pytest.raises(UsageError, match=f"Column '{column}' of the source .* Give column_prefix"):
        await task.run()
    assert not provider.batches

    answer = Reply(key="", status="succeeded", output=ANSWERS["a"])
    provider.answer = lambda _body, _n: answer
    task = table_job(job, source, key=None, output_type=Review, column_prefix="its_")
    record = records_of(await task.run())[0]
    assert (record[column], record["its_label"], record["its_status"]) == ("x", "good", "succeeded")


@pytest.mark.parametrize("name", ["in.parquet", "in.csv", "in.jsonl"])
async def test_a_column_that_is_not_there_is_refused_before_anything_is_paid(job, provider, tmp_path, name):
    """By its name."""
    with pytest.raises(UsageError, match="'starz'"):
        await table_job(job, written(tmp_path / name), keep_columns=("starz",)).run()
    assert not provider.batches


async def test_a_key_that_is_used_twice_is_refused(job, provider, tmp_path):
    """A table is joined by it."""
    source = written(tmp_path / "in.parquet", [{"review_id": 7, "text": "a"}, {"review_id": 7, "text": "b"}])
    with pytest.raises(UsageError, match="custom_id '7' is used by row 0 and by row 1"):
        await table_job(job, source).run()
    assert not provider.batches


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"source": None}, "keep_columns keeps columns of a source"),
        ({"source": Source(uri="x.jsonl")}, "keep_columns keeps columns of a source"),
        ({"keep_columns": (), "source": Source(uri="x.jsonl", prompt="{text}")}, "names no column"),
        ({"keep_columns": False, "result_format": "csv"}, "csv results are tables"),
        ({"keep_columns": False, "column_prefix": "x_"}, "column_prefix names columns of a table"),
        ({"output_type": {"type": "object", "properties": {"error": {}}}}, "the field 'error' of output_type"),
        ({"result_path": "x.jsonl"}, "result_path is the source"),
        ({"result_path": "out.parquet", "max_rows_per_file": 5}, "max_rows_per_file makes part files"),
    ],
)
def test_what_makes_no_table_is_refused_while_the_dag_is_parsed(job, config, message):
    """In the words of the arguments."""
    with pytest.raises(ValidationError, match=message):
        job(**{"source": Source(uri="x.jsonl", prompt="{text}"), "keep_columns": True} | config)


@pytest.mark.parametrize(
    ("source", "result", "more"),
    [
        ("/in", "/in/out.jsonl", {}),
        ("/in/", "/in/out", {}),
        ("s3://b/in", "s3://b/in/deep/out.parquet", {}),
        ("/in/*.jsonl", "/in/out.jsonl", {}),
        ("/in/*/*.csv", "/in/out", {"max_rows_per_file": 5, "result_format": "csv"}),
        ("/in/**", "/in/out", {}),
    ],
)
def test_results_among_the_files_of_the_source_are_refused(job, source, result, more):
    """A retry would read them as rows, and buy all of them under another plan."""
    with pytest.raises(ValidationError, match="among the files of the source"):
        table_job(job, source, result_path=result, **more)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("/in", "/in-answered/out.jsonl"),
        ("/in/*.csv", "/in/out.jsonl"),
        ("/in/*.jsonl", "/in/out/out.jsonl"),
        ("/in.parquet", "/in.parquet/out"),
        ("/in", "/out"),
    ],
)
def test_results_beside_the_files_of_the_source_are_taken(job, source, result):
    """What a glob does not match is not read."""
    assert table_job(job, source, result_path=result).config.result_path == result


async def test_a_field_that_the_first_answer_lacks_is_a_column_of_arrow_too(job, answers, tmp_path):
    """Arrow alone would take the columns of the first row for all."""
    source = written(tmp_path / "in.jsonl", [ROWS[2], ROWS[0]])
    manifest = await table_job(job, source, output_type=Review).run()

    table = BatchResults(manifest).to_arrow()
    assert table["tags"].to_pylist() == [None, ["x", "y"]]
    assert table["label"].to_pylist() == ["bad", "good"]


async def test_a_table_without_its_manifest_says_what_is_missing(job, answers, tmp_path):
    """Parquet knows its own columns."""
    source = written(tmp_path / "in.parquet")
    for out in ("jsonl", "csv", "parquet"):
        task = table_job(job, source, output_type=Review, result_path=str(tmp_path / f"out.{out}"))
        task.root = task.root / out
        manifest = await task.run()
        if out == "parquet":
            assert list(BatchResults(manifest.results)) == list(BatchResults(manifest))
            continue
        with pytest.raises(UsageError, match="Give BatchResults the task's manifest"):
            list(BatchResults(manifest.results))


def test_a_mixed_source_has_no_table(tmp_path):
    """Parquet has types, lines have none."""
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.tables.columns import KeptColumns
    from airflow_batch_provider.tables.keeping import Keeper

    keeper = Keeper(KeptColumns(None, None), Spec(model="m"))
    keeper.begin()
    keeper.row({"text": "a"})
    with pytest.raises(UsageError, match="partly Parquet"):
        keeper.batch(pa.record_batch({"text": ["b"]}))
    keeper.close()
