"""Rows of CSV and TSV; all cells are text."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from airflow_batch_provider.blocks import cut
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BadRow
from airflow_batch_provider.row_files.file import check_columns, without_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.row_files.file import Row, RowFile

# Characters; the largest that csv takes on every platform.
LONGEST_CELL = 2**31 - 1


def csv_rows(path: RowFile, needed: list[str] | None, delimiter: str = ",") -> Iterator[list[Row]]:
    csv.field_size_limit(LONGEST_CELL)  # of the process; the default of 131,072 characters is short for documents
    with path.open() as raw:
        without_mark(path, raw.read(4))
        raw.seek(0)
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                yield from cut(_records(path, lines, needed), _characters)
            except csv.Error as error:
                raise UsageError(f"Line {lines.line_num} of {path} is not CSV: {error}. Fix the file.") from None


def _records(path: RowFile, lines: Iterator[list[str]], needed: list[str] | None) -> Iterator[Row]:
    header = next(filter(None, lines), [])
    if header:
        check_columns(path, [*header, *(name for name in path.partitions if name not in header)], needed)
    for number, fields in enumerate(filter(None, lines)):
        if len(fields) != len(header):
            yield BadRow(
                f"Row {number} of {path} has more or fewer fields than the header: {len(fields)} of {len(header)}. Fix the file."
            )
            continue
        yield dict(zip(header, fields, strict=True))


def _characters(row: Row) -> int:
    return 0 if isinstance(row, BadRow) else sum(map(len, row.values()))


def tsv_rows(path: RowFile, needed: list[str] | None) -> Iterator[list[Row]]:
    return csv_rows(path, needed, "\t")
