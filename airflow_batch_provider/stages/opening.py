"""How a built-in stage starts: its ledger, what is refused before anything is paid, and the plan that counts."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger import Ledger, LedgerContext, Policy
from airflow_batch_provider.ledger.row_cache import RowCache
from airflow_batch_provider.places import PlaceLimits
from airflow_batch_provider.pricing import price_book
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.stages.estimate import Estimate
from airflow_batch_provider.stages.report import landed_rows
from airflow_batch_provider.stages.rows import check_writable, source_rows, target_of
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from airflow_batch_provider.models import Cost, Manifest
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.stages.config import BatchConfig
    from airflow_batch_provider.stages.context import StageContext
    from airflow_batch_provider.stages.rows import SourceRows


def ledger_of(ctx: StageContext[BatchConfig], provider: BatchProvider) -> Ledger:
    """Return the ledger of the task, as its configuration and its process have it."""
    config = ctx.config
    return Ledger(
        LedgerContext(
            root=ctx.storage.directory,
            provider=provider,
            spec=config.spec,
            output_type=config.output_type,
            policy=_policy(config),
            clock=ctx.clock,
            label=str(ctx.key),
            attempt=ctx.key.try_number,
            connection=config.connection,
            row_cache=_row_cache(ctx, provider),
            registry=ctx.registry,
            new_id=ctx.new_id,
            signals=ctx.signals,
        )
    )


def _policy(config: BatchConfig) -> Policy:
    return Policy(
        retry_rows=config.retry_rows,
        in_flight=config.max_in_flight,
        enqueued_tokens=config.max_enqueued_tokens,
        retry_truncated=config.retry_truncated,
        clean_up=config.clean_up,
        leave_running=config.on_timeout == "leave",
        skip_bad_rows=config.on_bad_row == "skip",
        may_be_empty=config.on_empty == "skip",
        canary=config.canary,
        canary_realtime=config.canary_realtime,
        dedup_rows=config.dedup_rows,
        max_cost_usd=config.max_cost_usd,
    )


def _row_cache(ctx: StageContext[BatchConfig], provider: BatchProvider) -> RowCache | None:
    config = ctx.config
    if not config.row_cache:
        return None
    root, ttl = Directory(ctx.open_path(config.row_cache)), timedelta(days=config.row_cache_days)
    return RowCache.of(root, ttl, ctx.clock, provider.account, config.spec)


async def open_plan(ctx: StageContext[BatchConfig], ledger: Ledger, provider: BatchProvider) -> Manifest | None:
    """Go on with the plan of these requests, or draft, price and commit one; return the estimate of a dry run."""
    _check_request_kind(provider, ctx.config)
    check_writable(ledger.root)
    # Custom prices and limits that cannot be read are refused here, not after the rows were paid.
    price_book(provider.account)
    PlaceLimits.of(provider.account, ctx.config.spec.model)
    target = target_of(ctx)
    check_writable(target.directory)
    if target.format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError(
            "result_format='parquet' needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
        )
    with source_rows(ctx) as rows:
        return await _planned(ctx, ledger, rows)


async def _planned(ctx: StageContext[BatchConfig], ledger: Ledger, rows: SourceRows) -> Manifest | None:
    while True:
        plan = ledger.current_plan(rows)
        if plan is not None:
            ledger.keep(plan, rows.keeper)
            return (await _priced(ctx, ledger, Estimate(plan, ledger.forecast(plan)), "Going on with"))[0]
        with ledger.draft(rows, rows.keeper) as draft:
            ctx.config.criteria.check_possible(draft.plan)
            estimate, cost = await _priced(ctx, ledger, Estimate(draft.plan, draft.forecast), "Planned")
            if estimate is not None:
                return estimate
            ledger.check_budgets(draft.forecast)
            if draft.commit():
                landed_rows(ledger, cost)
                return None


def _check_request_kind(provider: BatchProvider, config: BatchConfig) -> None:
    """Refuse a connection of another provider than the model names, and a spec the provider cannot take."""
    if config.provider not in (None, provider.name):
        raise UsageError(
            f"Model {config.model!r} belongs to {config.provider}, but connection {str(config.connection)!r} is of "
            f"{provider.name}. Change model or conn_id."
        )
    if config.output_type is not None:
        AnswerSchema(config.output_type.schema)
    provider.check_spec(config.spec)


async def _priced(
    ctx: StageContext[BatchConfig], ledger: Ledger, estimate: Estimate, said: str
) -> tuple[Manifest | None, Cost]:
    """Refuse a plan that is too dear; return the estimate of a dry run, None when the plan may be bought."""
    config = ctx.config
    await ctx.log("INFO", f"{'Dry run, nothing is bought' if config.dry_run else said}: {estimate}")
    if estimate.plan.first.requests and estimate.expected.gaps and (config.dry_run or config.max_cost_usd is None):
        await ctx.log("WARN", estimate.expected.gaps)
    if config.dry_run:
        return estimate.manifest(ctx.stage_id, config.format), estimate.expected.cost
    if config.max_cost_usd is not None and not ledger.has_bought():  # what goes on is checked batch by batch
        estimate.check(config.max_cost_usd, ledger.spent_on_others())
    return None, estimate.expected.cost
