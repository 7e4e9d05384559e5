"""The status of a built-in stage's batches, as the triggerer polls it and shows it to the people who wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.ledger import Waiting
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.stages.config import BatchConfig
    from airflow_batch_provider.stages.context import CheckCompletionContext


async def poll_statuses(batch_ids: Iterable[str], ctx: CheckCompletionContext[BatchConfig]) -> list[BatchStatus]:
    """Return the status of every batch that the provider shows.

    Raises:
        BatchError: the provider refuses, or does not answer.
    """
    polled = await asyncio.gather(
        *(ctx.hub.status(ctx.config.connection, batch_id) for batch_id in batch_ids), return_exceptions=True
    )
    statuses: list[BatchStatus] = []
    for found in polled:
        if isinstance(found, NotFound):
            continue
        if isinstance(found, BaseException):
            raise found
        statuses.append(found)
    return statuses


async def publish_progress(
    statuses: list[BatchStatus], waiting: Waiting, ctx: CheckCompletionContext[BatchConfig]
) -> None:
    """Publish a record for the UI and a sentence for the log."""
    counts = [status.counts for status in statuses if status.counts]
    total, succeeded, failed = (
        sum(getattr(count, name) for count in counts) for name in ("total", "succeeded", "failed")
    )
    words = Counter(status.status for status in statuses)
    queued = waiting.queued
    said = [f"{number} {word}" for word, number in sorted(words.items())] + ([f"{queued} queued"] if queued else [])
    await ctx.publish(
        {
            "message": f"batches: {', '.join(said) or 'none'}; requests: {succeeded + failed} of {total} done, {failed} failed",
            "batches": dict(words),
            "total": total,
            "succeeded": succeeded,
            "failed": failed,
            "queued_batches": queued,
            "submitted_at": waiting.started_at.isoformat(),
        }
    )
