"""From a provider's results, in any order, to one row per request in the order asked; idempotent."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.exceptions import NotFound, Unresolved
from airflow_batch_provider.ledger.asked import asked_rows
from airflow_batch_provider.ledger.replies import Replies
from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.models import Reply, RowError
from airflow_batch_provider.rows import Row, encode_row
from airflow_batch_provider.schemas import answer_schema, as_raw, parsed
from airflow_batch_provider.scratch import SpooledFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.records import Receipt
    from airflow_batch_provider.ledger.settlement import Settlement
    from airflow_batch_provider.models import BatchStatus, Spec
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.schemas import AnswerSchema

log = logging.getLogger(__name__)

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
        row = row_of(reply, schema, index=index, wave=self.wave, batch_id=self.receipt.batch_id or None)
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
    with SpooledFile(_IN_MEMORY) as spool:
        replies = await asyncio.to_thread(Replies, landing, spool)
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
        return await asyncio.to_thread(_write_rows, landing, replies, absence(status))


def land_in_realtime(landing: Landing, found: Iterable[Reply], absent: Reply) -> Counter[str]:
    """Write the rows of a chunk that was asked by single calls; return row status → number of rows.

    Args:
        landing: its receipt has no batch.
        absent: stands for what was not answered.
    """
    with SpooledFile(_IN_MEMORY) as spool:
        replies = Replies(landing, spool)
        for reply in found:
            replies.add(reply)
        return _write_rows(landing, replies, absent)


def _write_rows(landing: Landing, replies: Replies, absence: Reply) -> Counter[str]:
    counts: Counter[str] = Counter()
    if landing.files.has_landed():
        log.warning("Another worker has just landed batch %s: its rows stay.", landing.receipt.batch_id)
        return counts
    absent, settlement = landing.row(absence, None), landing.settlement
    replies.close()
    with landing.files.directory.writer(landing.files.rows_name) as file:
        for place, asked in enumerate(asked_rows(landing.files)):
            if line := replies.settled_line(place):
                counts["succeeded"] += 1
                file.write(asked.named(line))
                continue
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
