"""Result tables as lines of JSON, and as CSV or TSV."""

from __future__ import annotations

import csv
import io
import math
from base64 import b64encode
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.parquet import chunks
from airflow_batch_provider.prompts import as_text, usable_key
from airflow_batch_provider.tables.answers import Cells, fields_of, raw_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.tables.kept_rows import KeptRows

_JSON = msgspec.json.Encoder(enc_hook=str)
# Values that are the same text after they were JSON.
_AS_JSON = (str, int, float, list, dict, type(None))


def write_jsonl(file: BinaryIO, rows: Iterator[Row], cells: Cells, kept: KeptRows, key: str | None) -> None:
    """Write one object a line: the kept columns, then the others; `key` is the column of the `custom_id`."""
    for chunk in chunks(rows):
        records = (_keyed(record, key) for record in kept.records(len(chunk)))
        lines = (_JSON.encode(record | cells.of(row)) + b"\n" for record, row in zip(records, chunk, strict=True))
        file.writelines(lines)


def _keyed(record: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Return a row with its key as it was asked under, where JSON would write it otherwise: bytes and moments, for example."""
    if key is None or isinstance(record[key], _AS_JSON):
        return record
    return record | {key: usable_key(record[key]) or record[key]}


def write_csv(file: BinaryIO, rows: Iterator[Row], cells: Cells, kept: KeptRows, delimiter: str) -> None:
    """Write a header and one record a row; null is an empty cell, lists and objects are JSON."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow([*kept.names, *cells.names])
    for chunk in chunks(rows):
        for record, row in zip(kept.records(len(chunk)), chunk, strict=True):
            writer.writerow([*map(_cell, record.values()), *_cells_of(row, cells)])
    text.detach()  # whoever opened the file closes it


def _cells_of(row: Row, cells: Cells) -> list[str]:
    if cells.fields is None:
        answer, raw = _whole(row, cells)
    else:
        answer, raw = _by_field(row, cells)
    return [*answer, *map(_cell, cells.became(row, raw).values())]


def _whole(row: Row, cells: Cells) -> tuple[list[str], str | None]:
    if not cells.is_whole(row):
        return [""], raw_of(row)
    value = row.value
    return [value if isinstance(value, str) and cells.is_text else bytes(row.output).decode()], None


def _by_field(row: Row, cells: Cells) -> tuple[list[str], str | None]:
    """Return a cell for each field, and the answer where they would not give it back: see `read_cells`."""
    assert cells.kinds is not None
    found = fields_of(row)
    if found is None:
        return [""] * len(cells.kinds), raw_of(row)
    answer, is_exact = [], found.keys() == cells.kinds.keys()
    for name, kind in cells.kinds.items():
        encoded = bytes(found.get(name, b""))
        value = msgspec.json.decode(encoded) if encoded and kind == "text" else None
        is_exact = is_exact and (kind == "json" or isinstance(value, str))
        answer.append(value if isinstance(value, str) else "" if encoded == b"null" else encoded.decode())
    return answer, None if is_exact else raw_of(row)


def _cell(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return ""
    try:
        return as_text(value)
    except UnicodeDecodeError:  # other bytes stand as in JSON; the rows are paid by now
        return b64encode(value).decode()
