"""Rows in blocks: what is done for each of a million rows is done for some hundred of them in one step.

A block is bounded by its bytes, too, so that rows of many megabytes come one by one.
"""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    Row = TypeVar("Row")

MOST_ROWS = 512
# With few kilobytes, what is made of a block is still in the processor's cache at the next step.
MOST_BYTES = 1 << 16
_READ = 1 << 20


@runtime_checkable
class InBlocks(Protocol):
    """Rows that come in blocks, none of them empty, however often they are gone through."""

    def blocks(self) -> Iterator[list[Any]]:
        """Return all rows, from the first one on."""
        ...


def blocks_of(rows: Iterable[Any] | InBlocks) -> Iterator[list[Any]]:
    """Return rows in the blocks in which they come; others, which are in memory already, so many at once."""
    if isinstance(rows, InBlocks):
        yield from rows.blocks()
        return
    left = iter(rows)
    while block := list(islice(left, MOST_ROWS)):
        yield block


def line_blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """Return the lines of a file with their newlines, in blocks; only a line feed ends one."""
    with io.BufferedReader(_Unasked(file), _READ) as lines:
        while block := lines.readlines(MOST_BYTES):
            yield block


class _Unasked(io.RawIOBase):
    """A file that is not asked for each of its lines whether it is closed: fsspec's answer in Python."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = cast("io.RawIOBase", file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        return self._file.readinto(buffer)


def cut(rows: Iterable[Row], size: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Return rows in blocks, each at its end when it has enough rows or bytes.

    Args:
        size: bytes of a row, about.
    """
    block: list[Row] = []
    room = MOST_BYTES
    for row in rows:
        block.append(row)
        room -= size(row)
        if room <= 0 or len(block) == MOST_ROWS:
            yield block
            block, room = [], MOST_BYTES
    if block:
        yield block
