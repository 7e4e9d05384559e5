"""The final files: rows or a table, of any format, in one file or in part files of bounded length."""

from __future__ import annotations

import heapq
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from airflow_batch_provider.compression import writing
from airflow_batch_provider.formats import ResultFormat, format_of
from airflow_batch_provider.ledger.copies import with_copies
from airflow_batch_provider.ledger.merge import best_rows, landed_rows, sums_of_only
from airflow_batch_provider.models import TableColumns
from airflow_batch_provider.parts import is_part, part_name
from airflow_batch_provider.rows import encode_row, settled
from airflow_batch_provider.tables.answers import Cells
from airflow_batch_provider.tables.kept_rows import kept_rows
from airflow_batch_provider.tables.text import write_csv, write_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.merge import Tally
    from airflow_batch_provider.ledger.records import Plan, Wave
    from airflow_batch_provider.models import Manifest, RowError, Spec
    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.storage import Directory
    from airflow_batch_provider.tables.columns import KeptColumns
    from airflow_batch_provider.tables.kept_rows import KeptRows


@dataclass(frozen=True)
class Target:
    """Where the results go, and as what.

    Attributes:
        directory: on any filesystem.
        name: file name in it; its ending is the format. Of part files, the folder in it that has them.
        kept: the columns of the source that make the results a table; None writes a row of results for each request.
        rows_per_file: most rows of a part file; None writes one file.
        of_parts: the format of part files.
    """

    directory: Directory
    name: str
    kept: KeptColumns | None = None
    rows_per_file: int | None = None
    of_parts: ResultFormat = "jsonl"

    @property
    def format(self) -> ResultFormat:
        """Return the format of the files."""
        return self.of_parts if self.rows_per_file else format_of(self.name) or "jsonl"

    @property
    def uri(self) -> str:
        """Return the address of the file, or of the folder of part files."""
        return self.directory.uri(self.name)

    def rows_of_a_file(self, plan: Plan) -> int:
        """Return how many rows a file has; the last one of part files has fewer."""
        return min(plan.requests, self.rows_per_file or plan.requests)

    def is_of(self, manifest: Manifest, plan: Plan, files: TaskFiles) -> bool:
        """Tell whether finished results are as they are asked for here: place, format, columns and part files."""
        parts = None if self.rows_per_file is None else max(1, -(-manifest.requests // self.rows_per_file))
        if (manifest.results, manifest.format, manifest.files) != (self.uri, self.format, parts):
            return False
        with _kept(self, plan, files) as kept:
            return manifest.table == (None if kept is None else table_columns(self, plan.spec, kept))


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: number of part files; None where it is one file.
    """

    table: TableColumns | None
    files: int | None


def write_files(
    target: Target, plan: Plan, files: TaskFiles, waves: list[Wave], tally: Tally, absence: RowError
) -> Written:
    """Write the rows of the best answers of all waves, whole files only.

    Part files have the names `part-00000.jsonl` and so on, whoever writes them and how often; what an earlier run has
    written beyond their number is deleted.

    Args:
        absence: why rows have no answer that were not asked.
    """
    final = _FinalRows.of(plan, files, waves, tally, absence)
    with _kept(target, plan, files) as kept:
        if kept is not None:
            table = table_columns(target, plan.spec, kept)
            return Written(table, _write(target, final.rows(), _table(target, plan, table, kept)))
        if target.format == "parquet":
            return Written(None, _write(target, final.rows(), _parquet(target, plan)))
        return Written(None, _write(target, final.lines(), lambda file, part: file.writelines(part)))


@dataclass(frozen=True)
class _FinalRows:
    """The rows of the results, in the order asked.

    Attributes:
        are_landed: True where they are what landed in the only wave, whose sums the tally has.
        are_lines: True where the lines that landed are the results, too; nobody looks at a row then.
    """

    plan: Plan
    files: TaskFiles
    waves: list[Wave]
    tally: Tally
    absence: RowError
    are_landed: bool
    are_lines: bool

    @classmethod
    def of(cls, plan: Plan, files: TaskFiles, waves: list[Wave], tally: Tally, absence: RowError) -> Self:
        """Look for the sums that were taken while the rows landed; without them, rows are counted as they pass."""
        sums = None if plan.requests > plan.first.requests else sums_of_only(files, waves)
        prices = None if tally.bill is None else tally.bill.prices
        if sums is None or any(one.prices != prices for one in sums):
            return cls(plan, files, waves, tally, absence, are_landed=False, are_lines=False)
        for one in sums:
            tally.take(one)
        are_lines = not any(one.undecided for one in sums)
        return cls(plan, files, waves, tally, absence, are_landed=True, are_lines=are_lines)

    def rows(self) -> Iterator[Row]:
        """Return each row."""
        if self.are_landed:
            return landed_rows(self.files, self.waves[0])
        plan, files, tally = self.plan, self.files, self.tally
        best = best_rows(files, self.waves, tally, self.absence)
        others = map(tally.settling, (files.skipped_rows(plan), files.cached_rows(plan)))
        rows = heapq.merge(best, *others, key=attrgetter("index"))
        if not plan.copies:
            return rows
        return with_copies(rows, partial(files.copied_rows, plan), plan.requests, tally.settled)

    def lines(self) -> Iterator[bytes]:
        """Return each row as a line, newline included: the very bytes that landed, if nothing was asked again."""
        if self.are_lines:
            batches = self.files.batches(self.waves[0])
            return (line + b"\n" for batch in batches for line in batch.landed_lines())
        return (encode_row(settled(row)) for row in self.rows())


def _kept(target: Target, plan: Plan, files: TaskFiles) -> AbstractContextManager[KeptRows | None]:
    return nullcontext() if target.kept is None else kept_rows(*files.kept(plan.nonce, target.kept))


def table_columns(target: Target, spec: Spec, kept: KeptRows) -> TableColumns:
    """Return the names of a table's columns."""
    assert target.kept is not None
    cells = Cells(spec, target.kept.prefix)
    return TableColumns(
        key=target.kept.key,
        kept=kept.names,
        fields=cells.kinds,
        output="text" if cells.is_text and spec.kind == "generate" else "json",
        prefix=target.kept.prefix,
    )


def _write(target: Target, rows: Iterator[Any], write: Callable[[BinaryIO, Iterator[Any]], None]) -> int | None:
    """Write all rows, or lines, to one file or to as many as they need; return their number, None for one file."""
    if target.rows_per_file is None:
        _write_file(target.directory, target.name, rows, write)
        return None
    directory, ours = target.directory.sub(target.name), list[str]()
    while (ahead := list(islice(rows, 1))) or not ours:
        ours.append(part_name(len(ours), target.format))
        _write_file(directory, ours[-1], chain(ahead, islice(rows, target.rows_per_file - 1)), write)
    for name in directory.names():
        if is_part(name) and name not in ours:
            directory.delete(name)
    return len(ours)


def _write_file(
    directory: Directory, name: str, rows: Iterator[Any], write: Callable[[BinaryIO, Iterator[Any]], None]
) -> None:
    with directory.writer(name) as raw, writing(raw, name) as file:
        write(file, rows)


def _parquet(target: Target, plan: Plan) -> Callable[[BinaryIO, Iterator[Row]], None]:
    from airflow_batch_provider.parquet import write_parquet  # noqa: PLC0415 — pyarrow is an extra

    return lambda file, rows: write_parquet(file, rows, plan.spec, target.rows_of_a_file(plan))


def _table(
    target: Target, plan: Plan, table: TableColumns, kept: KeptRows
) -> Callable[[BinaryIO, Iterator[Row]], None]:
    cells = Cells(plan.spec, table.prefix)
    if target.format == "parquet":
        from airflow_batch_provider.tables.parquet_table import write_table  # noqa: PLC0415 — pyarrow is an extra

        count = target.rows_of_a_file(plan)
        return lambda file, rows: write_table(file, rows, plan.spec, table, cells, kept, count)
    if target.format.startswith("jsonl"):
        return lambda file, rows: write_jsonl(file, rows, cells, kept, table.key)
    delimiter = "\t" if target.format.startswith("tsv") else ","
    return lambda file, rows: write_csv(file, rows, cells, kept, delimiter)
