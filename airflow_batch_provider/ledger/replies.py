"""The replies of one ended batch as they come, in any order: kept on disk as rows that lack only the user's key."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.ledger.asked import asked_rows
from airflow_batch_provider.rows import decode_row, encode_row
from airflow_batch_provider.timing import RESULTS_LAG

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_batch_provider.ledger.landing import Landing
    from airflow_batch_provider.models import BatchStatus, Reply
    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.scratch import SpooledFile

log = logging.getLogger(__name__)

_NOWHERE = -1
# Rows go to disk so many bytes at a time: one by one they take 2 µs each of the system's time.
_BLOCK = 1 << 18


class ForeignBatch(Exception):
    """A tentatively adopted batch was somebody else's: its results carry none of our keys."""


class NotSentYet(Unavailable):
    """The batch tells of more answers than it sends; `retry_after` says when that is final."""


class Replies:
    """Replies by request, on disk; in memory only their offsets: 16 bytes per request of the batch.

    Most rows are good and checked when they come. Those are settled then, and their lines need only a key in the end.

    Args:
        spool: an empty file.
    """

    def __init__(self, landing: Landing, spool: SpooledFile) -> None:
        self._landing = landing
        self._spool = spool
        self._prefix = f"{landing.receipt.tag}-"
        self._indices = array("q")
        self._has_own_schema = bytearray()
        for asked in asked_rows(landing.files):
            self._indices.append(asked.index)
            self._has_own_schema.append(bool(asked.schema))
        self._offsets = array("q", [_NOWHERE]) * len(self._indices)
        self._good = bytearray(len(self._indices))
        self._settled = bytearray(len(self._indices))
        self._waiting = bytearray()
        self._end = 0
        self._is_settled_twice = False
        self.duplicates = 0
        self.strangers = 0

    def add(self, reply: Reply) -> None:
        """Keep a reply unless a better one is known."""
        place = self._place(reply.key)
        if place is None:
            self.strangers += 1
            return
        if self._offsets[place] != _NOWHERE:
            self.duplicates += 1
            if self._good[place] and reply.status != "succeeded":
                return
            self._is_settled_twice |= bool(self._settled[place])
        self._good[place] = reply.status == "succeeded"
        self._keep(place, self._row(place, reply))

    def _row(self, place: int, reply: Reply) -> Row:
        """Return the row of a reply, which has its name later, and is checked later where its schema is its own."""
        schema = None if self._has_own_schema[place] else self._landing.schema
        return self._landing.row(reply, schema, self._indices[place])

    def _keep(self, place: int, row: Row) -> None:
        self._offsets[place] = self._end
        self._settled[place] = row.status == "succeeded" and not self._has_own_schema[place]
        if self._settled[place] and self._landing.settlement is not None:
            self._landing.settlement.add(row)
        line = encode_row(row)
        self._waiting += line
        self._end += len(line)
        if len(self._waiting) >= _BLOCK:
            self._write()

    def _write(self) -> None:
        self._spool.write(self._waiting)
        self._waiting = bytearray()

    def _place(self, key: str) -> int | None:
        digits = key.removeprefix(self._prefix)
        if digits == key or not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            return None
        place = bisect_left(self._indices, int(digits))
        return place if place < len(self._indices) and self._indices[place] == int(digits) else None

    def check_ours(self) -> None:
        """Refuse a tentatively adopted batch of which no key is ours; tell of duplicates and strangers."""
        ours = any(offset != _NOWHERE for offset in self._offsets)
        if self._landing.receipt.tentative and self.strangers and not ours:
            raise ForeignBatch(self._landing.receipt.batch_id)
        if self.duplicates or self.strangers:
            log.warning(
                "Batch %s sent %d answers twice and %d that were never asked; they are ignored.",
                self._landing.receipt.batch_id,
                self.duplicates,
                self.strangers,
            )

    def check_there(self, status: BatchStatus, now: datetime) -> None:
        """Wait a while for answers that a batch counts and does not send: their rows would be asked, and paid, again."""
        told, failed = (status.counts.succeeded, status.counts.failed) if status.counts else (0, 0)
        ours = sum(offset != _NOWHERE for offset in self._offsets)
        # Rows that failed at the provider may be sent first; a refusal, which it counts as an answer, is none of them.
        sent = self.strangers + ours - min(ours - sum(self._good), failed)
        late_at = status.ended_at + RESULTS_LAG if status.ended_at else now
        if sent < told and now < late_at:
            raise NotSentYet(
                f"Batch {status.batch_id} has {told} answers, but has sent only {sent} of them so far.",
                retry_after=(late_at - now).total_seconds(),
            )

    def close(self) -> None:
        """Take no more replies. Where a settled row was replaced by a better one, none is settled any more."""
        self._write()
        if self._is_settled_twice:
            self._settled = bytearray(len(self._settled))
            if self._landing.settlement is not None:
                self._landing.settlement.begin_again()

    def settled_line(self, place: int) -> bytes | None:
        """Return the line of the row at this place if it is settled and lacks only the key, None otherwise."""
        return self._line(place) if self._settled[place] else None

    def at(self, place: int) -> Row | None:
        """Return the row at this place, None if the provider sent nothing for it."""
        return None if self._offsets[place] == _NOWHERE else decode_row(self._line(place))

    def _line(self, place: int) -> bytes:
        return self._spool.line(self._offsets[place])
