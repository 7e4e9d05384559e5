"""What landing reads of the rows that were asked is what their lines say, however they are written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from airflow_batch_provider.ledger.asked import asked_rows
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import PlannedRow, encoded, planned_lines
from airflow_batch_provider.rows import Row, encode_row
from airflow_batch_provider.storage import Directory

BODY = msgspec.Raw(b'{"custom_id":"another","schema":{},"body":"x"}')


@pytest.fixture
def read(tmp_path):
    """Reads the rows of a request file of these bytes."""

    def rows(data):
        files = BatchFiles(Directory(UPath(tmp_path)), 0, "draft")
        files.directory.write(files.requests_name, data)
        return list(asked_rows(files))

    return rows


@given(
    custom_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    schema=st.none() | st.just({"type": "object", "title": '","body":'}),
    first_asked=st.sampled_from(["", "0123456789abcdef"]),
)
def test_any_row_is_read_as_it_was_planned(tmp_path_factory, custom_id, schema, first_asked):
    """With its own schema, asked again with another body, and under whatever key."""
    files = BatchFiles(Directory(UPath(tmp_path_factory.mktemp("asked"))), 0, "draft")
    row = PlannedRow(index=7, custom_id=custom_id, schema=encoded(schema), first_asked=first_asked, body=BODY)
    files.directory.write(files.requests_name, planned_lines([row]))

    (asked,) = asked_rows(files)

    assert (asked.index, asked.custom_id, bytes(asked.schema)) == (7, custom_id, bytes(encoded(schema)))


@pytest.mark.parametrize(
    "line",
    [
        b'{ "index": 7, "custom_id": "k\\u00e9y", "body": {} }',
        '{"index":7,"body":{"custom_id":"other"},"custom_id":"kéy"}'.encode(),
        '{"custom_id":"kéy","body":{},"index":7}'.encode(),
    ],
)
def test_a_file_that_a_person_has_written_again_says_the_same(read, line):
    """With blanks, escapes, or fields in another order."""
    (asked,) = read(line + b"\n")

    assert (asked.index, asked.custom_id) == (7, "kéy")


@pytest.mark.parametrize("key", ["k", 'a "quoted" one', "back\\slash", "kéy\u2028", "\x00", "日本"])
def test_a_line_gets_the_key_that_its_row_would_have(read, key):
    """To the last byte."""
    (asked,) = read(planned_lines([PlannedRow(index=3, custom_id=key, body=BODY)]))
    row = {"index": 3, "status": "succeeded", "output": msgspec.Raw(b'"custom_id"')}

    assert asked.named(encode_row(Row(custom_id="", **row))) == encode_row(Row(custom_id=key, **row))
