"""The files of a finished task's results, read lazily: one file, or part files in the order of their names."""

from __future__ import annotations

import csv
import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.compression import reading
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.formats import format_of
from airflow_batch_provider.models import BatchRow
from airflow_batch_provider.parquet import SCHEMA_KEY, restored
from airflow_batch_provider.parts import is_part, part_name
from airflow_batch_provider.row_files import in_blocks, open_parquet, parquet_records
from airflow_batch_provider.tables.reading import TABLE_KEY, csv_rows, jsonl_rows, parquet_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.formats import ResultFormat
    from airflow_batch_provider.models import Manifest, TableColumns


@dataclass(frozen=True)
class ResultFiles:
    """Where results are.

    Attributes:
        paths: in the order of the rows.
        table: the columns of a table as text; Parquet knows its own. None where each line is a row of results.
    """

    paths: list[UPath | ProxyUPath]
    format: ResultFormat
    table: TableColumns | None = None

    @classmethod
    def of(cls, path: UPath | ProxyUPath, manifest: Manifest) -> ResultFiles:
        """Return the files that a manifest names."""
        if manifest.files is None:
            return cls([path], manifest.format, manifest.table)
        parts = [path / part_name(number, manifest.format) for number in range(manifest.files)]
        return cls(parts, manifest.format, manifest.table)

    @classmethod
    def at(cls, path: UPath | ProxyUPath) -> ResultFiles:
        """Return a file, or the part files of a folder.

        Raises:
            UsageError: the format does not tell what the columns are.
        """
        told = format_of(path.name)
        paths = [path]
        if told is None and path.fs.isdir(path.path):
            found = (entry.rpartition("/")[2] for entry in path.fs.ls(path.path, detail=False))
            names = sorted(filter(is_part, found), key=lambda name: (len(name), name))
            if not names:
                raise UsageError(f"{str(path)!r} has no part files. Check the path.")
            paths, told = [path / name for name in names], format_of(names[0])
        if told is not None and told.startswith(("csv", "tsv")):
            raise UsageError(
                f"{str(path)!r} does not say which of its columns are the answers. Give BatchResults the task's manifest, or "
                "read the file as any CSV."
            )
        return cls(paths, told or "jsonl")

    def count(self) -> int:
        """The number of rows."""
        return sum(map(self._count, self.paths))

    def _count(self, path: UPath | ProxyUPath) -> int:
        if self.format != "parquet":
            return sum(1 for _ in self._lines_of(path))
        with open_parquet(path) as table:
            return int(table.metadata.num_rows)

    def rows(self) -> Iterator[BatchRow]:
        """Every row, in order."""
        index = 0
        for path in self.paths:
            for row in self._rows_of(path, index):
                index = row.index + 1
                yield row

    def _rows_of(self, path: UPath | ProxyUPath, first: int) -> Iterator[BatchRow]:
        if self.format == "parquet":
            yield from _parquet_rows(path, first)
        elif self.table is None:
            yield from map(_plain_row, self._lines_of(path))
        elif self.format.startswith("jsonl"):
            yield from jsonl_rows(self._lines_of(path), self.table, first)
        else:
            with self._opened(path) as file:
                yield from csv_rows(file, self.table, self._delimiter, first)

    def lines(self) -> Iterator[bytes]:
        """Every line, without its newline."""
        for path in self.paths:
            yield from self._lines_of(path)

    def _lines_of(self, path: UPath | ProxyUPath) -> Iterator[bytes]:
        with self._opened(path) as file:
            for line in file:
                yield line.removesuffix(b"\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Every row of a table by its columns, as JSON or CSV has it."""
        if self.format.startswith("jsonl"):
            yield from map(msgspec.json.decode, self.lines())
            return
        for path in self.paths:
            with self._opened(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                yield from csv.DictReader(text, delimiter=self._delimiter)

    def arrow_tables(self) -> list[pa.Table]:
        """Return each Parquet file in memory."""
        import pyarrow.parquet as pq

        tables = []
        for path in self.paths:
            with in_blocks(path) as file:
                tables.append(pq.read_table(file))
        return tables

    @contextmanager
    def _opened(self, path: UPath | ProxyUPath) -> Iterator[BinaryIO]:
        with in_blocks(path) as raw, reading(raw, path.name) as file:
            yield file

    @property
    def _delimiter(self) -> str:
        return "\t" if self.format.startswith("tsv") else ","


def _plain_row(line: bytes) -> BatchRow:
    if b'"custom_id"' not in line:
        raise UsageError(
            "These lines are a table. Give BatchResults the task's manifest, or read the file as any JSONL."
        )
    return BatchRow.model_validate_json(line)


def _parquet_rows(path: UPath | ProxyUPath, first: int) -> Iterator[BatchRow]:
    with open_parquet(path) as file:
        metadata = file.schema_arrow.metadata
        if TABLE_KEY in metadata:
            yield from parquet_rows(file, first)
            return
        from airflow_batch_provider.arrow import column_of  # noqa: PLC0415 — pyarrow is an extra

        schema = msgspec.json.decode(metadata[SCHEMA_KEY])
        column = column_of(schema) if schema is not None else None
        for record in parquet_records(file):
            yield BatchRow(output=restored(record, column), **record)
