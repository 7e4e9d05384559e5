"""Result tables as Parquet, each field of the answers in the type of its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import pyarrow as pa  # noqa: TID253 — an extra; only writers and readers of Parquet import this module

from airflow_batch_provider.arrow import column_of, field_columns
from airflow_batch_provider.arrow_arrays import arrow_array
from airflow_batch_provider.output_types import inner_schema
from airflow_batch_provider.parquet import SCHEMA_KEY, chunks, write_groups
from airflow_batch_provider.tables.answers import fields_of, raw_of
from airflow_batch_provider.tables.reading import TABLE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.arrow import Column
    from airflow_batch_provider.models import Spec, TableColumns
    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.tables.answers import Cells
    from airflow_batch_provider.tables.kept_rows import KeptRows


def write_table(
    file: BinaryIO,
    rows: Iterator[Row],
    spec: Spec,
    table: TableColumns,
    cells: Cells,
    kept: KeptRows,
    count: int,
) -> None:
    """Write the kept columns in the types they had, each field of the answers in that of its schema, and what became of it.

    A field whose schema maps to no type of Arrow is JSON text. Row groups are as those of `write_parquet`, as is `count`.
    """
    columns = AnswerColumns(spec, cells)
    added = [pa.field(name, columns.type_of(name)) for name in cells.names]
    answer = None if spec.output_schema is None else inner_schema(spec.output_schema)
    metadata = {SCHEMA_KEY: msgspec.json.encode(answer), TABLE_KEY: table.model_dump_json().encode()}
    schema = pa.schema([*kept.schema(), *added], metadata)
    write_groups(file, schema, (_batch(chunk, schema, columns, kept) for chunk in chunks(rows)), count)


def _batch(rows: list[Row], schema: pa.Schema, columns: AnswerColumns, kept: KeptRows) -> pa.RecordBatch:
    before = kept.arrow(len(rows))
    records = [columns.cells_of(row) for row in rows]
    made = [
        arrow_array([record[field.name] for record in records], field.type)
        for field in [schema.field(place) for place in range(before.num_columns, len(schema))]
    ]
    return pa.RecordBatch.from_arrays([*before.columns, *made], schema=schema)


class AnswerColumns:
    """The columns of the answers: what a row puts into them, and the answer that they give back."""

    def __init__(self, spec: Spec, cells: Cells) -> None:
        schema = None if spec.output_schema is None else inner_schema(spec.output_schema)
        self._cells = cells
        self._columns, self._required = (
            field_columns(schema) if cells.fields is not None and schema else ({}, frozenset())
        )
        self._column: Column | None = None
        if cells.fields is None and schema is not None:
            self._column = column_of(schema)
        self._plain = pa.list_(pa.float32()) if spec.kind == "embed" else pa.string()

    def type_of(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        cells = self._cells
        if name == cells.output and cells.fields is None:
            return self._plain if self._column is None else self._column.arrow
        for field, named in (cells.fields or {}).items():
            column = self._columns[field]
            if named == name:
                return pa.string() if column is None else column.arrow
        return _TYPES.get(cells.added[name], pa.string())

    def cells_of(self, row: Row) -> dict[str, Any]:
        """Return the cells of a row, by column."""
        answer, is_exact = self._whole(row) if self._cells.fields is None else self._by_field(row)
        return answer | self._cells.became(row, None if is_exact else raw_of(row))

    def _whole(self, row: Row) -> tuple[dict[str, Any], bool]:
        cells = self._cells
        if not cells.is_whole(row):
            return {cells.output: None}, False
        if cells.is_text:
            return {cells.output: row.value}, True
        if self._column is None:
            return {cells.output: raw_of(row)}, True
        return _held(cells.output, self._column, row.value)

    def _by_field(self, row: Row) -> tuple[dict[str, Any], bool]:
        cells = self._cells
        assert cells.fields is not None
        found = fields_of(row)
        if found is None:
            return dict.fromkeys(cells.fields.values()), False
        answer: dict[str, Any] = {}
        is_exact = found.keys() <= cells.fields.keys()
        for field, name in cells.fields.items():
            column, encoded = self._columns[field], found.get(field)
            if encoded is None:
                answer[name] = None
                is_exact = is_exact and not self._is_told(field)
            elif column is None:
                answer[name] = bytes(encoded).decode()
            else:
                cell, is_held = _held(name, column, msgspec.json.decode(encoded))
                answer |= cell
                is_exact = is_exact and is_held
        return answer, is_exact

    def _is_told(self, field: str) -> bool:
        """Tell whether a null in this column stands for a null, and not for a field that is absent."""
        column = self._columns[field]
        return column is not None and (column.is_nullable or field in self._required)

    def restored(self, record: dict[str, Any]) -> Any:
        """Return the good answer that these cells hold exactly."""
        cells = self._cells
        if cells.fields is not None:
            return {
                field: msgspec.json.decode(value) if column is None else column.restored(value)
                for field, column in self._columns.items()
                if (value := record[cells.fields[field]]) is not None or self._is_told(field)
            }
        value = record[cells.output]
        if cells.is_text or value is None:
            return value
        return msgspec.json.decode(value) if self._column is None else self._column.restored(value)


def _held(name: str, column: Column, value: Any) -> tuple[dict[str, Any], bool]:
    """Return a cell with a value as far as its column takes it, and whether it gives it back exactly."""
    if column.holds(value):
        return {name: value}, True
    try:
        return {name: arrow_array([value], column.arrow)[0].as_py()}, False
    except (OverflowError, TypeError, ValueError):
        return {name: None}, False


_TYPES = {
    "retryable": pa.bool_(),
    "input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "wave": pa.int64(),
    "cached_at": pa.timestamp("us", "UTC"),
}
