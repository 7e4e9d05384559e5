"""Shows people how far a built-in stage is: on the worker from its ledger, in the triggerer from what the worker kept."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, NotFound, Overtaken
from airflow_batch_provider.ledger import landed_so_far
from airflow_batch_provider.models import BatchStatus, Manifest, RequestCounts
from airflow_batch_provider.providers.consoles import console_url
from airflow_batch_provider.stages.host import MANIFEST
from airflow_batch_provider.stages.polling import with_remedy
from airflow_batch_provider.stages.progress import (
    LONGEST_TEXT,
    MOST_BATCHES,
    Progress,
    ProgressState,
    ShownBatch,
    ShownBudget,
    ShownCounts,
    one_line,
    shortened,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow_batch_provider.budgets import Budget, BudgetBook
    from airflow_batch_provider.ledger import LandedBatch, LandedRows, Ledger, Receipt, Waiting
    from airflow_batch_provider.models import Account, Cost
    from airflow_batch_provider.stages.config import BatchConfig
    from airflow_batch_provider.stages.context import CheckCompletionContext

log = logging.getLogger(__name__)


def landed_rows(ledger: Ledger, estimate: Cost | None = None) -> LandedRows | None:
    """Return how far the task is, for people; None where that cannot be read, which stops nothing."""
    try:
        return ledger.landed(estimate)
    except Exception:  # the errors of object stores have no common class
        log.debug("The landed rows of %s cannot be counted", ledger.root, exc_info=True)
        return None


async def kept_rows(ctx: CheckCompletionContext[BatchConfig]) -> LandedRows | None:
    """Return how far the task was when the worker suspended it, None where that cannot be read."""
    try:
        return await asyncio.to_thread(landed_so_far, ctx.storage.directory)
    except Exception:  # the errors of object stores have no common class
        log.debug("The landed rows of %s cannot be read", ctx.key, exc_info=True)
        return None


async def poll_statuses(batch_ids: Collection[str], ctx: CheckCompletionContext[BatchConfig]) -> list[BatchStatus]:
    """Return the status of every batch that the provider shows.

    Raises:
        BatchError: the provider refuses, or does not answer.
    """
    statuses: list[BatchStatus] = []
    for found in await ctx.hub.statuses(ctx.config.connection, batch_ids):
        if isinstance(found, NotFound):
            continue
        if isinstance(found, BaseException):
            raise found
        statuses.append(found)
    return statuses


class ProgressReport:
    """Makes the records of one stage: on the worker from the ledger, in the triggerer from what the worker kept.

    Args:
        name: the stage's id.
        account: of the connection, for links to the provider's console.
    """

    def __init__(self, name: str, ctx: CheckCompletionContext[BatchConfig], account: Account) -> None:
        self._ctx = ctx
        self._account = account
        self._blank = Progress(
            stage=name,
            provider=account.provider,
            model=ctx.config.spec.model,
            state="submitting",
            message="Submitting.",
            seen_at=ctx.now(),
        )

    async def submitting(self, landed: LandedRows | None) -> None:
        """Show that the task is at work."""
        await self._publish(self._with_sums(landed))

    async def waiting(
        self,
        waiting: Waiting,
        landed: LandedRows | None,
        statuses: Sequence[BatchStatus],
        receipts: Sequence[Receipt] = (),
    ) -> None:
        """Show what is waited for."""
        shown = self._with_open(waiting, landed, statuses, receipts)
        await self._publish(shown)

    async def ended(
        self, manifest: Manifest, landed: LandedRows | None, state: ProgressState, action: str | None
    ) -> None:
        """Show what the attempt came to."""
        good = manifest.counts.get("succeeded", 0)
        counts = ShownCounts(
            total=manifest.requests, done=manifest.requests, succeeded=good, failed=manifest.requests - good
        )
        words = ", ".join(f"{number} {word}" for word, number in manifest.counts.items() if number)
        shown = self._with_sums(landed).model_copy(
            update={
                "state": state,
                "message": f"Ended: {words} of {manifest.requests} requests.",
                "progress": 100.0,
                "wave": max(manifest.waves - 1, 0),
                "counts": counts,
                "rows": manifest.counts,
                "landed_batches": len(manifest.batches),
                "usage": manifest.usage,
                "cost": manifest.cost,
                "errors": shortened(manifest.errors),
                "results": manifest.results,
                "next_action": action,
            }
        )
        await self._publish(shown)
        if state != "succeeded":
            await self._ctx.publish(manifest.model_dump(mode="json"), MANIFEST)

    async def stopped(
        self,
        error: BatchError,
        landed: LandedRows | None,
        waiting: Waiting | None = None,
        results: Manifest | None = None,
    ) -> None:
        """Show what stopped the attempt; a worker that was overtaken shows nothing, for its successor does."""
        if isinstance(error, Overtaken):
            return
        if results is not None:
            await self.ended(results, landed, state_of(error), one_line(error))
            return
        shown = self._with_open(waiting, landed, ()) if waiting else self._with_sums(landed)
        # While it waits, `StageRun` says in the error itself how to go on.
        update = {
            "state": state_of(error),
            "message": one_line(error)[:LONGEST_TEXT],
            "next_action": one_line(with_remedy(error) if waiting else str(error)),
        }
        await self._publish(shown.model_copy(update=update))

    def _with_sums(self, landed: LandedRows | None) -> Progress:
        if landed is None:
            return self._blank
        counts = landed.counts
        done = counts.succeeded + counts.failed
        return self._blank.model_copy(
            update={
                "message": f"{_said(counts)} at the start of wave {landed.wave}.",
                "progress": _percent(done, counts.total),
                "wave": landed.wave,
                "counts": ShownCounts(done=done, **counts.model_dump()),
                "landed": tuple(self._landed(batch) for batch in landed.latest[-MOST_BATCHES:]),
                "landed_batches": len(landed.batches),
                "usage": landed.usage,
                "cost": landed.cost,
                "estimate": landed.estimate,
                "errors": shortened(landed.errors),
                "asked_again": shortened(landed.asked_again),
            }
        )

    def _with_open(
        self,
        waiting: Waiting,
        landed: LandedRows | None,
        statuses: Sequence[BatchStatus],
        receipts: Sequence[Receipt] = (),
    ) -> Progress:
        known = landed.counts if landed else RequestCounts()
        counts = _with_statuses(known, statuses)
        done = counts.succeeded + counts.failed
        ctx, by_id, bought = self._ctx, {one.batch_id: one for one in statuses}, {one.batch_id: one for one in receipts}
        wave = landed.wave if landed else 0
        batches = tuple(
            self._batch(batch_id, wave, by_id.get(batch_id), bought.get(batch_id))
            for batch_id in waiting.batch_ids[:MOST_BATCHES]
        )
        max_wait = (ctx.poll or ctx.config.poll).max_wait
        fresh = done - (landed.requests - landed.asked if landed else 0)
        return self._with_sums(landed).model_copy(
            update={
                "state": "waiting",
                "message": f"{_said(counts)}; wave {wave}: {_batches(statuses, waiting)}.{_place(waiting)}",
                "progress": _percent(done, counts.total),
                "counts": ShownCounts(done=done, **counts.model_dump()),
                "batches": batches,
                "open_batches": len(waiting.batch_ids),
                "queued_batches": waiting.queued,
                "started_at": waiting.started_at,
                "deadline": waiting.started_at + max_wait,
                "pace": _pace(fresh, counts.total - done, waiting.started_at, ctx.now()),
            }
        )

    def _batch(self, batch_id: str, wave: int, status: BatchStatus | None, receipt: Receipt | None) -> ShownBatch:
        counts = status.counts if status else None
        return ShownBatch(
            batch_id=batch_id,
            wave=wave,
            succeeded=counts.succeeded if counts else None,
            failed=counts.failed if counts else None,
            state=status.status if status else None,
            requests=receipt.requests if receipt else (counts.total if counts else None) or None,
            submitted_at=receipt.submitted_at if receipt else status.created_at if status else None,
            url=console_url(self._account, batch_id),
        )

    def _landed(self, batch: LandedBatch) -> ShownBatch:
        return ShownBatch(
            batch_id=batch.batch_id,
            wave=batch.wave,
            requests=batch.requests,
            succeeded=batch.succeeded,
            failed=batch.requests - batch.succeeded,
            submitted_at=batch.submitted_at,
            url=console_url(self._account, batch.batch_id),
        )

    async def _publish(self, progress: Progress) -> None:
        registry, connection = self._ctx.registry, str(self._ctx.config.connection)
        budgets = registry.budgets.that_limit(connection, self._ctx.now()) if registry else ()
        if registry and budgets:  # most have none, and need no thread to find that out
            shown = await asyncio.to_thread(_shown_budgets, registry.budgets, budgets)
            progress = progress.model_copy(update={"budgets": shown})
        await self._ctx.publish(progress.record())


def _shown_budgets(book: BudgetBook, budgets: tuple[Budget, ...]) -> tuple[ShownBudget, ...]:
    """Return how much of these budgets is spent; none where they cannot be read, which stops nothing."""
    try:
        uses = [(budget, book.use(budget)) for budget in budgets]
    except Exception:  # the errors of object stores have no common class
        log.debug("%s cannot be read", ", ".join(map(str, budgets)), exc_info=True)
        return ()
    return tuple(
        ShownBudget(
            name=budget.name,
            limit_usd=float(budget.limit),
            spent_usd=float(use.all_spent),
            reserved_usd=float(use.all_reserved),
        )
        for budget, use in uses
    )


def _with_statuses(known: RequestCounts, statuses: Sequence[BatchStatus]) -> RequestCounts:
    """Return the counts of the whole task: what has landed, and what open batches tell."""
    told = [status.counts for status in statuses if status.counts]
    succeeded = known.succeeded + sum(count.succeeded for count in told)
    failed = known.failed + sum(count.failed for count in told)
    total = known.total or sum(count.total for count in told)
    succeeded = min(succeeded, total)
    return RequestCounts(total=total, succeeded=succeeded, failed=min(failed, total - succeeded))


def _said(counts: RequestCounts) -> str:
    failed = f", {counts.failed} failed" if counts.failed else ""
    return f"{counts.succeeded + counts.failed} of {counts.total} requests are done{failed}"


def _batches(statuses: Sequence[BatchStatus], waiting: Waiting) -> str:
    words = Counter[str](status.status for status in statuses)
    unseen = len(waiting.batch_ids) - len(statuses)
    if unseen:
        words["submitted" if not statuses else "not visible yet"] += unseen
    if waiting.queued:
        words["queued"] += waiting.queued
    return "batches " + (", ".join(f"{number} {word}" for word, number in sorted(words.items())) or "none")


def _place(waiting: Waiting) -> str:
    return f" {waiting.place}" if waiting.place else ""


def _pace(fresh: int, left: int, started_at: datetime, now: datetime) -> str | None:
    """Say how fast this attempt goes and when it may end; None before anything is done."""
    hours = (now - started_at) / timedelta(hours=1)
    if fresh <= 0 or hours <= 0:
        return None
    per_hour = fresh / hours
    pace = f"{per_hour:,.0f} requests an hour"
    if not left:
        return f"{pace}."
    end = now + timedelta(hours=min(left / per_hour, 24 * 365))
    return f"{pace}, so the end may be at {end:%F %H:%M} UTC."


def _percent(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0
