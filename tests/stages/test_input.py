"""Bad input fails before anything is paid, with the fact, its value and the remedy."""

from __future__ import annotations

import json

import pytest
from file_requests import requests_of
from upath import UPath

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow, PlainRequest
from airflow_batch_provider.prompts import PromptTemplate


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "Cannot submit empty batch"),
        (["a", 42], "Row 1 is not a prompt but int"),
        (["a", ""], "Row 1 is not a request: prompt"),
        ([{"prompt": "a", "promt": "b"}], "promt.*A row is a str or a dict of custom_id, prompt"),
        ([{"prompt": "a", "messages": [{}]}], "exactly one of 'prompt' and 'messages'"),
        ([{"custom_id": "x"}], "exactly one of"),
        ([{"custom_id": "x", "prompt": "a"}, {"custom_id": "x", "prompt": "b"}], "'x' is used by row 0 and by row 1"),
        ([{"custom_id": "request-1", "prompt": "a"}, "b"], "'request-1' is used by row 0 and by row 1"),
        ([{"custom_id": "", "prompt": "a"}], "custom_id"),
        ([{"custom_id": 7.5, "prompt": "a"}], "custom_id: Input should be a valid string"),
        ([{"prompt": "a", "max_tokens": 0}], "max_tokens"),
        (["x" * 2_000_000], "Row 0 .* alone is"),
    ],
)
async def test_wrong_requests_are_refused_before_anything_is_paid(job, provider, requests, message):
    """The message names the row."""
    with pytest.raises(UsageError, match=message):
        await job(requests).start()

    assert not provider.batches


@pytest.mark.parametrize("requests", ["one prompt", {"prompt": "a"}, 5, None])
async def test_requests_that_are_not_list_are_refused(job, provider, requests):
    """A single string would be taken for its letters."""
    task = job()
    task.requests = requests

    with pytest.raises(UsageError, match="not a list"):
        await task.start()


async def test_a_model_of_another_provider_is_refused(job, provider):
    """The connection tells who is asked."""
    with pytest.raises(UsageError, match="belongs to anthropic"):
        await job(model="claude-sonnet-4-5").start()


async def test_a_schema_that_is_none_is_refused(job, provider):
    """Before anything is paid, with the place of the mistake."""
    with pytest.raises(UsageError, match=r"output_type is not a JSON schema.*properties/a/type"):
        await job(output_type={"type": "object", "properties": {"a": {"type": "strng"}}}).start()


async def test_a_row_whose_own_schema_is_none_is_refused(job, provider):
    """Rows may bring a schema each, so each is checked."""
    with pytest.raises(UsageError, match="Row 1: output_type is not a JSON schema"):
        await job(["a", {"prompt": "b", "output_type": {"type": "strng"}}]).start()

    assert not provider.batches


async def test_storage_that_cannot_be_written_is_refused(job, provider, tmp_path):
    """Nothing could be landed there."""
    (tmp_path / "blocked").write_text("a file, no directory")

    with pytest.raises(UsageError, match=r"cannot be written.*Change storage_path or result_path"):
        await job(result_path=str(tmp_path / "blocked" / "rows.jsonl")).start()

    assert not provider.batches


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return UPath(path)


def test_csv_rows_fill_the_prompt(tmp_path):
    """One request per row, keyed by a column."""
    path = write(tmp_path, "rows.csv", 'id,text\n7,"multi\nline"\n8,ünï\n')

    requests = list(requests_of(path, prompt="Classify {{this}}: {text}", key="id"))

    assert requests == [
        PlainRequest("Classify {this}: multi\nline", "7"),
        PlainRequest("Classify {this}: ünï", "8"),
    ]


def test_jsonl_rows_may_be_requests(tmp_path):
    """Without a template a row is what an operator takes in a list."""
    rows = [{"custom_id": "a", "prompt": "x"}, {"messages": [{"role": "user", "content": "y"}]}]
    path = write(tmp_path, "rows.jsonl", "\n".join(json.dumps(row) for row in rows) + '\n"just text"\n')

    assert list(requests_of(path)) == [*rows, {"prompt": "just text"}]


def test_parquet_rows_fill_the_prompt(tmp_path):
    """Numbers and nulls become text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = UPath(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"n": [1, 2], "text": ["a", None]}), path.path)

    assert [request.prompt for request in requests_of(path, prompt="{n}: {text}")] == ["1: a", "2: "]


def refuse_bad(requests):
    """As a plan does."""
    for request in requests:
        if isinstance(request, BadRow):
            raise UsageError(request.problem)


@pytest.mark.parametrize(
    ("name", "text", "prompt", "key", "message"),
    [
        ("rows.csv", "id\n1\n", "{text}", None, "Row 0 of .* has no column 'text'. Its columns are 'id'"),
        ("rows.csv", "id\n1\n", "{id}", "key", "no column 'key'"),
        ("rows.csv", "a,b\n1\n", "{a}", None, "more or fewer fields than the header: 1 of 2"),
        ("rows.jsonl", "{oops\n", "{a}", None, "Line 1 of .* is not JSON"),
        ("rows.jsonl", "[1]\n", "{a}", None, "Line 1 of .* is list, not an object"),
        ("rows.jsonl", '{"a": ""}\n', "{a}", None, "empty prompt"),
        ("rows.xlsx", "", "{a}", None, "ends with '.xlsx'. Give one of .jsonl"),
        ("rows.parquet", "not parquet", "{a}", None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_its_row(tmp_path, name, text, prompt, key, message):
    """The fact, its value and the remedy."""
    with pytest.raises(UsageError, match=message):
        refuse_bad(requests_of(write(tmp_path, name, text), prompt=prompt, key=key))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """With its path."""
    with pytest.raises(UsageError, match=r"nowhere.csv.* cannot be read"):
        list(requests_of(UPath(tmp_path / "nowhere.csv"), prompt="{a}"))


@pytest.mark.parametrize("template", ["{a.b}", "{a[0]}", "{a!r}", "{a:>10}", "{}", "{0.x}", "{a", "no column"])
def test_a_template_is_not_a_code(template):
    """Only plain column names; a template with none would ask the same in every row."""
    with pytest.raises(UsageError, match=r"Write braces that are not a column twice|Add \{column\}"):
        PromptTemplate(template)


def test_braces_in_data_are_data():
    """A row's text is never a template."""
    assert PromptTemplate("{text}").fill([{"text": "{evil.__class__} {{ conn.x }}"}]) == [
        "{evil.__class__} {{ conn.x }}"
    ]
