"""The base of the two built-in stages: it drives a ledger until every row has its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Denied, Overdue, RowsFailed, Unavailable
from airflow_batch_provider.ledger import (
    RetryBudget,
)
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.stages.base import AsyncBatchStage
from airflow_batch_provider.stages.batch_wait import Wait, count_gone, leave_place, place_is_free, suspended, waiting_of
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.opening import ledger_of, open_plan
from airflow_batch_provider.stages.polling import with_remedy
from airflow_batch_provider.stages.progress import one_line
from airflow_batch_provider.stages.report import ProgressReport, kept_rows, landed_rows, poll_statuses
from airflow_batch_provider.stages.rows import target_of
from airflow_batch_provider.stages.summary import block, number_of
from airflow_batch_provider.stages.values import CompletionCheck
from airflow_batch_provider.timing import PLACE_PAUSE, SETTLE

if TYPE_CHECKING:
    from airflow_batch_provider.ledger import Ledger, Outcome
    from airflow_batch_provider.models import ConnectionRef
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.stages.context import CheckCompletionContext, Level, StageContext
    from airflow_batch_provider.stages.values import Suspended, SuspendedState

_PLACES = "Set storage_path to a shared disk, S3, Google Cloud Storage or Azure."


class BatchStage(AsyncBatchStage[BatchConfig, Manifest]):
    """Asks every row, waits, asks again what has no good answer, and returns the manifest."""

    config_schema = BatchConfig
    output_schema = Manifest
    _wait: Wait | None = None

    async def execute(self, ctx: StageContext[BatchConfig]) -> Manifest | Suspended:
        """Plan at the start; then land, submit and open waves until there is nothing left to ask."""
        provider = await ctx.hub.provider(ctx.config.connection)
        while True:
            ledger, report = ledger_of(ctx, provider), ProgressReport(self.id, ctx, provider.account)
            try:
                if ctx.resume_state is None and (done := await self._start(ctx, ledger, provider, report)) is not None:
                    return done
                waiting = await self._advance(ctx, ledger, report)
            except Denied as error:
                fresh = await ctx.hub.renewed(ctx.config.connection, provider)
                if fresh is None:
                    raise await _stopped(error, ledger, report) from None
                provider = fresh
            except RowsFailed as error:
                await self._show_unreadable(ctx, ledger, report, error)
                raise
            except BatchError as error:
                raise await _stopped(error, ledger, report) from None
            else:
                return waiting or await self._finish(ctx, ledger, report)

    async def _start(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, provider: BatchProvider, report: ProgressReport
    ) -> Manifest | None:
        """Plan; return the manifest of a task that has nothing to buy."""
        if not ledger.root.is_exclusive:
            await ctx.log("WARN", f"{ledger.root} cannot keep two workers on one task from buying twice. {_PLACES}")
        if (estimate := await open_plan(ctx, ledger, provider)) is not None:
            return estimate
        # What was withheld may be bought by now: a limit that is as it was withholds it again.
        if (done := ledger.finished()) and ctx.config.criteria.are_met(done) and done.withheld is None:
            await ctx.log("INFO", "Everything was answered by an earlier attempt; nothing is bought.")
            if not ledger.is_written(done, target_of(ctx)):
                return await self._finish(ctx, ledger, report)
            await report.ended(done, landed_rows(ledger), "succeeded", None)
            return done
        await report.submitting(landed_rows(ledger))
        ledger.renew_clock(ctx.config.poll.max_wait)
        return None

    async def _advance(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport
    ) -> Suspended | None:
        """Land, submit and open waves, and tell people; None when there is nothing left to ask."""
        before = landed_rows(ledger)
        waiting = await ledger.advance()
        landed = landed_rows(ledger)
        if landed and landed.wave > (before.wave if before else 0):
            why = f" Reasons:\n{landed.asked_again}" if landed.asked_again.reasons else ""
            await ctx.log("INFO", f"Wave {landed.wave} asks {number_of(landed.asked, 'row', 'rows')} again.{why}")
        if waiting is None:
            return None
        if waiting.place is not None:
            await ctx.log("INFO", str(waiting.place))
        await report.waiting(waiting, landed, (), ledger.receipts(unlanded=True))
        return suspended(waiting, ctx.config, ledger.provider, landed.batch_ids if landed else ())

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]
    ) -> CompletionCheck[Manifest]:
        """Ready when a batch has ended whose place is wanted, when all have, or when a refused submit is due again."""
        wait = self._wait_in(state)
        waiting = wait.waiting
        try:
            statuses = await poll_statuses(waiting.batch_ids, ctx)
        except Unavailable:
            raise
        except BatchError as error:
            await (await self._report(ctx)).stopped(error, await kept_rows(ctx), waiting)
            raise
        if statuses != wait.shown:
            await (await self._report(ctx)).waiting(waiting, await kept_rows(ctx), statuses)
            wait.shown = statuses
        ended = sum(status.ended for status in statuses) + await count_gone(waiting, len(statuses), ctx)
        if waiting.wakes(ended, ctx.now()) or await place_is_free(waiting, ctx):
            return CompletionCheck.ready()
        soon = None if waiting.place is None else min(PLACE_PAUSE, ctx.config.poll.interval)
        return CompletionCheck.not_ready(next_check_in=soon)

    def _wait_in(self, state: SuspendedState) -> Wait:
        """Return what earlier polls of this wait have kept."""
        if self._wait is None or self._wait.state is not state:
            self._wait = Wait.of(state)
        return self._wait

    async def _report(self, ctx: CheckCompletionContext[BatchConfig]) -> ProgressReport:
        provider = await ctx.hub.provider(ctx.config.connection)
        return ProgressReport(self.id, ctx, provider.account)

    def polled_connection(self, config: BatchConfig) -> ConnectionRef:
        """Return the task's connection."""
        return config.connection

    async def cancel(self, state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]) -> tuple[str, ...]:
        """Ask the provider to stop every batch that surely is ours; what finished can be landed later.

        Raises:
            BatchError: one of them could not be cancelled; the log names each.
        """
        provider = await ctx.hub.provider(ctx.config.connection)
        waiting, budget = waiting_of(state), RetryBudget(provider.name, ctx.clock)
        await leave_place(waiting, ctx)
        failed: BatchError | None = None
        cancelled: list[str] = []
        for batch_id in waiting.batch_ids:
            if batch_id in waiting.tentative:
                continue
            try:
                await _cancel(batch_id, provider, budget)
                cancelled.append(batch_id)
            except BatchError as error:
                failed = error
                await ctx.log("WARN", f"Batch {batch_id!r} was not cancelled: {error} Do it at the provider.")
        if failed:
            raise failed
        return tuple(cancelled)

    async def overdue(self, ctx: StageContext[BatchConfig]) -> Manifest:
        """Cancel, wait for the provider to settle, land what finished; then `on_timeout` decides."""
        provider = await ctx.hub.provider(ctx.config.connection)
        ledger, report = ledger_of(ctx, provider), ProgressReport(self.id, ctx, provider.account)
        if ctx.resume_state is not None:
            await leave_place(waiting_of(ctx.resume_state), ctx)
        try:
            return await self._give_up(ctx, ledger, report)
        except RowsFailed:
            raise
        except BatchError as error:
            unmet = ledger.files.unmet() if isinstance(error, Overdue) and ctx.config.on_timeout != "leave" else None
            raise await _stopped(error, ledger, report, results=unmet) from None

    async def _give_up(self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport) -> Manifest:
        if ctx.config.on_timeout == "leave":
            ledger.stop_clock()
            raise Overdue(f"{_deadline(ctx)} Its batches go on running; the next attempt lands them.")
        await ledger.cancel(SETTLE)
        settled = await ledger.settle(SETTLE)
        salvages = ctx.config.on_timeout == "salvage"
        outcome = await self._sum_up(ctx, ledger, may_succeed=salvages)
        unsettled = "" if settled else f" The provider did not settle within {SETTLE}; the next attempt lands the rest."
        if salvages:
            await self._check(ctx, outcome, ledger, report)
            await ctx.log("WARN", f"{_deadline(ctx)} {_summary(outcome.manifest)}{unsettled}")
            return outcome.manifest
        manifest = outcome.manifest
        raise Overdue(
            f"{_deadline(ctx)} {manifest.counts['succeeded']} of {manifest.requests} rows have an answer, in "
            f"{manifest.results}; a retry buys only the rest.{unsettled}"
        )

    async def _show_unreadable(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport, error: RowsFailed
    ) -> None:
        """Write the rows of answers that could not be read; what the provider keeps of them stays, to be read again."""
        outcome = await self._write(ctx, ledger)
        ledger.files.write_unmet(outcome.manifest)
        ledger.stop_clock()
        await report.ended(outcome.manifest, landed_rows(ledger), "unmet", one_line(error))

    async def _finish(self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport) -> Manifest:
        outcome = await self._sum_up(ctx, ledger, may_succeed=True)
        await self._check(ctx, outcome, ledger, report)
        await ctx.log("INFO", f"Done: {_summary(outcome.manifest)}")
        return outcome.manifest

    async def _check(
        self, ctx: StageContext[BatchConfig], outcome: Outcome, ledger: Ledger, report: ProgressReport
    ) -> None:
        """Show what the attempt came to, and fail it when too few rows have a good answer."""
        landed = landed_rows(ledger)
        try:
            ctx.config.criteria.check(outcome)
        except RowsFailed as error:
            await report.ended(outcome.manifest, landed, "unmet", one_line(error))
            raise
        await report.ended(outcome.manifest, landed, "succeeded", outcome.manifest.withheld)

    async def _sum_up(self, ctx: StageContext[BatchConfig], ledger: Ledger, *, may_succeed: bool) -> Outcome:
        """Write results and manifest, which says whether the task is done, and leave no files of them at the provider."""
        outcome = await self._write(ctx, ledger)
        manifest = outcome.manifest
        # A worker that dies while it cleans up is succeeded by one that has nothing left to buy.
        if may_succeed and ctx.config.criteria.are_met(manifest):
            ledger.files.write_manifest(manifest)
        else:
            ledger.files.write_unmet(manifest)
        await ledger.clean_up()
        return outcome

    async def _write(self, ctx: StageContext[BatchConfig], ledger: Ledger) -> Outcome:
        """Write the results, and tell people what is in them."""
        outcome = ledger.write_results(self.id, target_of(ctx))
        manifest, landed = outcome.manifest, landed_rows(ledger)
        level: Level = "WARN" if manifest.errors.reasons else "INFO"
        await ctx.log(level, block(manifest, landed.cut_off if landed else 0))
        return outcome


async def _stopped(
    error: BatchError, ledger: Ledger, report: ProgressReport, results: Manifest | None = None
) -> BatchError:
    """Show what stopped a worker; return the error to raise, which says so when something runs on at the provider."""
    if isinstance(error, Denied) and ledger.receipts(unlanded=True):
        error = Denied(with_remedy(error), code=error.code, http_status=error.http_status)
    await report.stopped(error, landed_rows(ledger), results=results)
    return error


async def _cancel(batch_id: str, provider: BatchProvider, budget: RetryBudget) -> None:
    while True:
        try:
            return await provider.cancel(batch_id)
        except Unavailable as error:
            await budget.wait(error)


def _summary(manifest: Manifest) -> str:
    counts = ", ".join(f"{number} {word}" for word, number in manifest.counts.items() if number)
    return f"{counts}. Results: {manifest.results}"


def _deadline(ctx: StageContext[BatchConfig]) -> str:
    assert ctx.resume_state is not None  # only a suspended stage can be overdue
    elapsed = (ctx.now() - ctx.resume_state.submitted_at).total_seconds()
    return f"Batch timeout after {elapsed:.0f} s (max_wait={ctx.config.poll.max_wait})."
