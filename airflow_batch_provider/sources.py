"""Rows of files as requests, streamed: JSONL, JSON, CSV, TSV or Parquet, with a prompt template."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import LONGEST_ID, BadRow, BatchRequest
from airflow_batch_provider.prompts import PromptTemplate, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow.parquet as pq
    from upath import UPath
    from upath.extensions import ProxyUPath

_Row: TypeAlias = dict[str, Any] | BadRow

_BLOCK = 1 << 20
# Characters; the largest that csv takes on every platform.
_LONGEST_CELL = 2**31 - 1
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def requests_of(path: UPath | ProxyUPath, prompt: str | None = None, key: str | None = None) -> Iterator[Any]:
    """One request per row of a file, a folder or a glob, in order of names and rows; memory stays flat.

    Args:
        prompt: template filled from the row's columns; None takes each row as a request itself.
        key: column of the `custom_id`.

    A row that cannot be asked is a `BadRow`, which names file and row.

    Raises:
        UsageError: a file cannot be read, or lacks a column; names it.
    """
    template = PromptTemplate(prompt) if prompt is not None else None
    needed = None if template is None else [*dict.fromkeys([*template.columns, *([key] if key else [])])]
    for file in _files(path):
        for number, row in enumerate(_rows(file, needed)):
            yield row if isinstance(row, BadRow) else _request(file, number, row, template, key)


@dataclass(frozen=True)
class _File:
    """One file of rows."""

    fs: Any
    path: str
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def ending(self) -> str:
        """Return the ending of the file's name, without `.gz`."""
        return PurePosixPath(self.path.lower().removesuffix(".gz")).suffix

    def open(self) -> Any:
        """Its bytes, decompressed."""
        compression = "gzip" if self.path.lower().endswith(".gz") else None
        return self.fs.open(self.path, "rb", block_size=_BLOCK, compression=compression)


def _files(path: UPath | ProxyUPath) -> list[_File]:
    """The file itself, or those of a folder or glob in the order of their names, without hidden ones and marks."""
    fs, place = path.fs, str(path.path)
    one = _File(fs, place, str(path))
    if "*" not in place and (one.ending in _READERS or not fs.isdir(place)):
        return [one]
    found = sorted(fs.glob(place) if "*" in place else fs.find(place))
    files = [_File(fs, name, name) for name in found if not PurePosixPath(name).name.startswith((".", "_"))]
    if not files:
        raise UsageError(f"source={str(path)!r} names no file. Check the path.")
    return files


def _request(path: _File, number: int, row: dict[str, Any], template: PromptTemplate | None, key: str | None) -> Any:
    try:
        return _keyed(path, number, row, key) if template is None else _filled(path, number, template, row, key)
    except UsageError as error:
        return BadRow(str(error), _usable_key(row.get(key)) if key else None)


def _filled(path: Any, number: int, template: PromptTemplate, row: dict[str, Any], key: str | None) -> BatchRequest:
    for column in template.columns:
        _need(path, number, row, column)
    custom_id = None if key is None else _key(path, number, row, key)
    try:
        text = template.fill(row)
    except RecursionError:
        raise UsageError(f"Row {number} of {path} is nested too deeply. Fix the file.") from None
    if not text:
        raise UsageError(f"Row {number} of {path} gives an empty prompt. Fill its columns {template.columns!r}.")
    return BatchRequest(prompt=text, custom_id=custom_id)


def _keyed(path: Any, number: int, row: dict[str, Any], key: str | None) -> dict[str, Any]:
    if key is None:
        return row
    return {name: field for name, field in row.items() if name != key} | {"custom_id": _key(path, number, row, key)}


def _key(path: Any, number: int, row: dict[str, Any], column: str) -> str:
    text = as_text(_need(path, number, row, column))
    if _usable_key(text):
        return text
    fact = "is empty" if not text else f"has {len(text)} characters, more than {LONGEST_ID}"
    raise UsageError(
        f"Row {number} of {path}: the key in column {column!r} {fact}. Fix the file or choose another key."
    )


def _usable_key(value: Any) -> str | None:
    text = as_text(value)
    return text if 0 < len(text) <= LONGEST_ID else None


def _need(path: Any, number: int, row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise UsageError(
            f"Row {number} of {path} has no column {column!r}. Its columns are {', '.join(map(repr, row))}."
        )
    return row[column]


def _rows(file: _File, needed: list[str] | None) -> Iterator[_Row]:
    reader = _READERS.get(file.ending)
    if reader is None:
        raise UsageError(
            f"source={str(file)!r} ends with {file.ending!r}. Give one of {', '.join(_READERS)}, also with .gz."
        )
    try:
        yield from reader(file, needed)
    except UnicodeDecodeError as error:
        raise UsageError(f"source={str(file)!r} is not UTF-8: {error.reason}. Save it as UTF-8.") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UsageError(
            f"source={str(file)!r} cannot be read: {error}. Check path, connection and content."
        ) from error


def _jsonl(path: _File, _needed: Any) -> Iterator[_Row]:
    with path.open() as file:
        for number, line in enumerate(file):
            text = _unmarked(path, line) if number == 0 else line
            if text.strip():
                yield _line(f"Line {number + 1} of {path}", text)


def _line(where: str, text: bytes) -> _Row:
    try:
        return _object(where, _decoded(where, text))
    except UsageError as error:
        return BadRow(str(error))


def _json(path: _File, _needed: Any) -> Iterator[_Row]:
    with path.open() as file:
        rows = _decoded(str(path), _unmarked(path, file.read()))
    if not isinstance(rows, list):
        raise UsageError(f"{path} is {type(rows).__name__}, not a list of rows. Fix the file, or name it .jsonl.")
    for number, row in enumerate(rows):
        yield _object(f"Row {number} of {path}", row)


def _unmarked(path: _File, data: bytes) -> bytes:
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


def _object(where: str, row: Any) -> _Row:
    if isinstance(row, str):
        return {"prompt": row}
    if not isinstance(row, dict):
        return BadRow(f"{where} is {type(row).__name__}, not an object. Fix the file.")
    return row


def _csv(path: _File, needed: list[str] | None, delimiter: str = ",") -> Iterator[_Row]:
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


def _records(path: _File, lines: Iterator[list[str]], needed: list[str] | None) -> Iterator[_Row]:
    header = next(lines, [])
    if header:
        _check_columns(path, header, needed)
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise UsageError(f"{path} has the column {doubled[0]!r} more than once. Rename it in the header.")
    for number, fields in enumerate(filter(None, lines)):
        if len(fields) != len(header):
            yield BadRow(
                f"Row {number} of {path} has more or fewer fields than the header: {len(fields)} of {len(header)}. Fix the file."
            )
            continue
        yield dict(zip(header, fields, strict=True))


def _check_columns(path: _File, names: list[str], needed: list[str] | None) -> None:
    """Refuse a file that lacks a column; its rows are not bad one by one."""
    if missing := [name for name in needed or () if name not in names]:
        raise UsageError(
            f"Row 0 of {path} has no column {missing[0]!r}. Its columns are {', '.join(map(repr, names))}."
        )


def _tsv(path: _File, needed: list[str] | None) -> Iterator[_Row]:
    return _csv(path, needed, "\t")


def _parquet(path: _File, needed: list[str] | None) -> Iterator[_Row]:
    with open_parquet(path) as table:
        _check_columns(path, table.schema_arrow.names, needed)
        first = 0
        for batch in table.iter_batches(batch_size=1000, use_threads=False, columns=needed):
            yield from _values(path, batch, first)
            first += batch.num_rows


def _values(path: _File, batch: Any, first: int) -> list[_Row]:
    try:
        rows: list[_Row] = batch.to_pylist()
    except (ValueError, OverflowError, TypeError):
        return [_value(f"Row {first + number} of {path}", batch, number) for number in range(batch.num_rows)]
    return rows


def _value(where: str, batch: Any, number: int) -> _Row:
    """Return one row, by itself."""
    row: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except (ValueError, OverflowError, TypeError) as error:
            return BadRow(
                f"{where}: column {name!r} holds a {column.type} that Python cannot: {error}. Fix the file, or leave the "
                "column out of the prompt."
            )
    return row


@contextmanager
def open_parquet(path: UPath | ProxyUPath | _File) -> Iterator[pq.ParquetFile]:
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


_READERS: dict[str, Callable[[Any, list[str] | None], Iterator[_Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
