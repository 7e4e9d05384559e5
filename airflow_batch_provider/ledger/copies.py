"""Rows that ask the same as an earlier row of their task: not bought, and given its answer at the end."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from operator import eq
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.ledger.blocks import are_plain
from airflow_batch_provider.ledger.digests import DigestTable
from airflow_batch_provider.ledger.records import CopiedRow, PlainRow
from airflow_batch_provider.ledger.spool import spooled
from airflow_batch_provider.models import Usage
from airflow_batch_provider.rows import decode_row, encode_row
from airflow_batch_provider.scratch import scratch_file, told_of_scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_batch_provider.ledger.blocks import Block, Blocks
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.ledger.spool import Spool
    from airflow_batch_provider.providers.codec import Codec
    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.storage import Directory

_JSON = msgspec.json.Encoder()
_NOTHING = Usage()


class Copies:
    """The rows of one draft that ask the same as an earlier one, on disk.

    A row that sets a temperature above 0 asks for an answer of its own.
    """

    def __init__(self, codec: Codec, known: DigestTable, spool: Spool) -> None:
        self._codec = codec
        self._known = known
        self._spool = spool
        self._plain_varies: bool | None = None

    @property
    def count(self) -> int:
        """Return the number of these rows."""
        return self._spool.count

    def without(self, blocks: Blocks) -> Blocks:
        """Return the rows that are the first to ask what they ask, and keep the others."""
        with closing(blocks):
            for block in blocks:
                yield self._first_to_ask(block)

    def _first_to_ask(self, block: Block) -> Block:
        indices = [row.index for row in block.rows]
        originals = self._originals(block, indices)
        if originals == indices:
            return block
        for row, original in zip(block.rows, originals, strict=True):
            if original != row.index:
                copied = CopiedRow(index=row.index, custom_id=row.custom_id, original=original)
                self._spool.add(_JSON.encode(copied) + b"\n")
        return block.only(map(eq, originals, indices))

    def _originals(self, block: Block, indices: list[int]) -> list[int]:
        """Return the index of the first row that asks the same, of each; its own of one that asks for its own answer."""
        if are_plain(block.rows):
            return indices if self._wants_variety(block.rows[0]) else self._known.first(block.digests, indices)
        return [
            row.index if self._wants_variety(row) else self._known.first([digest], [row.index])[0]
            for row, digest in zip(block.rows, block.digests, strict=True)
        ]

    def _wants_variety(self, row: PlannedRow) -> bool:
        """Tell whether a row asks for an answer of its own; of plain ones, which differ in the prompt only, all or none do."""
        if type(row) is not PlainRow:
            return self._is_varied(row)
        if self._plain_varies is None:
            self._plain_varies = self._is_varied(row)
        return self._plain_varies

    def _is_varied(self, row: PlannedRow) -> bool:
        body = bytes(row.body)
        return b'"temperature"' in body and self._codec.wants_variety(msgspec.json.decode(body))

    def save(self, directory: Directory, name: str) -> None:
        """Write the file of the copies, if there are any."""
        self._spool.save(directory, name)


@contextmanager
def copies_of(codec: Codec) -> Iterator[Copies]:
    """Return an empty collection for the length of the block."""
    with closing(DigestTable()) as known, spooled() as spool:
        yield Copies(codec, known, spool)


def with_copies(
    rows: Iterable[Row], copies: Callable[[], Iterator[CopiedRow]], requests: int, settled: Callable[[Row], None]
) -> Iterator[Row]:
    """Return all rows of a task in order: those that were asked or skipped, and the copies with their answers.

    Args:
        rows: in order.
        copies: returns all copies, in order; called twice.
        requests: number of rows, with copies.
        settled: told of every copy.
    """
    with scratch_file() as spool, scratch_file() as places:
        answers = _Answers(spool, places.fileno(), requests, (copy.original for copy in copies()))
        waiting = copies()
        copy = next(waiting, None)
        for row in rows:
            while copy is not None and copy.index < row.index:
                yield answers.given(copy, settled)
                copy = next(waiting, None)
            answers.keep(row)
            yield row
        while copy is not None:
            yield answers.given(copy, settled)
            copy = next(waiting, None)


class _Answers:
    """The rows whose answers copies get, on disk; in memory is one bit for each row.

    Args:
        places: file number of a file that says where in the spool the row of each index is.
    """

    def __init__(self, spool: BinaryIO, places: int, requests: int, wanted: Iterable[int]) -> None:
        self._rows = spool
        self._places = places
        self._wanted = bytearray(requests // 8 + 1)
        for index in wanted:
            self._wanted[index >> 3] |= 1 << (index & 7)
        self._end = 0

    def keep(self, row: Row) -> None:
        """Keep a row if a copy wants its answer."""
        if not self._wanted[row.index >> 3] & 1 << (row.index & 7):
            return
        with told_of_scratch():
            os.pwrite(self._places, self._end.to_bytes(8, "little"), row.index * 8)
        self._end += self._rows.write(encode_row(row))

    def given(self, copy: CopiedRow, settled: Callable[[Row], None]) -> Row:
        """Return a copy as the results have it: with the answer of its original, for which it used no token."""
        self._rows.seek(int.from_bytes(os.pread(self._places, 8, copy.original * 8), "little"))
        original = decode_row(self._rows.readline())
        self._rows.seek(self._end)
        row = replace(original, custom_id=copy.custom_id, index=copy.index, usage=_NOTHING, same_as=original.custom_id)
        settled(row)
        return row
