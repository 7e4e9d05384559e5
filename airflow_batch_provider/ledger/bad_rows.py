"""Rows that cannot be asked: refused all at once, or skipped and kept for the results."""

from __future__ import annotations

from contextlib import closing, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.blocks import are_plain
from airflow_batch_provider.ledger.spool import spooled
from airflow_batch_provider.models import RowError
from airflow_batch_provider.rows import Row, encode_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.blocks import Block, Blocks, Rows
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.ledger.spool import Spool
    from airflow_batch_provider.storage import Directory

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


def refuse_bad(blocks: Rows) -> Rows:
    """Return the blocks up to the first bad row, and look through the others for more of them.

    Raises:
        UsageError: a row is bad; names up to 20.
    """
    problems = Problems()
    with closing(blocks):
        for rows in blocks:
            if not are_plain(rows):
                for row in rows:
                    if row.problem:
                        problems.add(row.problem)
            if not problems:
                yield rows
    problems.check()


class SkippedRows:
    """The rows of one draft that are not asked, on disk in the order of the plan, as they will be in the results."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._of_block: list[Row] = []

    def without(self, blocks: Blocks) -> Blocks:
        """Return the good rows, and keep the others.

        Whoever takes a block may `add` rows of it before the next one is taken.
        """
        with closing(blocks):
            for block in blocks:
                yield block if are_plain(block.rows) else self._good(block)
                self._end_block()

    def _good(self, block: Block) -> Block:
        for row in block.rows:
            if row.problem:
                self.add(row, row.problem)
        return block.only(not row.problem for row in block.rows)

    def _end_block(self) -> None:
        for row in sorted(self._of_block, key=attrgetter("index")):
            self._spool.add(encode_row(row))
        self._of_block.clear()

    def add(self, row: PlannedRow, problem: str) -> None:
        """Keep one row."""
        error = RowError(code="bad_row", message=problem, retryable=False)
        self._of_block.append(Row(custom_id=row.custom_id, index=row.index, status="failed", error=error))

    def save(self, directory: Directory, name: str) -> None:
        """Write the file of the skipped rows, if there are any."""
        self._spool.save(directory, name)


@contextmanager
def skipped_rows() -> Iterator[SkippedRows]:
    """Return an empty collection for the length of the block."""
    with spooled() as spool:
        yield SkippedRows(spool)
