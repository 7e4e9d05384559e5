"""Odd but common files are taken right, or refused by file, row and column."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import pytest
from file_requests import requests_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from upath import UPath

from airflow_batch_provider.compression import writing
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow, ConnectionRef
from airflow_batch_provider.stages.config import BatchConfig


def compressed(data):
    """As Zstandard does."""
    with io.BytesIO() as raw:
        with writing(raw, "x.zst") as file:
            file.write(data)
        return raw.getvalue()


def parquet(columns, names=("text",), zone=None):
    """A Parquet file of these columns; with a zone they are times there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.timestamp("us", zone) if zone else None
    with io.BytesIO() as raw:
        pq.write_table(pa.Table.from_arrays([pa.array(column, kind) for column in columns], names=[*names]), raw)
        return raw.getvalue()


def prompts(path, prompt="{text}", key=None):
    return [
        asked(request).prompt
        for request in requests_of(path if isinstance(path, UPath) else UPath(path), prompt=prompt, key=key)
    ]


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


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"\n\ntext\na\n", "a"),
        ("a.parquet", parquet([[b"a"]]), "a"),
        ("a.parquet", parquet([[[dt.datetime(2026, 1, 2, tzinfo=dt.UTC)]]]), '["2026-01-02T00:00:00Z"]'),
    ],
    ids=["empty lines first", "texts kept as bytes", "times in lists"],
)
def test_what_other_programs_write_is_read(tmp_path, name, data, expected):
    """Spark and Hive write texts as plain bytes, which came out as `b'a'`."""
    (tmp_path / name).write_bytes(data)

    assert prompts(tmp_path / name, key="text") == [expected]


def test_nanoseconds_in_a_list_become_text(tmp_path):
    """Python has no type for them, and pandas' has no JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array([[1]], pa.list_(pa.timestamp("ns")))
    pq.write_table(pa.table({"text": times}), tmp_path / "a.parquet")

    assert prompts(tmp_path / "a.parquet") == ['["1970-01-01 00:00:00.000000001"]']


@pytest.mark.parametrize("place", ["", "*.csv"])
def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path, place):
    """Marks such as `_SUCCESS` are not rows."""
    for name in ("part-1", "part-0"):
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    (tmp_path / "_SUCCESS").touch()

    assert prompts(tmp_path / place) == ["part-0", "part-1"]


@pytest.mark.parametrize("name", ["a b", "a+b", "a%20b", "größe", "日本", "a=1,b=2", "a&b", "(a)'b"])
def test_a_key_in_an_object_store_may_be_any_text(s3_url, name):
    """As other programs write them."""
    path = UPath(f"s3://batches/odd/{name}/{name}.csv", key="k", secret="s", endpoint_url=s3_url)
    path.write_bytes(b"text\r\na\r\n")

    assert prompts(path) == prompts(path.parent) == ["a"]


def test_a_long_cell_is_taken(tmp_path):
    """Python's limit is 131,072 characters."""
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\n")

    assert len(prompts(tmp_path / "a.csv")[0]) == 200_000


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b'text\n"a\nb\n', "Line 3 of .*a.csv is not CSV: unexpected end"),
        ("a.csv", b"text,text\na,b\n", "column 'text' more than once"),
        ("a.parquet", parquet([[1], [2]], ["text", "text"]), "column 'text' more than once"),
        ("a.parquet", parquet([[b"\xff"]]), "Row 0 of .*a.parquet holds bytes that are not UTF-8"),
        ("a.parquet", parquet([[1]], zone="Mars/Phobos"), "Row 0 of .* column 'text' holds a timestamp"),
        ("a.csv", b"text\na,b\n", "Row 0 of .* 2 of 1"),
        ("a.csv", "text\na\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"text\n\xff\n", "a.csv' is not UTF-8"),
        ("a.csv.gz", gzip.compress(b"text\na\n" * 1000, mtime=0)[:-20], "a.csv.gz' cannot be read"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "Line 2 of .* lone surrogate"),
        ("a.jsonl", b'{"text": "\\ud83d\\ude00"\n', "Line 1 of .*a.jsonl is not JSON: .*truncated"),
        ("a.jsonl", b'{"text": "a", "n": NaN}', "Line 1 of .*a.jsonl holds NaN, which JSON does not have"),
        ("a.json", b'[{"text": "a", "n": -Infinity}]', "a.json holds -Infinity, which JSON does not have"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-32"), "UTF-32"),
        ("a.csv", "text\na\n".encode("utf-32"), "UTF-32"),
        ("a.csv", "text\na\n".encode("utf-16-le"), "UTF-16"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16-be"), "UTF-16"),
        ("a.json", '[{"text": "a"}]'.encode("utf-32-le"), "UTF-32"),
        ("a.tsv", "text\na\n".encode("utf-32-be"), "UTF-32"),
        ("a.jsonl", b'\0\0\0\0{"text": "a"}\n', "Line 1 of .*a.jsonl is not JSON"),
        ("a.json", b'{"text": "a"}\n{"text": "b"}\n', "a.json has a row on each line. Name it .jsonl"),
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
    """A frame iterates over the names of its columns; its index is a column where it has a name."""
    import pandas as pd
    import pyarrow as pa

    columns = {"custom_id": [1], "prompt": ["a"]}
    frame = pd.DataFrame(columns)
    for number, rows in enumerate((frame, frame.set_index("custom_id"), pa.table(columns))):
        task = job()
        task.requests = rows
        task.root = task.root / str(number)
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


class Model(BaseModel):
    custom_id: str
    prompt: str


class Named(NamedTuple):
    custom_id: str
    prompt: str


FIELDS = {"custom_id": "a", "prompt": "x"}


@pytest.mark.parametrize(
    "row", [Model(**FIELDS), Named(**FIELDS), MappingProxyType(FIELDS)], ids=lambda row: type(row).__name__
)
async def test_whatever_has_fields_is_a_row(job, row):
    """Models, named tuples and mappings, like dataclasses."""
    task = job([row])
    (found,) = task.rows(await task.run())

    assert (found["custom_id"], found["output"]) == ("a", "echo: x")


async def test_what_a_frame_lacks_is_not_given(job):
    """It says NaN, and makes floats of the whole numbers beside it."""
    import pandas as pd

    frame = pd.DataFrame(
        {"custom_id": [1, 2], "prompt": ["a", "b"], "system": ["s", None], "max_tokens": [10, None]}
    ).astype({"custom_id": float})
    task = job()
    task.requests = frame
    found = task.rows(await task.run())

    assert [row["custom_id"] for row in found] == ["1", "2"]
    assert [row["status"] for row in found] == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (UUID(int=1), None),
        (dt.date(2026, 1, 2), None),
        (Decimal("1.50"), None),
        (2.0, None),
        (1.5, "1.5"),
        (True, "True"),
        (math.nan, "nan"),
        ("k" * 600, "'kkk"),
        (10**5000, "thousands of digits"),
    ],
    ids=["uuid", "date", "decimal", "whole", "half", "truth", "nan", "long", "huge"],
)
async def test_a_key_is_text_or_shown(job, provider, key, said):
    """As files give it; anything else is refused with its value, which is not a secret."""
    task = job([{"custom_id": key, "prompt": "x"}])
    if said is None:
        (row,) = task.rows(await task.run())
        assert row["custom_id"] == ("2" if key == 2.0 else str(key))
        return
    with pytest.raises(UsageError, match=rf"Row 0 is not a request: custom_id: .*, and this is .*{said}"):
        await task.start()
    assert not provider.batches


@pytest.mark.parametrize("prompt", [" ", "\n\t", "\u3000"])
async def test_a_prompt_of_white_space_is_refused(job, provider, prompt):
    """Anthropic refuses it row by row, hours later; the others would charge for it."""
    with pytest.raises(UsageError, match="Row 1: its prompt holds nothing but white space"):
        await job(["a", prompt]).start()
    assert not provider.batches


async def test_a_set_is_refused_because_it_has_no_order(job, provider):
    """In the next process its texts come in another one, so a retry would ask other requests."""
    task = job()
    task.requests = {"a", "b"}
    with pytest.raises(UsageError, match="requests is a set, which has no order"):
        await task.start()
    assert not provider.batches
