"""Planned rows on their way into request files, in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, TypeAlias

from airflow_batch_provider.blocks import cut
from airflow_batch_provider.ledger.records import PlainRow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from airflow_batch_provider.ledger.records import PlannedRow

# Both are closed by whoever stops early, because what makes them holds a folder of its own.
Rows: TypeAlias = "Generator[list[PlannedRow], None, None]"
Blocks: TypeAlias = "Generator[Block, None, None]"


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow each other in a plan.

    Attributes:
        digests: what each row asks, as `asked_digest` tells.
    """

    rows: list[PlannedRow]
    digests: list[bytes]

    def only(self, chosen: Iterable[object]) -> Block:
        """Return those rows for which this is true, place by place."""
        chosen = list(chosen)
        return Block(list(compress(self.rows, chosen)), list(compress(self.digests, chosen)))


def are_plain(rows: list[PlannedRow]) -> bool:
    """Tell whether all rows differ in their prompt only."""
    return set(map(type, rows)) == {PlainRow}


def body_size(row: PlannedRow) -> int:
    """Return the bytes of a row's body."""
    return memoryview(row.body).nbytes


def in_blocks(rows: Iterable[PlannedRow]) -> Iterator[list[PlannedRow]]:
    """Return rows that come one by one in blocks."""
    return cut(rows, body_size)
