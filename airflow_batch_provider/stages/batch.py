"""The base of the two built-in stages: it drives a ledger until every row has its answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import BatchError, Overdue, Unavailable, UsageError
from airflow_batch_provider.layout import RESULTS
from airflow_batch_provider.ledger import Ledger, LedgerContext, Outcome, Policy, RetryBudget, Target, Waiting
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.sources import requests_of
from airflow_batch_provider.stages.base import AsyncBatchStage
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.estimate import Estimate
from airflow_batch_provider.stages.progress import poll_statuses, publish_progress
from airflow_batch_provider.stages.values import CompletionCheck, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import SETTLE, WAKE_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.ledger import Plan
    from airflow_batch_provider.models import ConnectionRef
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext

# Answers of a storage that takes no file at this place, whenever it is asked; other faults may pass.
_FOR_GOOD = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)

_PLACES = "Set storage_path to a shared disk, S3, Google Cloud Storage or Azure."


@dataclass(frozen=True)
class _FileRows:
    """The rows of a file, read anew each time they are iterated."""

    path: UPath | ProxyUPath
    prompt: str | None
    key: str | None

    def __iter__(self) -> Iterator[Any]:
        return requests_of(self.path, self.prompt, self.key)


class BatchStage(AsyncBatchStage[BatchConfig, Manifest]):
    """Asks every row, waits, asks again what has no good answer, and returns the manifest."""

    config_schema = BatchConfig
    output_schema = Manifest

    async def execute(self, ctx: StageContext[BatchConfig]) -> Manifest | Suspended:
        """Plan at the start; then land, submit and open waves until there is nothing left to ask."""
        provider = await ctx.hub.provider(ctx.config.connection)
        ledger = _ledger(ctx, provider)
        if ctx.resume_state is None:
            if not ledger.root.is_exclusive:
                await ctx.log("WARN", f"{ledger.root} cannot keep two workers on one task from buying twice. {_PLACES}")
            if (estimate := self._open(ctx, ledger, provider)) is not None:
                return estimate
            if (done := ledger.finished()) and ctx.config.criteria.are_met(done):
                await ctx.log("INFO", "Everything was answered by an earlier attempt; nothing is bought.")
                return done
            ledger.renew_clock(ctx.config.poll.max_wait)
        waiting = await ledger.advance()
        if waiting is not None:
            return _suspended(waiting, ctx.config)
        return await self._finish(ctx, ledger)

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]
    ) -> CompletionCheck[Manifest]:
        """Ready when a batch has ended whose place is wanted, when all have, or when a refused submit is due again."""
        waiting = _waiting(state)
        statuses = await poll_statuses(waiting.batch_ids, ctx)
        await publish_progress(statuses, waiting, ctx)
        now = ctx.now()
        is_young = now - (waiting.newest_at or waiting.started_at) < WAKE_AFTER
        gone = 0 if is_young else len(waiting.batch_ids) - len(statuses)
        ended = sum(status.ended for status in statuses) + gone
        return CompletionCheck.ready() if waiting.wakes(ended, now) else CompletionCheck.not_ready()

    def polled_connection(self, config: BatchConfig) -> ConnectionRef:
        """Return the task's connection."""
        return config.connection

    async def cancel(self, state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]) -> None:
        """Ask the provider to stop every batch that surely is ours; what finished can be landed later.

        Raises:
            BatchError: one of them could not be cancelled; the log names each.
        """
        provider = await ctx.hub.provider(ctx.config.connection)
        waiting, budget = _waiting(state), RetryBudget(provider.name, ctx.clock)
        failed: BatchError | None = None
        for batch_id in waiting.batch_ids:
            if batch_id in waiting.tentative:
                continue
            try:
                await _cancel(batch_id, provider, budget)
            except BatchError as error:
                failed = error
                await ctx.log("WARN", f"Batch {batch_id!r} was not cancelled: {error} Do it at the provider.")
        if failed:
            raise failed

    async def overdue(self, ctx: StageContext[BatchConfig]) -> Manifest:
        """Cancel, wait for the provider to settle, land what finished; then `on_timeout` decides."""
        provider = await ctx.hub.provider(ctx.config.connection)
        ledger = _ledger(ctx, provider)
        if ctx.config.on_timeout == "leave":
            ledger.stop_clock()
            raise Overdue(f"{_deadline(ctx)} Its batches go on running; the next attempt lands them.")
        await ledger.cancel(SETTLE)
        settled = await ledger.settle(SETTLE)
        salvages = ctx.config.on_timeout == "salvage"
        outcome = await self._sum_up(ctx, ledger, may_succeed=salvages)
        unsettled = "" if settled else f" The provider did not settle within {SETTLE}; the next attempt lands the rest."
        if salvages:
            ctx.config.criteria.check(outcome)
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
            AnswerSchema(config.output_type)

    def _open(self, ctx: StageContext[BatchConfig], ledger: Ledger, provider: BatchProvider) -> Manifest | None:
        """Go on with the plan of these requests, or draft, price and commit one; return the estimate of a dry run."""
        self.check_request_kind(provider, ctx.config)
        _check_writable(ledger.root)
        _check_writable(_target(ctx).directory)
        requests = _requests(ctx)
        while True:
            plan = ledger.current_plan(requests)
            if plan is not None:
                return self._priced(plan, ctx.config)
            with ledger.draft(requests) as draft:
                estimate = self._priced(draft.plan, ctx.config)
                if estimate is not None or draft.commit():
                    return estimate

    def _priced(self, plan: Plan, config: BatchConfig) -> Manifest | None:
        """Refuse a plan that is too dear; return the estimate of a dry run, None when the plan is to be bought."""
        estimate = Estimate(plan)
        if config.dry_run:
            return estimate.manifest(self.id, config.result_format)
        estimate.check(config.max_cost_usd)
        return None

    async def _finish(self, ctx: StageContext[BatchConfig], ledger: Ledger) -> Manifest:
        outcome = await self._sum_up(ctx, ledger, may_succeed=True)
        ctx.config.criteria.check(outcome)
        await ctx.log("INFO", f"Done: {_summary(outcome.manifest)}")
        return outcome.manifest

    async def _sum_up(self, ctx: StageContext[BatchConfig], ledger: Ledger, *, may_succeed: bool) -> Outcome:
        """Write results and manifest, which says whether the task is done, and leave no files of them at the provider."""
        outcome = ledger.write_results(self.id, _target(ctx))
        manifest = outcome.manifest
        if manifest.errors.reasons:
            await ctx.log("WARN", f"Rows without an answer, by reason:\n{manifest.errors}")
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
    )
    return Ledger(
        LedgerContext(
            root=ctx.storage.directory,
            provider=provider,
            spec=config.spec,
            policy=policy,
            clock=ctx.clock,
            label=str(ctx.key),
            attempt=ctx.key.try_number,
            connection=config.connection,
            registry=ctx.registry,
            new_id=ctx.new_id,
        )
    )


async def _cancel(batch_id: str, provider: BatchProvider, budget: RetryBudget) -> None:
    while True:
        try:
            return await provider.cancel(batch_id)
        except Unavailable as error:
            await budget.wait(error)


def _requests(ctx: StageContext[BatchConfig]) -> Iterable[Any]:
    """Return the rows; they can be iterated again and again."""
    source = ctx.config.source
    if source is not None:
        return _FileRows(ctx.open_path(source.uri), source.prompt, source.key)
    if isinstance(ctx.input, str | bytes | dict) or not hasattr(ctx.input, "__iter__"):
        raise UsageError(
            f"requests is {type(ctx.input).__name__}, not a list. Give a list of str, dict or BatchRequest."
        )
    rows: Iterable[Any] = ctx.input
    return rows


def _target(ctx: StageContext[BatchConfig]) -> Target:
    """Return the stage's own storage, or the user's file, or a file named after the task in the user's directory."""
    config = ctx.config
    if config.result_path is None:
        return Target(ctx.storage.directory, f"{RESULTS}.{config.result_format}")
    path = ctx.open_path(config.result_path)
    if PurePosixPath(config.result_path).suffix in (".jsonl", ".parquet"):
        return Target(Directory(path.parent), path.name)
    stem = ctx.key.task_id + (f"-{ctx.key.map_index}" if ctx.key.map_index >= 0 else "")
    return Target(Directory(path), f"{stem}.{config.result_format}")


def _check_writable(directory: Directory) -> None:
    try:
        directory.write(".writable", b"")
        directory.delete(".writable")
    except (*_FOR_GOOD, ValueError) as error:
        raise UsageError(f"{directory} cannot be written: {error}. Change storage_path or result_path.") from error
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written now: {error}", ambiguous=False) from error


def _suspended(waiting: Waiting, config: BatchConfig) -> Suspended:
    state = SuspendedState(
        batch_id=waiting.batch_ids[0] if waiting.batch_ids else "none-yet",
        submitted_at=waiting.started_at,
        metadata=waiting.model_dump(mode="json"),
    )
    return Suspended(state=state, poll=_poll(waiting, config))


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
