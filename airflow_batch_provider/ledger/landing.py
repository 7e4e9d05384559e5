"""From a provider's results, in any order, to one row per request in the order asked; idempotent."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.exceptions import NotFound, Unavailable, Unresolved
from airflow_batch_provider.ledger.records import NO_SCHEMA
from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.models import Reply, RowError
from airflow_batch_provider.rows import Row, decode_row, encode_row
from airflow_batch_provider.schemas import answer_schema, as_raw, parsed
from airflow_batch_provider.timing import RESULTS_LAG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.records import Receipt
    from airflow_batch_provider.ledger.settlement import Settlement
    from airflow_batch_provider.models import BatchStatus, Spec
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.schemas import AnswerSchema

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
        schema: of the answers of all rows that have none of their own.
        settlement: told of every row, and closed before the rows are there; None counts nothing.
    """

    files: BatchFiles
    wave: int
    receipt: Receipt
    spec: Spec
    retry_truncated: bool = False
    schema: AnswerSchema | None = None
    settlement: Settlement | None = None

    def row(self, reply: Reply, schema: AnswerSchema | None, index: int = 0) -> Row:
        """Return the row of a reply, without the user's key."""
        row = row_of(reply, schema, index=index, wave=self.wave, batch_id=self.receipt.batch_id)
        is_cut = row.status == "succeeded" and row.finish_reason == "max_tokens"
        is_checked = schema is not None and isinstance(reply.output, str)
        if is_cut and self.retry_truncated and not is_checked:
            return replace(row, status="failed", error=CUT_OFF)
        return row


def row_of(reply: Reply, schema: AnswerSchema | None, **where: Any) -> Row:
    """Return what became of a request; its answer is checked against a schema, if there is one.

    Args:
        where: the fields of the row of which the provider knows nothing.
    """
    row = Row(
        custom_id=where.pop("custom_id", ""),
        status=reply.status,
        error=reply.error,
        usage=reply.usage,
        model=reply.model,
        finish_reason=reply.finish_reason,
        choices=reply.choices or msgspec.UNSET,
        **where,
    )
    if schema is not None and reply.status == "succeeded" and isinstance(reply.output, str):
        return checked(row, reply.output, schema)
    return row if reply.output is None else replace(row, output=as_raw(reply.output))


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
        self._indices = array("q")
        self._has_own_schema = bytearray()
        for asked in _asked(landing.files):
            self._indices.append(asked.index)
            self._has_own_schema.append(bool(asked.schema))
        self._offsets = array("q", [_NOWHERE]) * len(self._indices)
        self._good = bytearray(len(self._indices))
        self._end = 0
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
        self._offsets[place] = self._end
        self._good[place] = reply.status == "succeeded"
        self._end += self._spool.write(encode_row(self._row(place, reply)))

    def _row(self, place: int, reply: Reply) -> Row:
        """Return the row of a reply, which has its name later, and is checked later where its schema is its own."""
        schema = None if self._has_own_schema[place] else self._landing.schema
        return self._landing.row(reply, schema, self._indices[place])

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

    def at(self, place: int) -> Row | None:
        """Return the row at this place, None if the provider sent nothing for it."""
        if self._offsets[place] == _NOWHERE:
            return None
        self._spool.seek(self._offsets[place])
        return decode_row(self._spool.readline())


class _Asked(msgspec.Struct):
    """The part of a planned row that landing needs."""

    index: int
    custom_id: str
    schema: msgspec.Raw = NO_SCHEMA


def _asked(files: BatchFiles) -> Iterator[_Asked]:
    return map(msgspec.json.Decoder(_Asked).decode, files.request_lines())


def _write_rows(landing: Landing, replies: _Replies, status: BatchStatus) -> Counter[str]:
    counts: Counter[str] = Counter()
    if landing.files.has_landed():
        log.warning("Another worker has just landed batch %s: its rows stay.", landing.receipt.batch_id)
        return counts
    absent, settlement = landing.row(absence(status), None), landing.settlement
    with landing.files.directory.writer(landing.files.rows_name) as file:
        for place, asked in enumerate(_asked(landing.files)):
            row = replies.at(place) or absent
            if asked.schema:
                row = rechecked(row, answer_schema(bytes(asked.schema)))
            counts[row.status] += 1
            row = replace(row, custom_id=asked.custom_id, index=asked.index)
            if settlement is not None:
                settlement.add(row)
            file.write(encode_row(row))
        if settlement is not None:
            settlement.close(file.tell())
    return counts


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


def checked(row: Row, text: str, schema: AnswerSchema) -> Row:
    """Return a good row with the answer that its text is, or as `invalid` with the text and why it does not fit."""
    chosen, found = _chosen(text, row.choices or (), schema)
    if not isinstance(found, Misfit):
        return replace(row, status="succeeded", output=as_raw(found), error=None, choices=msgspec.UNSET)
    problem = RowError(code="invalid_output", message=found.problem, retryable=True)
    error = CUT_OFF if row.finish_reason == "max_tokens" else problem
    return replace(row, status="invalid", output=as_raw(chosen), error=error)


def _chosen(text: str, choices: tuple[str, ...], schema: AnswerSchema) -> tuple[str, Any | Misfit]:
    """Return what a schema takes for the answer, and its value: the whole text, or else the first choice that fits.

    Where nothing fits it is what was most likely meant: the whole text if it is JSON, or else the first choice.
    """
    likeliest = text if not choices or not isinstance(parsed(text), Misfit) else choices[0]
    for candidate in (text, *choices):
        found = schema.read(candidate)
        if not isinstance(found, Misfit):
            return candidate, found
    return likeliest, schema.read(likeliest)


def rechecked(row: Row, schema: AnswerSchema) -> Row:
    """Return the row with its answer checked against another schema than the one it landed with."""
    is_cut = row.error is not None and row.error.code == CUT_OFF.code and row.has_output
    if row.status not in ("succeeded", "invalid") and not is_cut:
        return row
    answer = row.value
    if _calls_tools(answer):
        return row
    return checked(row, answer if isinstance(answer, str) else bytes(row.output).decode(), schema)


def _calls_tools(answer: object) -> bool:
    return isinstance(answer, dict) and "tool_calls" in answer


CUT_OFF = RowError(code="truncated", message="the answer was cut off at its max_tokens", retryable=True)
