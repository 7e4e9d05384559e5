"""Rows whose answers the row cache has: left out of a plan, and kept with it as they will be in the results."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from airflow_batch_provider.ledger.digests import DigestTable
from airflow_batch_provider.ledger.landing import rechecked
from airflow_batch_provider.ledger.row_cache import KeptAnswer, written_at
from airflow_batch_provider.ledger.spool import spooled
from airflow_batch_provider.rows import Row, encode_row
from airflow_batch_provider.schemas import answer_schema
from airflow_batch_provider.scratch import scratch_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.blocks import Blocks
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.ledger.row_cache import RowCache
    from airflow_batch_provider.ledger.spool import Spool
    from airflow_batch_provider.schemas import AnswerSchema
    from airflow_batch_provider.storage import Directory

# Answers begin at multiples of so many bytes, so that 4 bytes tell the place of one among 64 GB.
_ALIGNED = 16
_ANSWERS = msgspec.json.Decoder(KeptAnswer)


class _Answers:
    """The answers of a cache, read object by object onto local disk as rows ask for them."""

    def __init__(self, cache: RowCache, places: DigestTable, spool: BinaryIO) -> None:
        self._cache = cache
        self._places = places
        self._spool = spool
        self._end = 0
        self._unread = cache.objects()

    def to(self, digest: bytes) -> Row | None:
        """Return a good row, without key and index, that answers what has this digest; None where there is none."""
        key = digest.hex()
        for shard in ("all", key[:1], key[:2]):
            for name in self._unread.pop(shard, ()):
                self._read(name)
        place = self._places.get(digest)
        if place is None:
            return None
        self._spool.seek(place * _ALIGNED)
        row = msgspec.json.decode(self._spool.readline(), type=Row)
        self._spool.seek(self._end)
        return row

    def _read(self, name: str) -> None:
        at = written_at(name)
        assert at is not None  # only such names are listed
        for line in self._cache.lines(name):
            try:
                one = _ANSWERS.decode(line)
                digest = bytes.fromhex(one.key)
            except (msgspec.DecodeError, RecursionError, ValueError):
                continue  # a damaged line
            place = self._end // _ALIGNED
            if len(digest) == _ALIGNED and self._places.first([digest], [place]) == [place]:
                self._add(
                    Row(
                        custom_id="",
                        index=0,
                        status="succeeded",
                        output=one.output,
                        model=one.model,
                        finish_reason=one.finish_reason,
                        cached_at=at,
                    )
                )

    def _add(self, row: Row) -> None:
        line = encode_row(row)
        self._end += self._spool.write(line + b" " * (-len(line) % _ALIGNED))


class CachedRows:
    """The rows of one draft that are not asked because the cache has their answers.

    Args:
        schema: of the answers of all rows that have none of their own.
    """

    def __init__(self, answers: _Answers, schema: AnswerSchema | None, spool: Spool) -> None:
        self._answers = answers
        self._schema = schema
        self._spool = spool

    @property
    def count(self) -> int:
        """Return the number of these rows."""
        return self._spool.count

    def without(self, blocks: Blocks) -> Blocks:
        """Return the rows that must be asked, and keep the others with their answers."""
        with closing(blocks):
            for block in blocks:
                yield block.only([not self._keeps(*one) for one in zip(block.rows, block.digests, strict=True)])

    def _keeps(self, asked: PlannedRow, digest: bytes) -> bool:
        """Keep a row if it was answered before."""
        answered = self._answered(asked, digest)
        if answered is not None:
            self._spool.add(encode_row(answered))
        return answered is not None

    def _answered(self, asked: PlannedRow, digest: bytes) -> Row | None:
        """Return the row of a request that was answered before; the answer must be good to the task's own type, too."""
        found = self._answers.to(digest)
        if found is None or not _is_readable(found):
            return None
        row = msgspec.structs.replace(found, custom_id=asked.custom_id, index=asked.index)
        schema = answer_schema(bytes(asked.schema)) if asked.schema else self._schema
        row = row if schema is None else rechecked(row, schema)
        return row if row.status == "succeeded" else None

    def save(self, directory: Directory, name: str) -> None:
        """Write the file of these rows, if there are any."""
        self._spool.save(directory, name)


def _is_readable(row: Row) -> bool:
    """Tell whether the answer of a row has a value: whoever finds out later cannot ask the row any more."""
    try:
        row.value  # noqa: B018 — read for what it raises
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


@contextmanager
def cached_rows(cache: RowCache, schema: AnswerSchema | None) -> Iterator[CachedRows]:
    """Return an empty collection for the length of the block."""
    with (
        closing(DigestTable()) as places,
        scratch_file() as answers,
        spooled() as spool,
    ):
        yield CachedRows(_Answers(cache, places, answers), schema, spool)
