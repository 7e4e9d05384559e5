"""One file of rows: where it is, the columns that its folders name, and what no format may have."""

from __future__ import annotations

import codecs
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias
from urllib.parse import unquote

from airflow_batch_provider.compression import reading, without_compression
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from upath import UPath
    from upath.extensions import ProxyUPath

Row: TypeAlias = dict[str, Any] | BadRow

BLOCK = 1 << 20
# UTF-32 first: one of its marks begins as one of UTF-16.
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# By the zeros among four bytes, where the text begins with Latin letters.
_WIDE_BY_ZEROS = {2: "UTF-16", 3: "UTF-32"}
# What Hive and Spark name the folder of rows without a value.
_HIVES_NULL = "__HIVE_DEFAULT_PARTITION__"


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
        with in_blocks(self) as raw, reading(raw, self.path) as file:
            yield file


def in_blocks(path: UPath | ProxyUPath | RowFile) -> AbstractContextManager[BinaryIO]:
    """The bytes of a file, fetched a block at a time: s3fs's own blocks are of 50 MB (2026.9), each whole in memory."""
    file: AbstractContextManager[BinaryIO] = path.fs.open(path.path, "rb", block_size=BLOCK)
    return file


def partitions_of(path: str) -> dict[str, str | None]:
    """Return the columns that folders name: `{"day": "2026-11-23"}` of `day=2026-11-23/part-0.parquet`; all are text."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1] if "=" in folder)
    return {unquote(name): None if value == _HIVES_NULL else unquote(value) for name, _, value in pairs if name}


def without_mark(path: RowFile, data: bytes) -> bytes:
    """Return the beginning of a text without its byte order mark.

    Raises:
        UsageError: it is in an encoding of two or four bytes a character, by its mark or by the zeros beside Latin letters.
    """
    marks = (mark for mark in _WIDE_MARKS if data.startswith(mark))
    wide = _WIDE_MARKS.get(next(marks, b"")) or _WIDE_BY_ZEROS.get(data[:4].count(0))
    if wide is not None:
        raise UsageError(f"{path} is {wide} text. Save it as UTF-8.")
    return data.removeprefix(codecs.BOM_UTF8)


def check_columns(path: RowFile, names: list[str], needed: list[str] | None) -> None:
    """Refuse a file that lacks a column, or has one twice; its rows are not bad one by one."""
    if missing := [name for name in needed or () if name not in names]:
        raise UsageError(
            f"Row 0 of {path} has no column {missing[0]!r}. Its columns are {', '.join(map(repr, names))}."
        )
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path} has the column {doubled[0]!r} more than once. Rename it in the header.")
