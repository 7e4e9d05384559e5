"""Rows of results, read from a table."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.models import BatchRow, RowError, Spec, TableColumns, Usage
from airflow_batch_provider.parquet import SCHEMA_KEY
from airflow_batch_provider.prompts import usable_key
from airflow_batch_provider.row_files import LONGEST_CELL, parquet_records
from airflow_batch_provider.tables.answers import Cells
from airflow_batch_provider.tables.columns import ADDED, OUTPUT, RAW

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow.parquet as pq

# File metadata of Parquet that holds the names of a table's columns.
TABLE_KEY = b"airflow_batch_provider.table"
# What becomes a field of a row; `raw_output` is the answer, where its own columns do not hold it.
_BECAME = tuple(name for name in ADDED if name != RAW)


def jsonl_rows(lines: Iterator[bytes], table: TableColumns, first: int) -> Iterator[BatchRow]:
    """Return the rows of a file of lines; `first` is the index of the first of them."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    for index, line in enumerate(lines, first):
        record = decoder.decode(line)
        yield _row(record, table, index, _json_output(record, table))


def _json_output(record: dict[str, Any], table: TableColumns) -> Any:
    if table.fields is None:
        return record[f"{table.prefix}{OUTPUT}"]
    columns = {name: f"{table.prefix}{name}" for name in table.fields}
    return {name: record[column] for name, column in columns.items() if column in record}


def csv_rows(file: BinaryIO, table: TableColumns, delimiter: str, first: int) -> Iterator[BatchRow]:
    """Return the rows of a CSV file; what was kept of the source is text, and an empty cell of it is None."""
    csv.field_size_limit(LONGEST_CELL)
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        for index, cells in enumerate(csv.DictReader(text, delimiter=delimiter), first):
            output = _csv_output(cells, table)
            yield _row({name: cell or None for name, cell in cells.items()}, table, index, output)


def _csv_output(cells: dict[str, str], table: TableColumns) -> Any:
    if table.fields is None:
        cell = cells[f"{table.prefix}{OUTPUT}"]
        return cell if table.output == "text" else msgspec.json.decode(cell) if cell else None
    found = {name: (cells[f"{table.prefix}{name}"], kind) for name, kind in table.fields.items()}
    return {
        name: cell if kind == "text" else msgspec.json.decode(cell) if cell else None
        for name, (cell, kind) in found.items()
    }


def parquet_rows(file: pq.ParquetFile, first: int) -> Iterator[BatchRow]:
    """Return the rows of an open Parquet file, which knows its own columns."""
    from airflow_batch_provider.tables.parquet_table import AnswerColumns  # noqa: PLC0415 — pyarrow is an extra

    metadata = file.schema_arrow.metadata
    table = TableColumns.model_validate_json(metadata[TABLE_KEY])
    spec = Spec(model="unknown", output_schema=msgspec.json.decode(metadata[SCHEMA_KEY]))
    columns = AnswerColumns(spec, Cells(spec, table.prefix))
    for index, record in enumerate(parquet_records(file), first):
        yield _row(record, table, index, columns.restored(record))


def _row(record: dict[str, Any], table: TableColumns, index: int, output: Any) -> BatchRow:
    """Return a row of the results.

    Args:
        output: what the columns of the answer hold; it counts where `raw_output` holds no other answer.
    """
    became = {name: record[f"{table.prefix}{name}"] for name in _BECAME}
    is_good, raw, code = became["status"] == "succeeded", record[f"{table.prefix}{RAW}"], became.pop("error_code")
    message, retryable = became.pop("error"), became.pop("retryable")
    if raw is not None:
        output = msgspec.json.decode(raw)
    elif not is_good and (table.fields is not None or output == ""):
        output = None
    key = None if table.key is None else usable_key(record[table.key])
    usage = Usage(input_tokens=int(became.pop("input_tokens")), output_tokens=int(became.pop("output_tokens")))
    return BatchRow(
        custom_id=key or f"request-{index}",
        index=index,
        output=output,
        error=None
        if code is None
        else RowError(code=code, message=message or "", retryable=retryable in (True, "True")),
        usage=usage,
        columns={name: record[name] for name in table.kept},
        **became | {"wave": int(became["wave"])},
    )
