"""Rows that can be had only once, such as a generator's, kept on local disk so that they can be iterated again."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_batch_provider.blocks import MOST_BYTES, MOST_ROWS
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.scratch import scratch_file

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SpooledRows:
    """The rows of an iterator, in order, however often they are gone through; by one at a time."""

    spool: IO[bytes]
    count: int

    @classmethod
    def of(cls, rows: Iterator[Any]) -> SpooledRows:
        """Read an iterator to its end, onto a file without a name, which is gone when it is closed.

        Raises:
            UsageError: a row cannot be kept.
        """
        spool = scratch_file()
        count = 0
        for row in rows:
            try:
                kept = pickle.dumps(row)
            except Exception as error:  # pickle lets through whatever a row's own class raises
                spool.close()
                raise UsageError(
                    f"Row {count} is a {type(row).__name__}, which cannot be kept to be read again: {error}. Give str, dict or "
                    "BatchRequest, or a list instead of an iterator."
                ) from error
            spool.write(kept)
            count += 1
        return cls(spool, count)

    def blocks(self) -> Iterator[list[Any]]:
        """Return the rows in blocks."""
        end = self.spool.seek(0)
        left = self.count
        while left:
            block: list[Any] = []
            end += MOST_BYTES
            while len(block) < min(left, MOST_ROWS) and self.spool.tell() < end:
                block.append(pickle.load(self.spool))  # noqa: S301 — written by this process, into a file that no other can open
            yield block
            left, end = left - len(block), self.spool.tell()

    def close(self) -> None:
        """Delete the rows."""
        self.spool.close()
