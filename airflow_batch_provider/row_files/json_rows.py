"""Rows of JSONL and JSON; of JSONL a line that cannot be read is a bad row, of JSON it is the whole file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.blocks import blocks_of, line_blocks
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow
from airflow_batch_provider.odd_json import oddity
from airflow_batch_provider.row_files.file import without_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.row_files.file import Row, RowFile

_ANYTHING = msgspec.json.Decoder()


def jsonl_rows(path: RowFile, _needed: Any) -> Iterator[list[Row]]:
    with path.open() as file:
        first = 0
        for lines in line_blocks(file):
            if rows := _plain_objects(lines) or list(_each_line(path, lines, first)):
                yield rows
            first += len(lines)


def _plain_objects(lines: list[bytes]) -> list[Row] | None:
    """Return the objects that lines are, as nearly all are; None where one of them is anything else."""
    try:
        rows = list(map(_ANYTHING.decode, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return rows if set(map(type, rows)) == {dict} else None


def _each_line(path: RowFile, lines: list[bytes], first: int) -> Iterator[Row]:
    """Return the rows of lines that are looked at one by one."""
    for number, line in enumerate(lines, first):
        if (row := _plain_object(line)) is not None:
            yield row
            continue
        text = without_mark(path, line) if number == 0 else line
        if text.strip():
            yield _line(f"Line {number + 1} of {path}", text)


def _plain_object(line: bytes) -> dict[str, Any] | None:
    """Return the object that a line is, None for whatever else it is: `_line` says what."""
    try:
        row = _ANYTHING.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return row if type(row) is dict else None


def _line(where: str, text: bytes) -> Row:
    try:
        return _object(where, _decoded(where, text))
    except UsageError as error:
        return BadRow(str(error))


def json_rows(path: RowFile, _needed: Any) -> Iterator[list[Row]]:
    with path.open() as file:
        data = without_mark(path, file.read())
    lines = data.strip().split(b"\n", 2)[:2]
    if len(lines) > 1 and None not in map(_plain_object, lines):
        raise UsageError(f"{path} has a row on each line. Name it .jsonl.")
    rows = _decoded(str(path), data)
    if not isinstance(rows, list):
        raise UsageError(f"{path} is {type(rows).__name__}, not a list of rows. Fix the file, or name it .jsonl.")
    yield from blocks_of(_object(f"Row {number} of {path}", row) for number, row in enumerate(rows))


def _decoded(where: str, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply. Fix the file.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} {oddity(data) or f'is not JSON: {error}'}. Fix the file.") from None


def _object(where: str, row: Any) -> Row:
    if isinstance(row, str):
        return {"prompt": row}
    if not isinstance(row, dict):
        return BadRow(f"{where} is {type(row).__name__}, not an object. Fix the file.")
    return row
