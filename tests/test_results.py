"""Results as files and as typed rows."""

from __future__ import annotations

import json

import pytest
from fakes import failing
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, field_serializer

from airflow_batch_provider import results as results_module
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.row_files import RowFile, blocks_in

SCHEMA_ANSWERS = {
    "a": '{"label": "good", "score": 1, "tags": ["x"]}',
    "b": "no json",
    "c": '{"label": "bad", "score": 2}',
}


class Review(BaseModel):
    label: str
    score: int
    tags: list[str] = []


@pytest.fixture(autouse=True)
def plain_paths(monkeypatch):
    """Without Airflow's connections: the core is tested without Airflow."""
    from upath import UPath

    monkeypatch.setattr(results_module, "open_path", UPath)


def answers(provider, table):
    provider.answer = lambda body, _n: Reply(key="", status="succeeded", output=table[body["prompt"]])


@pytest.mark.parametrize("result_format", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
async def test_rows_come_back_typed_and_in_order(job, provider, result_format):
    """As the pydantic model that was asked for; a bad row keeps its text."""
    answers(provider, SCHEMA_ANSWERS)
    manifest = await job(output_type=Review, result_format=result_format).run()

    rows = list(BatchResults(manifest.model_dump(mode="json"), Review))

    assert rows[0].output == Review(label="good", score=1, tags=["x"])
    assert (rows[1].status, rows[1].output) == ("invalid", "no json")
    assert [row.index for row in rows] == [0, 1, 2]
    assert [review.score for review in BatchResults(manifest, Review).outputs()] == [1, 2]
    assert len(BatchResults(manifest)) == 3


async def test_parquet_columns_have_the_types_of_the_schema(job, provider):
    """A struct with the model's fields, so that SQL engines read answers without parsing."""
    answers(provider, SCHEMA_ANSWERS)
    manifest = await job(output_type=Review, result_format="parquet").run()

    table = BatchResults(manifest).to_arrow()

    assert str(table.schema.field("output").type) == "struct<label: string, score: int64, tags: list<element: string>>"
    assert table["output_text"].to_pylist() == [None, "no json", None]
    assert BatchResults(manifest).to_pandas()["custom_id"].tolist() == ["request-0", "request-1", "request-2"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}},
    ],
)
async def test_a_schema_without_an_arrow_type_becomes_json_text(job, provider, schema):
    """Open dicts, unions and schemas that refer to themselves."""
    answers(provider, {"a": "{}"})
    manifest = await job(["a"], output_type=schema, result_format="parquet").run()

    assert BatchResults(manifest).to_arrow()["output"].to_pylist() == ["{}"]


async def test_text_and_errors_in_parquet(job, provider):
    """Plain answers are strings; a failed row has its reason."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, _n: failing(retryable=False) if body["prompt"] == "b" else ok
    manifest = await job(result_format="parquet").run()

    rows = list(BatchResults(manifest))

    assert [row.output for row in rows] == ["fine", None, "fine"]
    assert rows[1].error.code == "overloaded"


async def test_vectors_in_parquet(job, provider):
    """As lists of 32-bit floats."""
    from airflow_batch_provider.stages.embed import EmbedStage

    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output=[0.5, 0.25])
    task = job(kind="embed", result_format="parquet")
    task.stage = EmbedStage()

    manifest = await task.run()

    assert str(BatchResults(manifest).to_arrow().schema.field("output").type) == "list<element: float>"
    assert next(BatchResults(manifest).outputs()) == [0.5, 0.25]


async def test_results_go_where_the_user_wants_them(job, tmp_path):
    """A file by its name, or one named after the task in a folder."""
    as_file = await job(result_path=str(tmp_path / "out" / "answers.parquet")).run()
    in_folder = await job(["x"], result_path=str(tmp_path / "folder")).run()

    assert as_file.format == "parquet"
    assert (tmp_path / "out" / "answers.parquet").exists()
    assert in_folder.results.endswith("folder/dag/run/task/results.jsonl")


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("waves", [1, 2])
async def test_a_compressed_file_has_the_same_rows(job, provider, tmp_path, ending, waves):
    """Whether they are the landed lines, or merged out of two waves; it says so by its name, and any tool reads it."""
    good = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if (body["prompt"], n, waves) == ("b", 1, 2) else good
    manifest = await job(result_path=str(tmp_path / f"rows.{ending}"), retry_rows=1).run()

    assert (manifest.format, manifest.waves) == (ending, waves)
    assert [row.output for row in BatchResults(manifest)] == ["fine"] * 3
    assert sum(map(len, blocks_in(RowFile(LocalFileSystem(), manifest.results, "rows"), None))) == 3


async def test_a_dry_run_has_no_results(job):
    """The message says how to get some."""
    manifest = await job(dry_run=True).run()

    with pytest.raises(UsageError, match="dry_run=False"):
        BatchResults(manifest)


MIXED = {
    "an invalid row": [{"a": 1}, "no json"],
    "a union": [{"a": 1}, {"a": "x"}],
    "tool calls": [{"tool_calls": [{"n": 1}]}, {"tool_calls": [{"n": {"z": 2}}]}],
    "a large number": [{"a": 2**70}, {"a": 1}],
    "nothing": [None, "text"],
}


def file_of(path, outputs):
    """A results file of rows with these answers."""
    rows = [
        {"custom_id": str(place), "index": place, "status": "succeeded", "output": output}
        for place, output in enumerate(outputs)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("outputs", MIXED.values(), ids=list(MIXED))
def test_answers_of_any_shape_have_one_arrow_table(tmp_path, outputs):
    """As a Parquet file has them; Arrow itself takes one type in a column (trulens#763)."""
    table = BatchResults(str(file_of(tmp_path / "rows.jsonl", outputs))).to_arrow()

    assert str(table.schema.field("output").type) == "string"
    told = zip(table["output"].to_pylist(), table["output_json"].to_pylist(), strict=True)
    assert [output if encoded is None else json.loads(encoded) for output, encoded in told] == outputs


@pytest.mark.parametrize("kind", ["generate", "embed"])
async def test_both_formats_are_the_same_arrow_table(job, provider, kind):
    """When the type is given, which a Parquet file knows by itself."""
    tables = []
    for result_format in ("jsonl", "parquet"):
        answers(provider, SCHEMA_ANSWERS)
        output_type = Review
        task = job(output_type=Review, result_format=result_format)
        if kind == "embed":
            from airflow_batch_provider.stages.embed import EmbedStage

            provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output=[0.5, 0.25])
            output_type, task = None, job(kind="embed", result_format=result_format)
            task.stage = EmbedStage()
        task.root = task.root / result_format
        tables.append(BatchResults(await task.run(), output_type).to_arrow().drop_columns(["batch_id"]))

    assert tables[0].equals(tables[1])
    assert tables[0].schema.equals(tables[1].schema)


@pytest.mark.parametrize("result_format", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
async def test_a_results_file_is_read_without_its_manifest(job, provider, result_format, tmp_path):
    """By its path; the rows are the same."""
    answers(provider, SCHEMA_ANSWERS)
    place = tmp_path / f"answers.{result_format}"
    manifest = await job(output_type=Review, result_format=result_format, result_path=str(place)).run()

    for given in (place, str(place), place.as_uri()):
        rows = BatchResults(given, Review)
        assert list(rows) == list(BatchResults(manifest, Review))
        assert (len(rows), rows.manifest) == (3, None)


def test_a_frame_keeps_whole_numbers_whole(tmp_path):
    """A row without an answer does not turn the others' 34 into 34.0."""
    frame = BatchResults(file_of(tmp_path / "rows.jsonl", [{"age": 34}, None])).to_pandas()

    assert repr(frame["output"].tolist()) == "[{'age': 34}, None]"


class Shy(BaseModel):
    n: int

    @field_serializer("n")
    def shown(self, n: int) -> int:
        if n == 2:
            raise ValueError("not this one")
        return n


def test_an_answer_that_its_type_reads_but_does_not_write_ends_no_frame(tmp_path):
    """It stands there as it landed."""
    answers_ = [{"n": 1}, {"n": 2}, {"n": 3}]
    frame = BatchResults(file_of(tmp_path / "rows.jsonl", answers_), Shy).to_pandas()

    assert frame["output"].tolist() == answers_


def test_a_results_file_is_read_by_a_path_of_any_kind(tmp_path):
    """Airflow's own is none that Python's `os` knows."""
    from airflow.sdk import ObjectStoragePath

    place = file_of(tmp_path / "rows.jsonl", [{"n": 1}])

    assert [row.output for row in BatchResults(ObjectStoragePath(place.as_uri()))] == [{"n": 1}]
