"""Section 6 of the field reports: odd but common files are taken right, or refused by file, row and column."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from upath import UPath

from airflow_batch_provider.compression import writing
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow, ConnectionRef
from airflow_batch_provider.sources import requests_of
from airflow_batch_provider.stages.config import BatchConfig


def compressed(data):
    """As Zstandard does."""
    with io.BytesIO() as raw:
        with writing(raw, "x.zst") as file:
            file.write(data)
        return raw.getvalue()


def prompts(path, prompt="{text}", key=None):
    return [asked(request).prompt for request in requests_of(UPath(path), prompt=prompt, key=key)]


def asked(request):
    """As a plan refuses a row."""
    if isinstance(request, BadRow):
        raise UsageError(request.problem)
    return request


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"\xef\xbb\xbftext\na\nb\n"),
        ("a.tsv", b"text\tn\na\t1\nb\t2\n"),
        ("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n'),
        ("a.json", b'[{"text": "a"}, {"text": "b"}]'),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text": "b"}\n', mtime=0)),
        ("a.csv.gz", gzip.compress(b"text\na\nb\n", mtime=0)),
        ("a.tsv.gz", gzip.compress(b"text\tn\na\t1\n", mtime=0) + gzip.compress(b"b\t2\n", mtime=0)),
        ("a.jsonl.zst", compressed(b'{"text": "a"}\n') + compressed(b'{"text": "b"}\n')),
        ("a.csv.zst", compressed(b"text\na\nb\n")),
    ],
)
def test_common_files_are_read(tmp_path, name, data):
    """Byte order marks, tabs, arrays, gzip and Zstandard, also of several members and frames."""
    (tmp_path / name).write_bytes(data)

    assert prompts(tmp_path / name) == ["a", "b"]


@pytest.mark.parametrize("place", ["", "*.csv"])
def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path, place):
    """Marks such as `_SUCCESS` are not rows."""
    for name in ("part-1", "part-0"):
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    (tmp_path / "_SUCCESS").touch()

    assert prompts(tmp_path / place) == ["part-0", "part-1"]


def test_a_long_cell_is_taken(tmp_path):
    """Python's limit is 131,072 characters."""
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\n")

    assert len(prompts(tmp_path / "a.csv")[0]) == 200_000


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b'text\n"a\nb\n', "Line 3 of .*a.csv is not CSV: unexpected end"),
        ("a.csv", b"text,text\na,b\n", "column 'text' more than once"),
        ("a.csv", b"text\na,b\n", "Row 0 of .* 2 of 1"),
        ("a.csv", "text\na\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"text\n\xff\n", "a.csv' is not UTF-8"),
        ("a.csv.gz", gzip.compress(b"text\na\n" * 1000, mtime=0)[:-20], "a.csv.gz' cannot be read"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "Line 2 of .* lone surrogate"),
        ("a.jsonl", b"[" * 100_000 + b"]" * 100_000, "Line 1 of .* nested too deeply"),
        ("a.json", b'{"text": "a"}', "not a list of rows"),
        ("a.xlsx", b"", "ends with '.xlsx'"),
        ("a.jsonl.xz", b"", "ends with '.xz'"),
        ("a.jsonl.zst", compressed(b'{"text": "a"}\n' * 1000)[:-4], "a.jsonl.zst' cannot be read: .*ended before"),
        ("a.csv.zst", b"text\na\n" * 9, "a.csv.zst' cannot be read: .*Zstandard"),
    ],
)
def test_odd_files_are_refused_by_name(tmp_path, name, data, message):
    """With file and line or row, never with a row's text."""
    (tmp_path / name).write_bytes(data)

    with pytest.raises(UsageError, match=message):
        prompts(tmp_path / name)


@pytest.mark.parametrize(("key", "message"), [(None, "is empty"), ("", "is empty"), ("k" * 513, "has 513 characters")])
def test_keys_that_cannot_be_are_refused_with_row_and_column(tmp_path, key, message):
    """Not with pydantic's error."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a", "id": key}))

    with pytest.raises(UsageError, match=f"Row 0 of .*column 'id' {message}"):
        prompts(tmp_path / "a.jsonl", key="id")


def test_only_the_columns_of_the_prompt_are_read(tmp_path):
    """A date beyond year 9999 in another column is nobody's business; in the prompt it is refused by row and column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dates = pa.array([0, 4_000_000], pa.date32())
    pq.write_table(pa.table({"text": ["a", "b"], "day": dates}), tmp_path / "a.parquet")

    assert prompts(tmp_path / "a.parquet") == ["a", "b"]
    with pytest.raises(UsageError, match=r"Row 1 of .* column 'day' holds a date32"):
        prompts(tmp_path / "a.parquet", "{text} {day}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a.jsonl.gz", "a.csv.zst", "a.parquet"]),
    st.binary(max_size=60),
)
def test_any_bytes_are_read_or_refused_with_the_file(tmp_path, name, data):
    """No other error comes out."""
    (tmp_path / name).write_bytes(data)
    said = name
    try:
        prompts(tmp_path / name)
    except UsageError as error:
        said = str(error)
    assert name in said


async def test_frames_and_tables_give_their_records(job):
    """A frame iterates over the names of its columns."""
    import pandas as pd
    import pyarrow as pa

    for rows in (pd.DataFrame({"custom_id": [1], "prompt": ["a"]}), pa.table({"custom_id": [1], "prompt": ["a"]})):
        task = job()
        task.requests = rows
        task.root = task.root / type(rows).__name__
        found = task.rows(await task.run())
        assert [(row["custom_id"], row["output"]) for row in found] == [("1", "echo: a")]


@pytest.mark.parametrize("shape", ["texts", "objects", "vectors"])
async def test_numpy_gives_rows_and_values(job, provider, shape):
    """An array of rows, and arrays and numbers inside a row."""
    import numpy as np

    rows = {
        "texts": np.array(["a", "b"]),
        "objects": np.array([{"prompt": "a"}, {"prompt": "b"}], dtype=object),
        "vectors": [{"prompt": text, "request_params": {"bias": np.array([1, 2]), "n": np.int64(3)}} for text in "ab"],
    }[shape]
    task = job()
    task.requests = rows

    assert (await task.run()).counts["succeeded"] == 2


async def test_request_params_of_null_are_none(job):
    """As a row of a file has it that leaves them out."""
    task = job([{"prompt": "a", "request_params": None}])

    assert (await task.run()).counts["succeeded"] == 1


@pytest.mark.parametrize("path", ["s3://b/labels.json", "s3://b/rows.jsonl", "s3://b/rows.jsonl.zst", "s3://b/rows.gz"])
def test_a_result_path_that_contradicts_the_format_is_refused(path):
    """Neither a folder of that name nor another format than was asked for."""
    with pytest.raises(ValidationError, match="result_path ends with"):
        BatchConfig(model="m", connection=ConnectionRef(conn_id="c"), result_path=path, result_format="parquet")


def test_dates_and_numbers_become_text(tmp_path):
    """As they are written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [dt.date(2026, 1, 2)]})
    pq.write_table(table, tmp_path / "a.parquet")

    assert prompts(tmp_path / "a.parquet") == ["2026-01-02"]


@dataclass
class Asked:
    custom_id: str
    prompt: str


async def test_dataclasses_are_rows(job):
    """Their fields are those of a request."""
    assert (await job([Asked("a", "x")]).run()).counts["succeeded"] == 1
