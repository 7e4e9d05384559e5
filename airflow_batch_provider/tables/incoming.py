"""Tables that a function returns when the task runs, on a local disk so that they can be read more than once."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.scratch import written
from airflow_batch_provider.tables.given import with_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

# What messages call the table.
RETURNED = "source()"
_TAKEN = (
    "an Arrow table or reader, a frame (pandas, polars, DuckDB: whatever has __arrow_c_stream__), an iterator of those, or "
    "one of dicts"
)


def write_incoming(value: Any, folder: Path) -> None:
    """Write a table to files in a folder, piece by piece as it comes: Parquet, or JSON lines of dicts.

    Args:
        value: anything with `__arrow_c_stream__` or `__arrow_c_array__` (the Arrow PyCapsule interface,
            https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html, 2026-11), an iterable of such
            things, whose types may differ, or an iterable of dicts.

    Raises:
        UsageError: it is nothing of this, or of a type that Parquet does not take.
    """
    if _is_arrow(value):
        _write_parquet([value], folder)
        return
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise UsageError(f"{RETURNED} returned {type(value).__name__}. Return {_TAKEN}.")
    rest = iter(value)
    ahead = next(rest, None)
    pieces = chain([] if ahead is None else [ahead], rest)
    if _is_arrow(ahead):
        _write_parquet(pieces, folder)
    else:
        _write_lines(pieces, folder)


def _is_arrow(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def _write_lines(rows: Iterable[Any], folder: Path) -> None:
    with written(folder / "rows.jsonl", 1 << 20) as file:
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise UsageError(f"Row {number} of {RETURNED} is {type(row).__name__}. Return {_TAKEN}.")
            try:
                file.write(msgspec.json.encode(row) + b"\n")
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise UsageError(f"Row {number} of {RETURNED} has no JSON form: {error}. Convert it.") from None


def _write_parquet(pieces: Iterable[Any], folder: Path) -> None:
    """Write a file for each run of pieces of one schema."""
    import pyarrow as pa

    from airflow_batch_provider.parquet import groups, scratch_parquet, write_group  # noqa: PLC0415 — only with pyarrow

    files = 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for group in groups(_batches(pieces)):
            for run in _runs(group):
                if writer is None or not writer.schema.equals(run[0].schema):
                    stack.close()
                    path = folder / f"{files:05d}.parquet"
                    try:
                        writer = stack.enter_context(scratch_parquet(path, run[0].schema))
                    except (pa.ArrowException, ValueError) as error:
                        raise UsageError(
                            f"{RETURNED} has a column that Parquet does not take: {error}. Cast it."
                        ) from None
                    files += 1
                write_group(writer, run)
    if not files:
        (folder / "rows.jsonl").touch()


def _runs(batches: list[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Return the batches that follow each other and have one schema."""
    run: list[pa.RecordBatch] = []
    for batch in batches:
        if run and not batch.schema.equals(run[0].schema):
            yield run
            run = []
        run.append(batch)
    if run:
        yield run


def _batches(pieces: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for piece in pieces:
        if not _is_arrow(piece):
            raise UsageError(f"{RETURNED} yielded {type(piece).__name__}. Return {_TAKEN}.")
        try:
            yield from _stream(piece)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            # A frame tells two facts: the first may quote a cell, the second names the column.
            fact = error.args[1] if len(error.args) > 1 else type(error).__name__
            raise UsageError(f"{RETURNED} has a column that Arrow does not take: {fact}. Cast it.") from None


def _stream(piece: Any) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if hasattr(piece, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(with_index(piece))
    else:
        yield pa.record_batch(piece)
