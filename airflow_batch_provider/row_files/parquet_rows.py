"""Rows of Parquet, so many at a time as may be in memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow
from airflow_batch_provider.row_files.arrow_values import UNREADABLE, records
from airflow_batch_provider.row_files.file import BLOCK, check_columns, in_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq
    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.row_files.file import Row, RowFile
    from airflow_batch_provider.tables.keeping import Keeper

# Of what is read at a time: rows, and about how many bytes of Arrow's.
_ROWS, _BYTES = 1000, 1 << 18
# By so many first rows it is seen how long rows are.
_SAMPLE = 16


def parquet_rows(path: RowFile, needed: list[str] | None, keeper: Keeper | None = None) -> Iterator[list[Row]]:
    with open_parquet(path) as table:
        schema = table.schema_arrow
        own = [] if needed is None else [name for name in path.partitions if name not in schema.names]
        check_columns(path, [*schema.names, *own], needed)
        wanted = _wanted(schema.names, needed, keeper)
        if keeper is not None:
            keeper.batch(_partitioned(_empty(schema, wanted), path, own))
        first = 0
        for batch in batches_of(table, wanted):
            rows = _partitioned(batch, path, own)
            if keeper is not None:
                keeper.batch(rows)
            if batch.num_rows:
                yield _values(path, rows if needed is None else rows.select(needed), first)
            first += batch.num_rows


def _wanted(names: list[str], needed: list[str] | None, keeper: Keeper | None) -> list[str] | None:
    """Return the columns that must be read of a file, None for all."""
    if needed is None or (keeper is not None and keeper.kept.columns is None):
        return None
    more = () if keeper is None else keeper.kept.columns or ()
    return [name for name in dict.fromkeys([*needed, *more]) if name in names]


def _empty(schema: pa.Schema, names: list[str] | None) -> pa.RecordBatch:
    import pyarrow as pa

    chosen = schema if names is None else pa.schema([schema.field(name) for name in names])
    # Arrays that are made of Python's lists import pandas where it is installed, which takes 50 MB (pyarrow 26.0).
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in chosen], schema=chosen)


def _partitioned(batch: pa.RecordBatch, path: RowFile, names: list[str]) -> pa.RecordBatch:
    """Return rows with the columns that the folders above their file name."""
    if not names:
        return batch
    import pyarrow as pa

    for name in names:
        batch = batch.append_column(name, pa.repeat(pa.scalar(path.partitions[name], pa.string()), batch.num_rows))
    return batch


def _values(path: RowFile, batch: Any, first: int) -> list[Row]:
    try:
        rows: list[Row] = batch.to_pylist()
    except UNREADABLE:
        return [_value(f"Row {first + number} of {path}", batch, number) for number in range(batch.num_rows)]
    return rows


def _value(where: str, batch: Any, number: int) -> Row:
    """Return one row, by itself."""
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except UNREADABLE as error:
            return BadRow(
                f"{where}: column {name!r} holds a {column.type} that Python cannot: {error}. Fix the file, or leave the "
                "column out of the prompt."
            )
    return row


@contextmanager
def open_parquet(path: UPath | ProxyUPath | RowFile) -> Iterator[pq.ParquetFile]:
    """A Parquet file that is read in blocks: pyarrow's default is to read ahead, which is the whole file (26.0).

    In a store every turn from one column of a row group to the next fetches a block.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f"{str(path)!r} needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
        ) from error
    with in_blocks(path) as file, pq.ParquetFile(file, buffer_size=BLOCK, pre_buffer=False) as table:
        yield table


def batches_of(table: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Return the rows of an open Parquet file: a thousand at a time, fewer long ones, however large its row groups are."""
    # With threads, memory grew with the file (+45 MB from 90 to 180 MB a column; 2026-11-23).
    yield from table.iter_batches(_rows_at_a_time(table, columns), use_threads=False, columns=columns)


def _rows_at_a_time(table: pq.ParquetFile, columns: Sequence[str] | None) -> int:
    """Return how many rows have about `_BYTES`: by the longest row group, which stores once what many rows share, and the first rows."""
    if not table.metadata.num_rows:
        return _ROWS
    groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
    longest = max(group.total_byte_size / max(1, group.num_rows) for group in groups)
    first = next(table.iter_batches(_SAMPLE, use_threads=False, columns=columns))
    longest = max(1.0, longest, first.nbytes / max(1, first.num_rows))
    return max(1, min(_ROWS, int(_BYTES / longest)))


def parquet_records(table: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet file, few at a time in memory.

    Columns that were kept of a source may hold what Python does not: it ends neither its row nor the others.
    """
    for batch in batches_of(table):
        yield from records(batch)
