"""The columns of a source that go into the result, gathered on disk in the pass that reads its rows.

They are kept with the plan: the source may be another one when the answers are here. Rows of JSON and CSV are kept as
JSON lines, those of Parquet and Arrow as Parquet, in the types that they have.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.compression import writing
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.scratch import scratch_folder, written

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.storage import Directory
    from airflow_batch_provider.tables.batches import Batches
    from airflow_batch_provider.tables.columns import KeptColumns

LINES, PARQUET = ".jsonl.zst", ".parquet"
# Columns of ragged JSON rows; more would be keys of data, not names of columns.
_MOST_COLUMNS = 10_000
# Whole numbers up to here are each a float64 of their own.
_EXACT, _INT64 = 2**53, 2**63


class Header(msgspec.Struct):
    """First line of a file of kept lines.

    Attributes:
        columns: name → what its values are: `text`, `integer`, `number`, `boolean`, or `json` for anything else.
    """

    columns: dict[str, str]


class Keeper:
    """Gathers kept columns, row by row in the order of the source; one row for each request."""

    def __init__(self, kept: KeptColumns, spec: Spec) -> None:
        self.kept = kept
        self._spec = spec
        self._stack = ExitStack()
        self._spool: _Lines | Batches | None = None

    def begin(self) -> None:
        """Forget what was gathered: the source is read from its beginning."""
        self.close()
        self._spool = None

    def close(self) -> None:
        """Remove what was gathered."""
        self._stack.close()

    def row(self, row: dict[str, Any]) -> None:
        """Take in a row of JSON or CSV; an empty one for a row that could not be read."""
        if self._spool is None:
            self._spool = self._lines()
        if not isinstance(self._spool, _Lines):
            raise _mixed()
        self._spool.add(row)

    def batch(self, batch: pa.RecordBatch) -> None:
        """Take in rows of Parquet or Arrow."""
        if self._spool is None:
            from airflow_batch_provider.tables.batches import Batches  # noqa: PLC0415 — pyarrow is an extra

            self._spool = Batches(self.kept, self._spec, self._scratch())
            self._stack.callback(self._spool.close)
        if isinstance(self._spool, _Lines):
            raise _mixed()
        self._spool.add(batch)

    def save(self, directory: Directory, stem: str) -> None:
        """Write what was gathered in one pass over the whole source to `{stem}.jsonl.zst` or `{stem}.parquet`.

        Raises:
            UsageError: no row has a column that must be kept, or its types do not go together.
        """
        if self._spool is None:
            self._spool = self._lines()
        directory.publish(self._spool.finished(), f"{stem}{self._spool.ending}")

    def _lines(self) -> _Lines:
        lines = _Lines(self.kept, self._spec, self._scratch())
        self._stack.callback(lines.close)
        return lines

    def _scratch(self) -> Path:
        return self._stack.enter_context(scratch_folder())


def _mixed() -> UsageError:
    return UsageError(
        "The files of the source are partly Parquet and partly not, so keep_columns has no one table of them."
    )


class _Lines:
    """Rows as JSON lines."""

    ending = LINES

    def __init__(self, kept: KeptColumns, spec: Spec, scratch: Path) -> None:
        self._kept, self._spec, self._scratch = kept, spec, scratch
        self._stack = ExitStack()
        raw = self._stack.enter_context(written(scratch / "rows"))
        self._file: BinaryIO = self._stack.enter_context(writing(raw, LINES))
        self._kinds: dict[str, set[str]] = {}
        self._rows = 0

    def add(self, row: dict[str, Any]) -> None:
        wanted = self._kept.columns
        kept = row if wanted is None else {name: row[name] for name in wanted if name in row}
        if not kept.keys() <= self._kinds.keys():
            self._meet(kept)
        for name, value in kept.items():
            if value is not None:
                self._kinds[name].add(_kind(value))
        try:
            self._file.write(msgspec.json.encode(kept) + b"\n")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(
                f"Row {self._rows} cannot be kept as JSON: {error}. Name other columns in keep_columns."
            ) from None
        self._rows += 1

    def _meet(self, row: dict[str, Any]) -> None:
        new = [name for name in row if name not in self._kinds]
        self._kept.check(new, self._spec)
        self._kinds.update((name, set()) for name in new)
        if len(self._kinds) > _MOST_COLUMNS:
            raise UsageError(f"The source has more than {_MOST_COLUMNS} columns. Name those to keep in keep_columns.")

    def close(self) -> None:
        self._stack.close()

    def finished(self) -> Path:
        self.close()
        columns = {name: _column_kind(found) for name, found in self._kinds.items()}
        if self._kept.columns is not None:
            if self._rows and (unknown := [name for name in self._kept.columns if name not in columns]):
                raise UsageError(
                    f"keep_columns names {unknown[0]!r}, which no row of the source has. Check how it is written."
                )
            columns = {name: columns.get(name, "text") for name in self._kept.columns}
        path = self._scratch / "file"
        with written(path) as file:
            with writing(file, LINES) as header:  # a frame of its own before that of the rows; both are read as one
                header.write(msgspec.json.encode(Header(columns)) + b"\n")
            with (self._scratch / "rows").open("rb") as rows:
                shutil.copyfileobj(rows, file, 1 << 20)
        return path


def _kind(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return "text"
    if kind is bool:
        return "boolean"
    if kind is float:
        return "number"
    if kind is int:
        return "integer" if -_EXACT <= value <= _EXACT else "large" if -_INT64 <= value < _INT64 else "json"
    return "json"


def _column_kind(found: set[str]) -> str:
    """Return what a column's values are; one that is always null is text."""
    if len(found) <= 1:
        only = next(iter(found), "text")
        return "integer" if only == "large" else only
    if found <= {"integer", "large"}:
        return "integer"
    return "number" if found <= {"integer", "number"} else "json"
