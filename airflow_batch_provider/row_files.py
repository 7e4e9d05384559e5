"""Files of rows, streamed: JSONL, JSON, CSV, TSV or Parquet, one file, a folder or a glob."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import msgspec

from airflow_batch_provider.compression import reading, without_compression
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow.parquet as pq
    from upath import UPath
    from upath.extensions import ProxyUPath

Row: TypeAlias = dict[str, Any] | BadRow

_BLOCK = 1 << 20
# Characters; the largest that csv takes on every platform.
_LONGEST_CELL = 2**31 - 1
# What pyarrow 26 raises for a value that Python has none of; a time zone that nobody knows is a KeyError.
_UNREADABLE = (ValueError, OverflowError, TypeError, KeyError)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class RowFile:
    """One file of rows."""

    fs: Any
    path: str
    name: str

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
    files = [RowFile(fs, name, name) for name in found if not PurePosixPath(name).name.startswith((".", "_"))]
    if not files:
        raise UsageError(f"source={str(path)!r} names no file. Check the path.")
    return files


def rows_in(file: RowFile, needed: list[str] | None) -> Iterator[Row]:
    """Return the rows of a file, in its order; one that cannot be read is a `BadRow`.

    Args:
        needed: columns that the file must have, where it has any; None takes every column.

    Raises:
        UsageError: the file cannot be read, or lacks a column.
    """
    reader = _READERS.get(file.ending)
    if reader is None:
        raise UsageError(
            f"source={str(file)!r} ends with {file.ending!r}. Give one of {', '.join(_READERS)}, also with .gz or .zst."
        )
    try:
        yield from reader(file, needed)
    except UnicodeDecodeError as error:
        raise UsageError(f"source={str(file)!r} is not UTF-8: {error.reason}. Save it as UTF-8.") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UsageError(
            f"source={str(file)!r} cannot be read: {error}. Check path, connection and content."
        ) from error


def _jsonl(path: RowFile, _needed: Any) -> Iterator[Row]:
    with path.open() as file:
        for number, line in enumerate(file):
            text = _unmarked(path, line) if number == 0 else line
            if text.strip():
                yield _line(f"Line {number + 1} of {path}", text)


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
    csv.field_size_limit(_LONGEST_CELL)  # of the process; the default of 131,072 characters is short for documents
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
        _check_columns(path, header, needed)
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


def _parquet(path: RowFile, needed: list[str] | None) -> Iterator[Row]:
    with open_parquet(path) as table:
        _check_columns(path, table.schema_arrow.names, needed)
        first = 0
        for batch in table.iter_batches(batch_size=1000, use_threads=False, columns=needed):
            yield from _values(path, batch, first)
            first += batch.num_rows


def _values(path: RowFile, batch: Any, first: int) -> list[Row]:
    try:
        rows: list[Row] = batch.to_pylist()
    except _UNREADABLE:
        return [_value(f"Row {first + number} of {path}", batch, number) for number in range(batch.num_rows)]
    return rows


def _value(where: str, batch: Any, number: int) -> Row:
    """Return one row, by itself."""
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except _UNREADABLE as error:
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


_READERS: dict[str, Callable[[Any, list[str] | None], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
