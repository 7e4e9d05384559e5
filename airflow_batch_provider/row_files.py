"""Files of rows, streamed: JSONL, JSON, CSV, TSV or Parquet, one file, a folder or a glob."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias
from urllib.parse import unquote

import msgspec

from airflow_batch_provider.compression import reading, without_compression
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq
    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.tables.keeping import Keeper

Row: TypeAlias = dict[str, Any] | BadRow

_BLOCK = 1 << 20
# Characters; the largest that csv takes on every platform.
LONGEST_CELL = 2**31 - 1
# What pyarrow 26 raises for a value that Python has none of; a time zone that nobody knows is a KeyError.
UNREADABLE = (ValueError, OverflowError, TypeError, KeyError)
# What Hive and Spark name the folder of rows without a value.
_HIVES_NULL = "__HIVE_DEFAULT_PARTITION__"
_ANYTHING = msgspec.json.Decoder()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class RowFile:
    """One file of rows.

    Attributes:
        partitions: columns that the folders above the file name, as Hive writes them: `day=2026-11-23/`.
    """

    fs: Any
    path: str
    name: str
    partitions: dict[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def ending(self) -> str:
        """Return the ending of the file's name, without `.gz` or `.zst`."""
        return PurePosixPath(without_compression(self.path)).suffix

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, decompressed."""
        with self.fs.open(self.path, "rb", block_size=_BLOCK) as raw, reading(raw, self.path) as file:
            yield file


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


def partitions_of(path: str) -> dict[str, str | None]:
    """Return the columns that folders name: `{"day": "2026-11-23"}` of `day=2026-11-23/part-0.parquet`; all are text."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1] if "=" in folder)
    return {unquote(name): None if value == _HIVES_NULL else unquote(value) for name, _, value in pairs if name}


def rows_in(file: RowFile, needed: list[str] | None, keeper: Keeper | None = None) -> Iterator[Row]:
    """Return the rows of a file, in its order; one that cannot be read is a `BadRow`.

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
            reader(file, needed, keeper) if reader is _parquet else _kept(file, reader(file, needed), needed, keeper)
        )
    except UnicodeDecodeError as error:
        raise UsageError(f"source={str(file)!r} is not UTF-8: {error.reason}. Save it as UTF-8.") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UsageError(
            f"source={str(file)!r} cannot be read: {error}. Check path, connection and content."
        ) from error


def _kept(file: RowFile, rows: Iterator[Row], needed: list[str] | None, keeper: Keeper | None) -> Iterator[Row]:
    """Return rows with their partitions, and let their columns be kept."""
    for given in rows:
        row = file.partitions | given if file.partitions and needed is not None and isinstance(given, dict) else given
        if keeper is not None:
            keeper.row(row if isinstance(row, dict) else {})
        yield row


def _jsonl(path: RowFile, _needed: Any) -> Iterator[Row]:
    with path.open() as file:
        for number, line in enumerate(file):
            if (row := _plain_object(line)) is not None:
                yield row
                continue
            text = _unmarked(path, line) if number == 0 else line
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


def _json(path: RowFile, _needed: Any) -> Iterator[Row]:
    with path.open() as file:
        rows = _decoded(str(path), _unmarked(path, file.read()))
    if not isinstance(rows, list):
        raise UsageError(f"{path} is {type(rows).__name__}, not a list of rows. Fix the file, or name it .jsonl.")
    for number, row in enumerate(rows):
        yield _object(f"Row {number} of {path}", row)


def _unmarked(path: RowFile, data: bytes) -> bytes:
    """Without a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path} is UTF-16. Save it as UTF-8.")
    return data.removeprefix(codecs.BOM_UTF8)


def _decoded(where: str, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply. Fix the file.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = "holds a lone surrogate" if _SURROGATE.search(data) else f"is not JSON: {error}"
        raise UsageError(f"{where} {problem}. Fix the file.") from None


def _object(where: str, row: Any) -> Row:
    if isinstance(row, str):
        return {"prompt": row}
    if not isinstance(row, dict):
        return BadRow(f"{where} is {type(row).__name__}, not an object. Fix the file.")
    return row


def _csv(path: RowFile, needed: list[str] | None, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)  # of the process; the default of 131,072 characters is short for documents
    with path.open() as raw:
        _unmarked(path, raw.read(2))
        raw.seek(0)
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                yield from _records(path, lines, needed)
            except csv.Error as error:
                raise UsageError(f"Line {lines.line_num} of {path} is not CSV: {error}. Fix the file.") from None


def _records(path: RowFile, lines: Iterator[list[str]], needed: list[str] | None) -> Iterator[Row]:
    header = next(filter(None, lines), [])
    if header:
        _check_columns(path, [*header, *(name for name in path.partitions if name not in header)], needed)
    for number, fields in enumerate(filter(None, lines)):
        if len(fields) != len(header):
            yield BadRow(
                f"Row {number} of {path} has more or fewer fields than the header: {len(fields)} of {len(header)}. Fix the file."
            )
            continue
        yield dict(zip(header, fields, strict=True))


def _check_columns(path: RowFile, names: list[str], needed: list[str] | None) -> None:
    """Refuse a file that lacks a column, or has one twice; its rows are not bad one by one."""
    if missing := [name for name in needed or () if name not in names]:
        raise UsageError(
            f"Row 0 of {path} has no column {missing[0]!r}. Its columns are {', '.join(map(repr, names))}."
        )
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path} has the column {doubled[0]!r} more than once. Rename it in the header.")


def _tsv(path: RowFile, needed: list[str] | None) -> Iterator[Row]:
    return _csv(path, needed, "\t")


def _parquet(path: RowFile, needed: list[str] | None, keeper: Keeper | None = None) -> Iterator[Row]:
    with open_parquet(path) as table:
        schema = table.schema_arrow
        own = [] if needed is None else [name for name in path.partitions if name not in schema.names]
        _check_columns(path, [*schema.names, *own], needed)
        wanted = _wanted(schema.names, needed, keeper)
        if keeper is not None:
            keeper.batch(_partitioned(_empty(schema, wanted), path, own))
        first = 0
        for batch in table.iter_batches(batch_size=1000, use_threads=False, columns=wanted):
            rows = _partitioned(batch, path, own)
            if keeper is not None:
                keeper.batch(rows)
            yield from _values(path, rows if needed is None else rows.select(needed), first)
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
    return pa.RecordBatch.from_pylist([], chosen)


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

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f"{str(path)!r} needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
        ) from error
    with path.fs.open(path.path, "rb") as file, pq.ParquetFile(file, buffer_size=_BLOCK, pre_buffer=False) as table:
        yield table


def parquet_records(table: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    """The rows of an open Parquet file, a thousand at a time in memory, however large its row groups are."""
    # With threads, memory grew with the file (+45 MB from 90 to 180 MB a column; 2026-11-23).
    for batch in table.iter_batches(batch_size=1000, use_threads=False):
        yield from batch.to_pylist()


_READERS: dict[str, Callable[..., Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
READ = frozenset(_READERS)
"""The endings of files that are read, without those of compressed ones; whatever else a source names is a folder or a glob."""
