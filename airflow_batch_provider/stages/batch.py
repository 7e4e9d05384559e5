"""What the two built-in stages share: a ledger that is driven until every row has its answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import BatchError, Overdue, Unavailable, UsageError
from airflow_batch_provider.ledger import (
    Ledger,
    Outcome,
    Patience,
    Policy,
    Standard,
    Target,
    Waiting,
    Work,
    finish,
    judge,
    note_unmet,
    seal,
    sealed,
)
from airflow_batch_provider.models import Manifest, Usage
from airflow_batch_provider.pricing import cost
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.sources import requests_of
from airflow_batch_provider.stages.base import AsyncBatchStage, CompletionCheck, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.looks import look, newest_at, show
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.ledger import Plan, Wave
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext

# OpenAI documents up to 10 minutes in `cancelling` (batch guide, 2026-08); the others are quicker.
SETTLE = timedelta(minutes=15)
# For so long after it was bought, a batch that the provider does not know counts as running; then the worker is woken,
# for which it is gone.
VISIBLE = timedelta(minutes=10, seconds=1)

# What a storage answers that takes no file at this place, whenever it is asked; other faults may pass.
_FOR_GOOD = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)

_PLACES = "Set storage_path to a shared disk, S3, Google Cloud Storage or Azure."


class _DryRun(Exception):
    def __init__(self, manifest: Manifest) -> None:
        super().__init__("dry run")
        self.manifest = manifest


class BatchStage(AsyncBatchStage[BatchConfig, Manifest]):
    """Asks every row, waits, asks again what has no good answer, and returns the manifest."""

    config_schema = BatchConfig
    output_schema = Manifest

    async def execute(self, ctx: StageContext[BatchConfig]) -> Manifest | Suspended:
        """Plan at the start; then land, submit and open waves until there is nothing left to ask."""
        provider = await ctx.hub.provider(ctx.config.conn_id)
        ledger = _ledger(ctx, provider)
        if ctx.resume_state is None:
            if not ledger.root.is_exclusive:
                await ctx.log("WARN", f"{ledger.root} cannot keep two workers on one task from buying twice. {_PLACES}")
            try:
                self._open(ctx, ledger, provider)
            except _DryRun as dry:
                return dry.manifest
            if done := _finished(ledger, ctx.config):
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
        batch_ids: list[str] = state.metadata["batch_ids"]
        statuses = await look(batch_ids, ctx)
        unknown = 0 if ctx.now() - newest_at(state) < VISIBLE else len(batch_ids) - len(statuses)
        ended = sum(status.ended for status in statuses) + unknown
        await show(statuses, state, ctx)
        resume_at = state.metadata.get("resume_at")
        due = resume_at is not None and ctx.now() >= datetime.fromisoformat(resume_at)
        if state.metadata.get("held") and not due:
            return CompletionCheck.not_ready()
        if due or ended == len(batch_ids) > 0 or (ended and state.metadata["queued"]):
            return CompletionCheck.ready()
        return CompletionCheck.not_ready()

    async def cancel(self, state: SuspendedState, ctx: CheckCompletionContext[BatchConfig]) -> None:
        """Ask the provider to stop every batch that surely is ours; what finished can be landed later.

        Raises:
            BatchError: one of them could not be cancelled; the log names each.
        """
        provider = await ctx.hub.provider(ctx.config.conn_id)
        patience = Patience(provider.name, ctx.clock)
        failed: BatchError | None = None
        for batch_id in state.metadata["batch_ids"]:
            if batch_id in state.metadata.get("tentative", ()):
                continue
            try:
                await patience.repeat(partial(provider.cancel, batch_id))
            except BatchError as error:
                failed = error
                await ctx.log("WARN", f"Batch {batch_id!r} was not cancelled: {error} Do it at the provider.")
        if failed:
            raise failed

    async def overdue(self, ctx: StageContext[BatchConfig]) -> Manifest:
        """Cancel, wait for the provider to settle, land what finished; then `on_timeout` decides."""
        provider = await ctx.hub.provider(ctx.config.conn_id)
        ledger = _ledger(ctx, provider)
        if ctx.config.on_timeout == "leave":
            ledger.stop_clock()
            raise Overdue(f"{_deadline(ctx)} Its batches go on running; the next attempt lands them.")
        await ledger.cancel(SETTLE)
        settled = await ledger.settle(SETTLE)
        salvages = ctx.config.on_timeout == "salvage"
        outcome = await self._sum_up(ctx, ledger, may_seal=salvages)
        unsettled = "" if settled else f" The provider did not settle within {SETTLE}; the next attempt lands the rest."
        if salvages:
            judge(outcome, _standard(ctx.config))
            await ctx.log("WARN", f"{_deadline(ctx)} {_said(outcome.manifest)}{unsettled}")
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
                f"Model {config.model!r} belongs to {config.provider}, but connection {config.conn_id!r} is of "
                f"{provider.name}. Change model or conn_id."
            )
        provider.check_spec(config.spec)
        if config.output_type is not None:
            AnswerSchema(config.output_type)

    def _open(self, ctx: StageContext[BatchConfig], ledger: Ledger, provider: BatchProvider) -> None:
        self.check_request_kind(provider, ctx.config)
        _check_writable(ledger.root)
        target = _target(ctx)
        _check_writable(target.directory)
        if target.format == "parquet" and find_spec("pyarrow") is None:
            raise UsageError(
                "result_format='parquet' needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
            )

        def check(plan: Plan, wave: Wave) -> None:
            tokens = Usage(
                input_tokens=sum(part.tokens for part in wave.parts),
                output_tokens=plan.requests * plan.spec.max_tokens if plan.spec.kind == "generate" else 0,
            )
            _check_budget(self.id, plan, tokens, ctx.config)

        ledger.open_plan(lambda: _requests(ctx), check)

    async def _finish(self, ctx: StageContext[BatchConfig], ledger: Ledger) -> Manifest:
        outcome = await self._sum_up(ctx, ledger, may_seal=True)
        judge(outcome, _standard(ctx.config))
        await ctx.log("INFO", f"Done: {_said(outcome.manifest)}")
        return outcome.manifest

    async def _sum_up(self, ctx: StageContext[BatchConfig], ledger: Ledger, *, may_seal: bool) -> Outcome:
        """Write the results, seal them if they are good enough, and leave no files of what landed at the provider."""
        outcome = finish(ledger, self.id, _target(ctx), ctx.now())
        manifest = outcome.manifest
        if manifest.errors.reasons:
            await ctx.log("WARN", f"Rows without an answer, by reason:\n{manifest.errors}")
        # A worker that dies while it cleans up is succeeded by one that has nothing left to buy.
        if may_seal and _standard(ctx.config).is_met(manifest):
            seal(ledger, manifest)
        else:
            note_unmet(ledger, manifest)
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
    )
    return Ledger(
        Work(
            root=ctx.storage.directory,
            provider=provider,
            spec=config.spec,
            policy=policy,
            clock=ctx.clock,
            label=str(ctx.key),
            attempt=ctx.key.try_number,
            registry=ctx.registry,
        )
    )


def _standard(config: BatchConfig) -> Standard:
    return Standard(config.min_success_ratio, config.on_partial)


def _requests(ctx: StageContext[BatchConfig]) -> Iterable[Any]:
    source = ctx.config.source
    if source is not None:
        return requests_of(ctx.open_path(source.uri), source.prompt, source.key)
    rows: Iterable[Any] = _records(ctx.input)
    if isinstance(rows, str | bytes | dict) or not hasattr(rows, "__iter__"):
        raise UsageError(f"requests is {type(rows).__name__}, not a list. Give a list of str, dict or BatchRequest.")
    return rows


def _records(rows: Any) -> Any:
    """The rows of a list, a pandas or polars frame (which iterate over their columns), or an Arrow table."""
    if hasattr(rows, "to_pylist"):
        records = rows.to_pylist()
    elif hasattr(rows, "to_dicts"):
        records = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        records = rows.to_dict("records")
    else:
        records = rows
    return records


def _target(ctx: StageContext[BatchConfig]) -> Target:
    """The stage's own storage, or the user's file, or a file named after the task in the user's directory."""
    config = ctx.config
    if config.result_path is None:
        return Target(ctx.storage.directory, f"results.{config.result_format}")
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
    except BatchError:
        raise
    except Exception as error:  # the errors of object stores have no common class
        raise Unavailable(f"{directory} cannot be written now: {error!r}", ambiguous=False) from error


def _check_budget(stage: str, plan: Plan, tokens: Usage, config: BatchConfig) -> None:
    limit = config.max_cost_usd
    if limit is None and not config.dry_run:
        return
    price = cost(plan.provider, plan.spec.model, tokens)
    if config.dry_run:
        raise _DryRun(_estimate(stage, plan, tokens, config))
    if price.usd is None:
        raise UsageError(
            f"Model {plan.spec.model!r} has no known price, so max_cost_usd={limit} cannot be held. Drop it."
        )
    if price.usd > limit:  # type: ignore[operator]  # one of the two was set, and it is not dry_run
        raise UsageError(
            f"{plan.requests} requests may cost up to ${price.usd:.4f} ({tokens.input_tokens} tokens in, at most "
            f"{tokens.output_tokens} out), more than max_cost_usd={limit}. Ask less, lower max_tokens or raise the limit."
        )


def _estimate(stage: str, plan: Plan, tokens: Usage, config: BatchConfig) -> Manifest:
    return Manifest(
        stage=stage,
        provider=plan.provider,
        model=plan.spec.model,
        results="",
        format=config.result_format,
        requests=plan.requests,
        counts={"missing": plan.requests},
        usage=tokens,
        cost=cost(plan.provider, plan.spec.model, tokens),
        waves=0,
        dry_run=True,
    )


def _finished(ledger: Ledger, config: BatchConfig) -> Manifest | None:
    """The manifest of an earlier attempt that was good enough, unless a batch has been bought since or has yet to land."""
    manifest = sealed(ledger)
    if manifest is None or not _standard(config).is_met(manifest) or ledger.receipts(unlanded=True):
        return None
    batches = tuple(receipt.batch_id for receipt in ledger.receipts())
    return manifest if (manifest.waves, manifest.batches) == (len(ledger.waves()), batches) else None


def _suspended(waiting: Waiting, config: BatchConfig) -> Suspended:
    resume_at = waiting.resume_at.isoformat() if waiting.resume_at else None
    state = SuspendedState(
        batch_id=waiting.batch_ids[0] if waiting.batch_ids else "none-yet",
        submitted_at=waiting.started_at,
        metadata={
            "batch_ids": list(waiting.batch_ids),
            "tentative": list(waiting.tentative),
            "newest_at": waiting.newest_at.isoformat() if waiting.newest_at else None,
            "queued": waiting.queued,
            "resume_at": resume_at,
            "held": waiting.held,
        },
    )
    return Suspended(state=state, poll=_poll(waiting, config))


def _poll(waiting: Waiting, config: BatchConfig) -> PollConfig:
    """The user's, but back at `resume_at` when that is sooner than the first look."""
    if waiting.resume_at is None:
        return config.poll
    soon = max(timedelta(0), waiting.resume_at - waiting.seen_at)
    return config.poll.model_copy(update={"first_poll": min(soon, config.poll.first_poll or config.poll.interval)})


def _said(manifest: Manifest) -> str:
    counts = ", ".join(f"{number} {word}" for word, number in manifest.counts.items() if number)
    return f"{counts}. Results: {manifest.results}"


def _deadline(ctx: StageContext[BatchConfig]) -> str:
    assert ctx.resume_state is not None  # only a suspended stage can be overdue
    elapsed = (ctx.now() - ctx.resume_state.submitted_at).total_seconds()
    return f"Batch timeout after {elapsed:.0f} s (max_wait={ctx.config.poll.max_wait})."
