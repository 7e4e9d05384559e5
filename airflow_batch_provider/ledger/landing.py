"""From a provider's results, in any order, to one row per request in the order asked; idempotent."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import msgspec

from airflow_batch_provider.exceptions import NotFound, Unavailable, Unresolved
from airflow_batch_provider.ledger.records import encoded
from airflow_batch_provider.models import BatchRow, Reply, RowError
from airflow_batch_provider.schemas import Misfit, answer_schema
from airflow_batch_provider.timing import RESULTS_LAG

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.records import PlannedRow, Receipt
    from airflow_batch_provider.models import BatchStatus, Spec
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

_NOWHERE = -1
# Replies up to so many bytes take no file: a client lands small batches in the triggerer, whose loop must not wait.
_IN_MEMORY = 4 << 20


@dataclass(frozen=True)
class Landing:
    """One ended batch and where its rows go.

    Attributes:
        files: of the batch; they get the rows.
        retry_truncated: an answer that was cut off at its `max_tokens` counts as failed and may be asked again.
    """

    files: BatchFiles
    wave: int
    receipt: Receipt
    spec: Spec
    retry_truncated: bool = False


class ForeignBatch(Exception):
    """A tentatively adopted batch was somebody else's: its results carry none of our keys."""


class NotSentYet(Unavailable):
    """The batch tells of more answers than it sends; `retry_after` says when that is final."""


async def land(landing: Landing, provider: BatchProvider, status: BatchStatus, now: datetime) -> Counter[str]:
    """Write one row per request of the batch; return row status → number of rows.

    Good answers win over others for the same key, later ones over earlier ones; duplicates and keys that were never
    asked are counted and logged. A request without any result becomes a row that says why.

    Raises:
        ForeignBatch: the receipt is tentative and no key of the results is ours.
        Unavailable: the results broke off; nothing was written, landing starts again.
        NotSentYet: some are not there yet; the same.
        Unresolved: the provider has removed the results.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="batch-") as spool:
        replies = await asyncio.to_thread(_Replies, landing, spool)
        try:
            async for reply in provider.results(landing.receipt.batch_id, landing.spec.kind):
                replies.add(reply)
        except NotFound as error:
            if landing.files.has_landed():  # another worker landed them meanwhile, and cleaned up
                return Counter()
            raise Unresolved(
                f"The results of batch {landing.receipt.batch_id!r} are gone from {provider.name}: {error} They were "
                f"paid and cannot be landed. To buy these rows again delete {landing.files.receipt_uri} and "
                f"{landing.files.claim_pattern}, then clear the task."
            ) from error
        replies.check_ours()
        replies.check_there(status, now)
        return await asyncio.to_thread(_write_rows, landing, replies, status)


class _Replies:
    """Replies by request, on disk; in memory only their offsets: 16 bytes per request of the batch."""

    def __init__(self, landing: Landing, spool: IO[bytes]) -> None:
        self._landing = landing
        self._spool = spool
        self._prefix = f"{landing.receipt.tag}-"
        decoder = msgspec.json.Decoder(_Index)
        lines = landing.files.request_lines()
        self._indices = array("q", (decoder.decode(line).index for line in lines))
        self._offsets = array("q", [_NOWHERE]) * len(self._indices)
        self._good = bytearray(len(self._indices))
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
        self._offsets[place] = self._spool.seek(0, 2)
        self._good[place] = reply.status == "succeeded"
        self._spool.write(reply.model_dump_json().encode() + b"\n")

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
                f"Batch {status.batch_id} has {told} answers, but sends only {sent} yet.",
                retry_after=(late_at - now).total_seconds(),
            )

    def at(self, place: int) -> Reply | None:
        """Return the reply to the request at this place, None if there is none."""
        if self._offsets[place] == _NOWHERE:
            return None
        self._spool.seek(self._offsets[place])
        return Reply.model_validate_json(self._spool.readline())


class _Index(msgspec.Struct):
    index: int


def _write_rows(landing: Landing, replies: _Replies, status: BatchStatus) -> Counter[str]:
    counts: Counter[str] = Counter()
    if landing.files.has_landed():
        log.warning("Another worker has just landed batch %s: its rows stay.", landing.receipt.batch_id)
        return counts
    absent = absence(status)
    default = encoded(landing.spec.output_schema)
    with landing.files.directory.writer(landing.files.rows_name) as file:
        for place, planned in enumerate(landing.files.planned_rows()):
            reply = checked(replies.at(place) or absent, planned.schema or default)
            row = _row(landing, planned, _whole(reply) if landing.retry_truncated else reply)
            counts[row.status] += 1
            file.write(row.model_dump_json().encode() + b"\n")
    return counts


def _row(landing: Landing, planned: PlannedRow, reply: Reply) -> BatchRow:
    return BatchRow(
        custom_id=planned.custom_id,
        index=planned.index,
        wave=landing.wave,
        batch_id=landing.receipt.batch_id,
        **{name: getattr(reply, name) for name in Reply.model_fields if name != "key"},
    )


def absence(status: BatchStatus) -> Reply:
    """Return the fate of a request without any result, by how its batch ended."""
    batch = f"batch {status.batch_id}"
    if status.status == "failed":
        reason = status.error or "the provider gave no reason"
        error = RowError(code="batch_failed", message=f"{batch} failed: {reason}", retryable=status.retryable)
        return Reply(key="", status="failed", error=error)
    if status.status in ("expired", "cancelled"):
        error = RowError(code=f"batch_{status.status}", message=f"{batch} ended before this row ran", retryable=True)
        return Reply(key="", status=status.status, error=error)
    error = RowError(code="missing", message=f"{batch} ended without a result for this row", retryable=True)
    return Reply(key="", status="missing", error=error)


def _whole(reply: Reply) -> Reply:
    """Return the reply, as `failed` with the text so far when it was cut off."""
    if reply.status != "succeeded" or reply.finish_reason != "max_tokens":
        return reply
    error = RowError(code="truncated", message="the answer was cut off at its max_tokens", retryable=True)
    return reply.model_copy(update={"status": "failed", "error": error})


def checked(reply: Reply, schema: msgspec.Raw) -> Reply:
    """Return the reply with its answer parsed, or as `invalid` with the raw text and the reason when it does not fit."""
    if reply.status != "succeeded" or not schema or not isinstance(reply.output, str):
        return reply
    match answer_schema(bytes(schema)).read(reply.output):
        case Misfit(problem=problem):
            error = RowError(code="invalid_output", message=problem, retryable=True)
            return reply.model_copy(update={"status": "invalid", "error": error})
        case value:
            return reply.model_copy(update={"output": value})


def rechecked(row: BatchRow, schema: msgspec.Raw) -> BatchRow:
    """Return the row with its answer held against another schema than the one it landed with."""
    if row.status not in ("succeeded", "invalid"):
        return row
    text = row.output if isinstance(row.output, str) else msgspec.json.encode(row.output).decode()
    reply = checked(Reply(key="", status="succeeded", output=text), schema)
    return row.model_copy(update={"status": reply.status, "output": reply.output, "error": reply.error})
