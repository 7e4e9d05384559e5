"""The base of the two built-in stages: it drives a ledger until every row has its answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Denied, Overdue, RowsFailed, Unavailable, UsageError
from airflow_batch_provider.ledger import (
    LandedRows,
    Ledger,
    LedgerContext,
    Outcome,
    Policy,
    RetryBudget,
    Waiting,
    landed_so_far,
)
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.pricing import price_book
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.stages.base import AsyncBatchStage
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.estimate import Estimate
from airflow_batch_provider.stages.polling import with_remedy
from airflow_batch_provider.stages.progress import one_line
from airflow_batch_provider.stages.report import ProgressReport, poll_statuses
from airflow_batch_provider.stages.rows import check_writable, rows_of, target_of
from airflow_batch_provider.stages.summary import block, number_of
from airflow_batch_provider.stages.values import CompletionCheck, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.timing import SETTLE, WAKE_AFTER

if TYPE_CHECKING:
    from airflow_batch_provider.ledger import Plan
    from airflow_batch_provider.models import BatchStatus, ConnectionRef, Cost
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.stages.context import CheckCompletionContext, Level, StageContext

log = logging.getLogger(__name__)

_PLACES = "Set storage_path to a shared disk, S3, Google Cloud Storage or Azure."


@dataclass(slots=True)
class _Wait:
    """What one poll of a wait leaves to the next, so that one which finds nothing new costs next to nothing.

    Attributes:
        shown: what the newest record tells of the batches; None before the first.
    """

    state: SuspendedState
    waiting: Waiting
    shown: list[BatchStatus] | None = None


class BatchStage(AsyncBatchStage[BatchConfig, Manifest]):
    """Asks every row, waits, asks again what has no good answer, and returns the manifest."""

    config_schema = BatchConfig
    output_schema = Manifest
    _wait: _Wait | None = None

    async def execute(self, ctx: StageContext[BatchConfig]) -> Manifest | Suspended:
        """Plan at the start; then land, submit and open waves until there is nothing left to ask."""
        provider = await ctx.hub.provider(ctx.config.connection)
        while True:
            ledger, report = _ledger(ctx, provider), ProgressReport(self.id, ctx, provider.account)
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
        if (estimate := await self._open(ctx, ledger, provider)) is not None:
            return estimate
        if (done := ledger.finished()) and ctx.config.criteria.are_met(done):
            await ctx.log("INFO", "Everything was answered by an earlier attempt; nothing is bought.")
            await report.ended(done, _landed(ledger), "succeeded", None)
            return done
        await report.submitting(_landed(ledger))
        ledger.renew_clock(ctx.config.poll.max_wait)
        return None

    async def _advance(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport
    ) -> Suspended | None:
        """Land, submit and open waves, and tell people; None when there is nothing left to ask."""
        before = _landed(ledger)
        waiting = await ledger.advance()
        landed = _landed(ledger)
        if landed and landed.wave > (before.wave if before else 0):
            why = f" Reasons:\n{landed.asked_again}" if landed.asked_again.reasons else ""
            await ctx.log("INFO", f"Wave {landed.wave} asks {number_of(landed.asked, 'row', 'rows')} again.{why}")
        if waiting is None:
            return None
        await report.waiting(waiting, landed, (), ledger.receipts(unlanded=True))
        return _suspended(waiting, ctx.config, landed.batch_ids if landed else ())

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
            await (await self._report(ctx)).stopped(error, await _kept(ctx), waiting)
            raise
        if statuses != wait.shown:
            await (await self._report(ctx)).waiting(waiting, await _kept(ctx), statuses)
            wait.shown = statuses
        ended = sum(status.ended for status in statuses) + await _gone(waiting, len(statuses), ctx)
        return CompletionCheck.ready() if waiting.wakes(ended, ctx.now()) else CompletionCheck.not_ready()

    def _wait_in(self, state: SuspendedState) -> _Wait:
        """Return what earlier polls of this wait have kept."""
        if self._wait is None or self._wait.state is not state:
            self._wait = _Wait(state, _waiting(state))
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
        waiting, budget = _waiting(state), RetryBudget(provider.name, ctx.clock)
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
        ledger, report = _ledger(ctx, provider), ProgressReport(self.id, ctx, provider.account)
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

    def check_request_kind(self, provider: BatchProvider, config: BatchConfig) -> None:
        """Refuse a connection of another provider than the model names, and a spec the provider cannot take."""
        if config.provider not in (None, provider.name):
            raise UsageError(
                f"Model {config.model!r} belongs to {config.provider}, but connection {str(config.connection)!r} is of "
                f"{provider.name}. Change model or conn_id."
            )
        provider.check_spec(config.spec)
        if config.output_type is not None:
            AnswerSchema(config.output_type.schema)

    async def _open(self, ctx: StageContext[BatchConfig], ledger: Ledger, provider: BatchProvider) -> Manifest | None:
        """Go on with the plan of these requests, or draft, price and commit one; return the estimate of a dry run."""
        self.check_request_kind(provider, ctx.config)
        check_writable(ledger.root)
        # Custom prices that cannot be read are refused here, not after the rows were paid.
        price_book(provider.account)
        target = target_of(ctx)
        check_writable(target.directory)
        if target.format == "parquet" and find_spec("pyarrow") is None:
            raise UsageError(
                "result_format='parquet' needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
            )
        requests = rows_of(ctx)
        while True:
            plan = ledger.current_plan(requests)
            if plan is not None:
                return (await self._priced(ctx, ledger, plan, "Going on with"))[0]
            with ledger.draft(requests) as draft:
                ctx.config.criteria.check_possible(draft.plan)
                estimate, cost = await self._priced(ctx, ledger, draft.plan, "Planned")
                if estimate is not None:
                    return estimate
                if draft.commit():
                    _landed(ledger, cost)
                    return None

    async def _priced(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, plan: Plan, said: str
    ) -> tuple[Manifest | None, Cost]:
        """Refuse a plan that is too dear; return the estimate of a dry run, None when the plan may be bought."""
        estimate, config = Estimate(plan, ledger.forecast(plan)), ctx.config
        await ctx.log("INFO", f"{'Dry run, nothing is bought' if config.dry_run else said}: {estimate}")
        if config.dry_run:
            return estimate.manifest(self.id, config.result_format), estimate.expected.cost
        estimate.check(config.max_cost_usd)
        return None, estimate.expected.cost

    async def _show_unreadable(
        self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport, error: RowsFailed
    ) -> None:
        """Write the rows of answers that could not be read; what the provider keeps of them stays, to be read again."""
        manifest = ledger.write_results(self.id, target_of(ctx)).manifest
        ledger.files.write_unmet(manifest)
        ledger.stop_clock()
        await ctx.log("WARN", block(manifest, 0))
        await report.ended(manifest, _landed(ledger), "unmet", one_line(error))

    async def _finish(self, ctx: StageContext[BatchConfig], ledger: Ledger, report: ProgressReport) -> Manifest:
        outcome = await self._sum_up(ctx, ledger, may_succeed=True)
        await self._check(ctx, outcome, ledger, report)
        await ctx.log("INFO", f"Done: {_summary(outcome.manifest)}")
        return outcome.manifest

    async def _check(
        self, ctx: StageContext[BatchConfig], outcome: Outcome, ledger: Ledger, report: ProgressReport
    ) -> None:
        """Show what the attempt came to, and fail it when too few rows have a good answer."""
        landed = _landed(ledger)
        try:
            ctx.config.criteria.check(outcome)
        except RowsFailed as error:
            await report.ended(outcome.manifest, landed, "unmet", one_line(error))
            raise
        await report.ended(outcome.manifest, landed, "succeeded", None)

    async def _sum_up(self, ctx: StageContext[BatchConfig], ledger: Ledger, *, may_succeed: bool) -> Outcome:
        """Write results and manifest, which says whether the task is done, and leave no files of them at the provider."""
        outcome = ledger.write_results(self.id, target_of(ctx))
        manifest = outcome.manifest
        landed = _landed(ledger)
        level: Level = "WARN" if manifest.errors.reasons else "INFO"
        await ctx.log(level, block(manifest, landed.cut_off if landed else 0))
        # A worker that dies while it cleans up is succeeded by one that has nothing left to buy.
        if may_succeed and ctx.config.criteria.are_met(manifest):
            ledger.files.write_manifest(manifest)
        else:
            ledger.files.write_unmet(manifest)
        await ledger.clean_up()
        return outcome


def _ledger(ctx: StageContext[BatchConfig], provider: BatchProvider) -> Ledger:
    config = ctx.config
    policy = Policy(
        retry_rows=config.retry_rows,
        in_flight=config.max_in_flight,
        enqueued_tokens=config.max_enqueued_tokens,
        retry_truncated=config.retry_truncated,
        clean_up=config.clean_up,
        leave_running=config.on_timeout == "leave",
        skip_bad_rows=config.on_bad_row == "skip",
        may_be_empty=config.on_empty == "skip",
    )
    return Ledger(
        LedgerContext(
            root=ctx.storage.directory,
            provider=provider,
            spec=config.spec,
            output_type=config.output_type,
            policy=policy,
            clock=ctx.clock,
            label=str(ctx.key),
            attempt=ctx.key.try_number,
            connection=config.connection,
            registry=ctx.registry,
            new_id=ctx.new_id,
        )
    )


async def _stopped(
    error: BatchError, ledger: Ledger, report: ProgressReport, results: Manifest | None = None
) -> BatchError:
    """Show what stopped a worker; return the error to raise, which says so when something runs on at the provider."""
    if isinstance(error, Denied) and ledger.receipts(unlanded=True):
        error = Denied(with_remedy(error), code=error.code, http_status=error.http_status)
    await report.stopped(error, _landed(ledger), results=results)
    return error


async def _cancel(batch_id: str, provider: BatchProvider, budget: RetryBudget) -> None:
    while True:
        try:
            return await provider.cancel(batch_id)
        except Unavailable as error:
            await budget.wait(error)


def _landed(ledger: Ledger, estimate: Cost | None = None) -> LandedRows | None:
    """Return how far the task is, for people; None where that cannot be read, which stops nothing."""
    try:
        return ledger.landed(estimate)
    except Exception:  # the errors of object stores have no common class
        log.debug("The landed rows of %s cannot be counted", ledger.root, exc_info=True)
        return None


async def _kept(ctx: CheckCompletionContext[BatchConfig]) -> LandedRows | None:
    """Return how far the task was when the worker suspended it, None where that cannot be read."""
    try:
        return await asyncio.to_thread(landed_so_far, ctx.storage.directory)
    except Exception:  # the errors of object stores have no common class
        log.debug("The landed rows of %s cannot be read", ctx.key, exc_info=True)
        return None


async def _gone(waiting: Waiting, shown: int, ctx: CheckCompletionContext[BatchConfig]) -> int:
    """Return how many of the batches the provider does not show and never will."""
    hidden = len(waiting.batch_ids) - shown
    if not hidden:
        return 0
    provider = await ctx.hub.provider(ctx.config.connection)
    is_young = (provider.now() or ctx.now()) - (waiting.newest_at or waiting.started_at) < WAKE_AFTER
    return 0 if is_young else hidden


def _suspended(waiting: Waiting, config: BatchConfig, landed: tuple[str, ...]) -> Suspended:
    state = SuspendedState(
        batch_id=waiting.batch_ids[0] if waiting.batch_ids else "none-yet",
        submitted_at=waiting.started_at,
        metadata=waiting.model_dump(mode="json"),
    )
    return Suspended(state=state, poll=_poll(waiting, config), batch_ids=(*landed, *waiting.batch_ids))


def _waiting(state: SuspendedState) -> Waiting:
    return Waiting.model_validate(state.metadata)


def _poll(waiting: Waiting, config: BatchConfig) -> PollConfig:
    """Return the user's, but back at `resume_at` when that is sooner than the first poll."""
    if waiting.resume_at is None:
        return config.poll
    soon = max(timedelta(0), waiting.resume_at - waiting.seen_at)
    return config.poll.model_copy(update={"first_poll": min(soon, config.poll.first_poll or config.poll.interval)})


def _summary(manifest: Manifest) -> str:
    counts = ", ".join(f"{number} {word}" for word, number in manifest.counts.items() if number)
    return f"{counts}. Results: {manifest.results}"


def _deadline(ctx: StageContext[BatchConfig]) -> str:
    assert ctx.resume_state is not None  # only a suspended stage can be overdue
    elapsed = (ctx.now() - ctx.resume_state.submitted_at).total_seconds()
    return f"Batch timeout after {elapsed:.0f} s (max_wait={ctx.config.poll.max_wait})."
