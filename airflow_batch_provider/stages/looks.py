"""What the triggerer sees of a built-in stage's batches, and shows to the people who wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import NotFound

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.stages.config import BatchConfig
    from airflow_batch_provider.stages.context import CheckCompletionContext
    from airflow_batch_provider.stages.values import SuspendedState


async def look(batch_ids: list[str], ctx: CheckCompletionContext[BatchConfig]) -> list[BatchStatus]:
    """The status of every batch that the provider shows."""
    looks = await asyncio.gather(
        *(ctx.hub.status(ctx.config.connection, batch_id) for batch_id in batch_ids), return_exceptions=True
    )
    statuses: list[BatchStatus] = []
    for look in looks:
        if isinstance(look, NotFound):
            continue
        if isinstance(look, BaseException):
            raise look
        statuses.append(look)
    return statuses


def newest_at(state: SuspendedState) -> datetime:
    """When the last of the batches was bought."""
    told = state.metadata.get("newest_at")
    return datetime.fromisoformat(told) if told else state.submitted_at


async def show(statuses: list[BatchStatus], state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]) -> None:
    """Publish a record for the UI and a sentence for the log."""
    counts = [status.counts for status in statuses if status.counts]
    total, succeeded, failed = (
        sum(getattr(count, name) for count in counts) for name in ("total", "succeeded", "failed")
    )
    words = Counter(status.status for status in statuses)
    queued = state.metadata["queued"]
    said = [f"{number} {word}" for word, number in sorted(words.items())] + ([f"{queued} queued"] if queued else [])
    await ctx.publish(
        {
            "message": f"batches: {', '.join(said) or 'none'}; requests: {succeeded + failed} of {total} done, {failed} failed",
            "batches": dict(words),
            "total": total,
            "succeeded": succeeded,
            "failed": failed,
            "queued_batches": queued,
            "submitted_at": state.submitted_at.isoformat(),
        }
    )
