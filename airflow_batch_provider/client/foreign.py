"""Batches that a client's storage does not know: bought elsewhere, or before the storage was removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.landing import absence, row_of
from airflow_batch_provider.models import BatchStatus, RequestCounts
from airflow_batch_provider.rows import public

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_batch_provider.models import BatchRow, Kind, Reply
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.schemas import AnswerSchema

# The keys that a ledger sends: its tag and the index of the row.
_OUR_KEY = re.compile(r"[0-9a-f]{12}-\d+-\d{5}(?:-\d+)?-(\d{1,18})")


async def rows_of_foreign_batch(
    provider: BatchProvider, status: BatchStatus, kind: Kind, custom_ids: Sequence[str], schema: AnswerSchema | None
) -> list[BatchRow]:
    """Return one row for each of these ids, in their order; without ids one for each answer.

    Our own keys hold the place of a row among all that were asked; others are taken for the ids themselves.
    """
    replies: dict[str, Reply] = {}
    async for reply in provider.results(status.batch_id, kind):
        key = _custom_id(reply.key, custom_ids)
        if key not in replies or replies[key].status != "succeeded" or reply.status == "succeeded":
            replies[key] = reply
    absent = absence(status)
    return [
        public(row_of(replies.get(key, absent), schema, custom_id=key, index=index, batch_id=status.batch_id))
        for index, key in enumerate(custom_ids or replies)
    ]


def _custom_id(key: str, custom_ids: Sequence[str]) -> str:
    ours = _OUR_KEY.fullmatch(key)
    if ours is None:
        return key
    index = int(ours[1])
    return custom_ids[index] if index < len(custom_ids) else f"request-{index}"


def combined(batch_id: str, found: Sequence[BatchStatus]) -> BatchStatus:
    """Return one status for several batches: they have ended when all of them have, `completed` when any of them is."""
    if len(found) == 1:
        return found[0]
    words = {status.status for status in found if not status.ended} or {status.status for status in found}
    usual = "completed" if all(status.ended for status in found) else "processing"
    counts = [status.counts for status in found if status.counts]
    return BatchStatus(
        batch_id=batch_id,
        status=usual if usual in words else min(words),
        counts=_sum(counts) if len(counts) == len(found) else None,
        error=next((status.error for status in found if status.error), None),
    )


def _sum(counts: Sequence[RequestCounts]) -> RequestCounts:
    names = RequestCounts.model_fields
    return RequestCounts(**{name: sum(getattr(one, name) for one in counts) for name in names})
