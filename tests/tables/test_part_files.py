"""Results as part files: bounded, under names that stay the same, read as one."""

from __future__ import annotations

import uuid

import pytest
from fakes import failing
from parquet_files import group_sizes
from upath import UPath

from airflow_batch_provider import parquet
from airflow_batch_provider import results as results_module
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.config import Source
from airflow_batch_provider.stages.host import Host

LETTERS = list("abcdefg")


@pytest.fixture(autouse=True)
def plain_paths(monkeypatch):
    monkeypatch.setattr(results_module, "open_path", UPath)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("result_format", ["jsonl", "jsonl.zst", "parquet"])
async def test_results_are_cut_into_part_files(job, tmp_path, result_format):
    """Of at most so many rows; the folder is the user's own, and its rows are read as those of one file."""
    folder = tmp_path / "out" / "day=2026-11-23"
    manifest = await job(LETTERS, max_rows_per_file=3, result_path=f"{folder}/", result_format=result_format).run()

    assert names(folder) == [f"part-0000{number}.{result_format}" for number in range(3)]
    assert (manifest.files, manifest.results.rstrip("/"), manifest.format) == (3, str(folder), result_format)
    for given in (manifest, manifest.model_dump(mode="json"), folder):
        rows = list(BatchResults(given))
        assert [row.output for row in rows] == [f"echo: {letter}" for letter in LETTERS]
        assert [row.index for row in rows] == list(range(7))
        assert len(BatchResults(given)) == 7
        assert len(BatchResults(given).to_arrow()) == 7
        assert len(BatchResults(given).to_pandas()) == 7


@pytest.mark.parametrize("out", ["jsonl", "csv.gz", "parquet"])
async def test_a_table_is_cut_with_the_columns_that_it_keeps(job, tmp_path, out):
    """Each row with its own."""
    (tmp_path / "in.csv").write_text(
        "id,text\n" + "".join(f"{place},{letter}\n" for place, letter in enumerate(LETTERS))
    )
    source = Source(uri=str(tmp_path / "in.csv"), prompt="{text}", key="id")
    task = job(
        source=source, keep_columns=True, max_rows_per_file=2, result_path=str(tmp_path / "out"), result_format=out
    )
    manifest = await task.run()

    rows = list(BatchResults(manifest))
    assert manifest.files == 4
    assert [(row.custom_id, row.columns["text"], row.output) for row in rows] == [
        (str(place), letter, f"echo: {letter}") for place, letter in enumerate(LETTERS)
    ]
    assert [row.index for row in rows] == list(range(7))


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups of one row, and of twice as many for four times as many of them."""
    for name, size in {"_GROUP_ROWS": 1, "_CHUNK_ROWS": 1, "_SMALL_COLUMNS": 56}.items():
        monkeypatch.setattr(parquet, name, size)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize(("most", "sizes"), [(None, [4] * 16), (16, [2] * 8)])
async def test_the_size_of_row_groups_is_chosen_by_the_rows_to_come(job, tmp_path, most, sizes):
    """Of the file, which is a part where there are several: rows are 64, columns 14."""
    out = tmp_path / ("out.parquet" if most is None else "out/")
    task = job(
        [str(number) for number in range(64)], max_rows_per_file=most, result_path=str(out), result_format="parquet"
    )
    await task.run()

    assert group_sizes(out if most is None else out / "part-00000.parquet") == sizes


@pytest.mark.usefixtures("small_groups")
async def test_the_size_of_row_groups_of_a_table_is_chosen_alike(job, tmp_path):
    """They do not grow, as those of a file of unknown length do."""
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(f"{number},{number}\n" for number in range(64)))
    source = Source(uri=str(tmp_path / "in.csv"), prompt="{text}", key="id")
    await job(source=source, keep_columns=True, result_path=str(tmp_path / "out.parquet")).run()

    first, *others, _ = group_sizes(tmp_path / "out.parquet")
    assert first > 1
    assert set(others) == {first}


async def test_a_folder_of_part_files_is_a_source(job, tmp_path):
    """What one task writes the next one reads."""
    (tmp_path / "in.csv").write_text("id,text\n1,a\n2,b\n3,c\n")
    source = Source(uri=str(tmp_path / "in.csv"), prompt="{text}", key="id")
    first = job(source=source, keep_columns=True, max_rows_per_file=2, result_path=str(tmp_path / "first"))
    await first.run()
    second = job(
        source=Source(uri=str(tmp_path / "first"), prompt="{output}", key="id"),
        keep_columns=("text",),
        max_rows_per_file=2,
        result_path=str(tmp_path / "second"),
    )
    second.root = second.root / "second"
    rows = list(BatchResults(await second.run()))
    assert [(row.custom_id, row.columns["text"], row.output) for row in rows] == [
        ("1", "a", "echo: echo: a"), ("2", "b", "echo: echo: b"), ("3", "c", "echo: echo: c"),
    ]  # fmt: skip


async def test_a_shorter_result_leaves_no_part_of_a_longer_one(job, tmp_path):
    """Ours go, in whatever format they were; what is not named as ours stays."""
    folder = tmp_path / "out"
    await job(LETTERS, max_rows_per_file=1, result_path=str(folder), result_format="parquet").run()
    for other in ("_SUCCESS", "part-00000-abc.snappy.parquet", "part-x.jsonl", "notes.txt"):
        (folder / other).touch()
    task = job(["a", "b"], max_rows_per_file=1, result_path=str(folder))
    task.root = task.root / "again"
    await task.run()

    assert names(folder) == [
        "_SUCCESS", "notes.txt", "part-00000-abc.snappy.parquet", "part-00000.jsonl", "part-00001.jsonl", "part-x.jsonl",
    ]  # fmt: skip


async def test_a_retry_writes_the_same_names(job, provider, tmp_path):
    """Now with the row that was missing; nothing else is bought."""
    good = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else good
    task = job(["a", "b", "c"], max_rows_per_file=2, result_path=str(tmp_path / "out"), on_partial="fail")
    with pytest.raises(Exception, match="2 of 3"):
        await task.run()
    before = names(tmp_path / "out")
    manifest = await task.retry()

    assert names(tmp_path / "out") == before == ["part-00000.jsonl", "part-00001.jsonl"]
    assert [row.status for row in BatchResults(manifest)] == ["succeeded"] * 3


async def test_no_rows_are_one_empty_part(job, tmp_path):
    """So that a reader finds a table, not nothing."""
    manifest = await job([], max_rows_per_file=2, result_path=str(tmp_path / "out"), on_empty="skip").run()

    assert names(tmp_path / "out") == ["part-00000.jsonl"]
    assert list(BatchResults(manifest)) == []


async def test_a_folder_without_part_files_is_not_a_result(tmp_path):
    """By its name."""
    with pytest.raises(UsageError, match="has no part files"):
        BatchResults(tmp_path)


async def test_part_files_stand_in_stage_storage_by_default(job):
    """And are set aside with the requests that they answer."""
    task = job(LETTERS, max_rows_per_file=3)
    manifest = await task.run()
    assert task.directory.names("results") == [f"part-0000{number}.jsonl" for number in range(3)]
    assert len(list(BatchResults(manifest))) == 7

    task.requests = ["z"]
    await task.retry()
    (old,) = task.directory.names("superseded")
    assert len(task.directory.names(f"superseded/{old}/results")) == 3
    assert task.directory.names("results") == ["part-00000.jsonl"]


async def test_tables_and_part_files_live_on_an_object_store(job, s3_url, monkeypatch):
    """Source, stage storage and results."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened(uri):
        return UPath(uri, key="k", secret="s", endpoint_url=s3_url)

    monkeypatch.setattr(results_module, "open_path", opened)
    monkeypatch.setattr(Host, "open_path", lambda _self, uri: opened(uri))
    base = f"s3://batches/{uuid.uuid4().hex}"
    for part, rows in enumerate((["a", "b"], ["c"])):
        with opened(f"{base}/in/day={part}/rows.parquet").open("wb") as file:
            pq.write_table(pa.table({"id": [part * 2 + place for place in range(len(rows))], "text": rows}), file)
    task = job(
        source=Source(uri=f"{base}/in", prompt="{day} {text}", key="id"),
        keep_columns=True,
        max_rows_per_file=2,
        result_path=f"{base}/out",
        result_format="parquet",
    )
    task.root = opened(f"{base}/storage")
    manifest = await task.run()

    rows = list(BatchResults(manifest))
    assert manifest.files == 2
    assert [row.output for row in rows] == ["echo: 0 a", "echo: 0 b", "echo: 1 c"]
    assert [row.columns for row in rows] == [
        {"id": 0, "text": "a", "day": "0"}, {"id": 1, "text": "b", "day": "0"}, {"id": 2, "text": "c", "day": "1"},
    ]  # fmt: skip
    assert [row.custom_id for row in BatchResults(f"{base}/out")] == ["0", "1", "2"]
