"""Rows that cannot be asked: refused all at once, or skipped and kept for the results."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.spool import spooled
from airflow_batch_provider.models import RowError
from airflow_batch_provider.rows import Row, encode_row

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.ledger.requests import Fingerprint
    from airflow_batch_provider.ledger.spool import Spool
    from airflow_batch_provider.storage import Directory

# Rows on their way to a plan; closed by whoever stops early, because they hold a folder of their own.
Rows: TypeAlias = "Generator[PlannedRow, None, None]"

# A person fixes a kind of fault, not each row.
MOST_TOLD = 20


class Problems:
    """The problems of rows, gathered to be told in one message."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._problems)

    def add(self, problem: str) -> None:
        """Gather one.

        Raises:
            UsageError: these are as many as are told at once.
        """
        self._problems.append(problem)
        if len(self._problems) == MOST_TOLD:
            self.check()

    def check(self) -> None:
        """Tell all of them.

        Raises:
            UsageError: there is any.
        """
        if len(self._problems) == 1:
            raise UsageError(self._problems[0])
        if self._problems:
            count = f"At least {MOST_TOLD}" if len(self._problems) == MOST_TOLD else str(len(self._problems))
            listed = "\n".join(self._problems)
            raise UsageError(f"{count} rows cannot be asked. Fix them, or skip them with on_bad_row='skip':\n{listed}")


def refuse_bad(rows: Rows) -> Rows:
    """Return the rows up to the first bad one, and look through the others for more of them.

    Raises:
        UsageError: a row is bad; names up to 20.
    """
    problems = Problems()
    with closing(rows):
        for row in rows:
            if row.problem:
                problems.add(row.problem)
            elif not problems:
                yield row
    problems.check()


class SkippedRows:
    """The rows of one draft that are not asked, on disk, as they will be in the results."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def without(self, rows: Rows, fingerprint: Fingerprint) -> Rows:
        """Return the good rows, and keep the others; another row in their place makes another plan."""
        with closing(rows):
            for row in rows:
                if not row.problem:
                    yield row
                    continue
                fingerprint.add(row)
                self.add(row, row.problem)

    def add(self, row: PlannedRow, problem: str) -> None:
        """Keep one row."""
        error = RowError(code="bad_row", message=problem, retryable=False)
        skipped = Row(custom_id=row.custom_id, index=row.index, status="failed", error=error)
        self._spool.add(encode_row(skipped))

    def save(self, directory: Directory, name: str) -> None:
        """Write the file of the skipped rows, if there are any."""
        self._spool.save(directory, name)


@contextmanager
def skipped_rows() -> Iterator[SkippedRows]:
    """Return an empty collection for the length of the block."""
    with spooled() as spool:
        yield SkippedRows(spool)
