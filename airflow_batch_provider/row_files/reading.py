"""Which files a source names, and the rows of each by its ending."""

from __future__ import annotations

import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.row_files.csv_rows import csv_rows, tsv_rows
from airflow_batch_provider.row_files.file import RowFile, partitions_of
from airflow_batch_provider.row_files.json_rows import json_rows, jsonl_rows
from airflow_batch_provider.row_files.parquet_rows import parquet_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.row_files.file import Row
    from airflow_batch_provider.tables.keeping import Keeper


def files_at(path: UPath | ProxyUPath) -> list[RowFile]:
    """The file itself, or those of a folder or glob in the order of their names, without hidden ones and marks."""
    fs, place = path.fs, str(path.path)
    one = RowFile(fs, place, str(path))
    if "*" not in place and (one.ending in _READERS or not fs.isdir(place)):
        return [one]
    found = sorted(fs.glob(place) if "*" in place else fs.find(place))
    root = _root(place)
    files = [
        RowFile(fs, name, name, partitions_of(name.removeprefix(root)))
        for name in found
        if not PurePosixPath(name).name.startswith((".", "_"))
    ]
    if not files:
        raise UsageError(f"source={str(path)!r} names no file. Check the path.")
    return files


def _root(place: str) -> str:
    """Return the folder, or what of a glob is a folder, below which folders may name partitions."""
    return place.rstrip("/") if "*" not in place else place.partition("*")[0].rpartition("/")[0]


def blocks_in(file: RowFile, needed: list[str] | None, keeper: Keeper | None = None) -> Iterator[list[Row]]:
    """Return the rows of a file in blocks, in its order; one that cannot be read is a `BadRow`.

    Args:
        needed: columns that the file must have, where it has any; None takes every column, and no partition.
        keeper: takes columns of every row.

    Raises:
        UsageError: the file cannot be read, or lacks a column.
    """
    reader = _READERS.get(file.ending)
    if reader is None:
        raise UsageError(
            f"source={str(file)!r} ends with {file.ending!r}. Give one of {', '.join(_READERS)}, also with .gz or .zst."
        )
    try:
        yield from (
            reader(file, needed, keeper)
            if reader is parquet_rows
            else _kept(file, reader(file, needed), needed, keeper)
        )
    except UnicodeDecodeError as error:
        raise UsageError(f"source={str(file)!r} is not UTF-8: {error.reason}. Save it as UTF-8.") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UsageError(
            f"source={str(file)!r} cannot be read: {error}. Check path, connection and content."
        ) from error


def _kept(
    file: RowFile, blocks: Iterator[list[Row]], needed: list[str] | None, keeper: Keeper | None
) -> Iterator[list[Row]]:
    """Return rows with their partitions, and let their columns be kept."""
    partitions = {} if needed is None else file.partitions
    if keeper is None and not partitions:
        return blocks
    return ([_with_more(row, partitions, keeper) for row in block] for block in blocks)


def _with_more(given: Row, partitions: dict[str, str | None], keeper: Keeper | None) -> Row:
    row = partitions | given if partitions and isinstance(given, dict) else given
    if keeper is not None:
        keeper.row(row if isinstance(row, dict) else {})
    return row


_READERS: dict[str, Callable[..., Iterator[list[Row]]]] = {
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": parquet_rows,
}
READ = frozenset(_READERS)
"""The endings of files that are read, without those of compressed ones; whatever else a source names is a folder or a glob."""
