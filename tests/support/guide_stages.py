"""The guide's two stages, carried over line by line; in a module of their own because a triggerer imports them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.stages import (
    AsyncBatchStage,
    CheckCompletionContext,
    CompletionCheck,
    PollConfig,
    StageContext,
    Suspended,
    SuspendedState,
)


class ItemResult(BaseModel):
    label: str


class Item(BaseModel):
    id: str
    result: Any
    success: bool
    error: str | None = None


class Items(BaseModel):
    items: list[Item]


class ProcessConfig(BaseModel):
    model: str = "claude-sonnet-4-20250514"
    structured: bool = False
    request_params: dict[str, Any] = {}


class BatchProcess(AsyncBatchStage[ProcessConfig, Items]):
    """The guide's first example: submit, suspend for up to an hour, collect, resume from the cache."""

    id = "batch-process"
    name = "Batch Process"
    description = "Asks once per extracted item."
    dependencies = ("data-extraction",)
    config_schema = ProcessConfig
    output_schema = Items
    cached = True

    async def execute(self, ctx: StageContext[ProcessConfig]) -> Items | Suspended:
        if ctx.resume_state:
            if cached := await ctx.storage.load("batch-result"):
                return Items.model_validate(cached)
            raise RuntimeError("Resume called but no cached results found")
        items = ctx.require("data-extraction")["items"]
        schema = {"output_type": ItemResult} if ctx.config.structured else {}
        requests = [
            {"custom_id": f"item-{n}", "prompt": f"Process this item: {item}", **schema} for n, item in enumerate(items)
        ]
        handle = await ctx.batch(ctx.config.model).submit(requests, request_params=ctx.config.request_params)
        custom_ids = [request["custom_id"] for request in requests]
        await ctx.storage.save("batch-metadata", {"request_count": len(requests), "request_ids": custom_ids})
        state = SuspendedState(
            batch_id=handle.id,
            submitted_at=ctx.now(),
            metadata={"provider": handle.provider, "request_count": len(requests), "custom_ids": custom_ids},
        )
        return Suspended(state=state, poll=self.poll, metrics={"requests": len(requests)})

    poll = PollConfig(interval=timedelta(minutes=1), max_wait=timedelta(hours=1), first_poll=timedelta(minutes=1))

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ProcessConfig]
    ) -> CompletionCheck[Items]:
        batch = ctx.batch(ctx.config.model)
        try:
            status = await batch.get_status(state.batch_id)
        except Unavailable as error:
            await ctx.log("WARN", "Transient error checking batch", error=str(error))
            return CompletionCheck.not_ready(next_check_in=timedelta(seconds=30))
        if status.status in ("pending", "processing"):
            return CompletionCheck.not_ready(next_check_in=timedelta(minutes=1))
        if status.status == "failed":
            return CompletionCheck.failed(f"Batch {state.batch_id} failed")
        rows = await batch.get_results(state.batch_id, state.metadata)
        await batch.record_results(state.batch_id, rows)
        failed = [row.custom_id for row in rows if row.status != "succeeded"]
        if failed:
            await ctx.log("WARN", f"{len(failed)} requests failed", failed_ids=failed)
        if len(failed) == len(rows):
            return CompletionCheck.failed("All batch requests failed")
        items = Items(
            items=[
                Item(
                    id=row.custom_id,
                    result=row.output,
                    success=row.status == "succeeded",
                    error=row.error.message if row.error else None,
                )
                for row in rows
            ]
        )
        if self.cached:
            await ctx.storage.save("batch-result", items)
        metrics = {
            "input_tokens": sum(row.usage.input_tokens for row in rows),
            "output_tokens": sum(row.usage.output_tokens for row in rows),
            "items_processed": len(rows),
            "success_count": len(rows) - len(failed),
        }
        return CompletionCheck.ready(items, metrics=metrics)

    async def cancel(self, state: SuspendedState, ctx: CheckCompletionContext[ProcessConfig]) -> None:
        await ctx.batch(ctx.config.model).cancel(state.batch_id)


class ResumedProcess(BatchProcess):
    """Ready without output: the worker resumes `execute`, which finds the cache."""

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ProcessConfig]
    ) -> CompletionCheck[Items]:
        check = await super().check_completion(state, ctx)
        return CompletionCheck.ready(metrics=check.metrics) if check.is_ready else check


class ForgetfulProcess(ResumedProcess):
    """Resumes without having kept anything."""

    cached = False


class ImpatientProcess(BatchProcess):
    """Polls again after two seconds, whatever its poll interval."""

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ProcessConfig]
    ) -> CompletionCheck[Items]:
        check = await super().check_completion(state, ctx)
        return CompletionCheck.not_ready(next_check_in=timedelta(seconds=2)) if check.next_check_in else check


class TrustingProcess(BatchProcess):
    """Leaves passing faults to the runtime."""

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ProcessConfig]
    ) -> CompletionCheck[Items]:
        await ctx.batch(ctx.config.model).get_status(state.batch_id)
        return await super().check_completion(state, ctx)


class WrongOutput(BatchProcess):
    """Gives an output that its own schema refuses."""

    output_schema = ItemResult


class Embedding(BaseModel):
    id: str
    vector: list[float]


class Embeddings(BaseModel):
    embeddings: list[Embedding]
    total_tokens: int


class EmbedConfig(BaseModel):
    model: str = "text-embedding-004"
    batch_size: int = 100


class BatchEmbeddings(AsyncBatchStage[EmbedConfig, Embeddings]):
    """The guide's second example: one vector per section, in batches of `batch_size`."""

    id = "batch-embeddings"
    name = "Generate Embeddings"
    dependencies = ("data-extraction",)
    input_schema = None
    config_schema = EmbedConfig
    output_schema = Embeddings

    async def execute(self, ctx: StageContext[EmbedConfig]) -> Embeddings | Suspended:
        if ctx.resume_state:
            return Embeddings.model_validate(await ctx.storage.load("embeddings"))
        sections = ctx.require("data-extraction")["sections"]
        requests = [{"custom_id": f"section-{n}", "prompt": text} for n, text in enumerate(sections)]
        handle = await ctx.batch(ctx.config.model).submit(requests, batch_size=ctx.config.batch_size)
        await ctx.log("INFO", f"Submitted {len(requests)} texts for embedding")
        state = SuspendedState(
            batch_id=handle.id,
            submitted_at=ctx.now(),
            metadata={"text_count": len(requests), "batch_ids": list(handle.batch_ids)},
        )
        return Suspended(state=state, poll=self.poll)

    poll = PollConfig(interval=timedelta(seconds=30), max_wait=timedelta(minutes=30))

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[EmbedConfig]
    ) -> CompletionCheck[Embeddings]:
        batch = ctx.batch(ctx.config.model)
        rows = []
        for batch_id in state.metadata["batch_ids"]:
            status = await batch.get_status(batch_id)
            await ctx.log("DEBUG", f"Batch status: {status.status}")
            if status.status == "failed":
                return CompletionCheck.failed("Embedding batch failed")
            if status.status != "completed":
                return CompletionCheck.not_ready(next_check_in=timedelta(seconds=30))
            rows += await batch.get_results(batch_id)
        good = [row for row in rows if row.status == "succeeded"]
        tokens = sum(row.usage.input_tokens for row in rows)
        output = Embeddings(
            embeddings=[Embedding(id=row.custom_id, vector=row.output) for row in good], total_tokens=tokens
        )
        await ctx.storage.save("embeddings", output)
        await ctx.log("INFO", f"Generated {len(good)} embeddings")
        summary = {"model": ctx.config.model, "dimensions": len(good[0].output), "total_processed": len(good)}
        metrics = {"embeddings_generated": len(good), "total_tokens": tokens}
        return CompletionCheck.ready(output, metrics=metrics, embeddings=summary)


class ResumedEmbeddings(BatchEmbeddings):
    """Ready without output, so that the cached output is what the task returns."""

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[EmbedConfig]
    ) -> CompletionCheck[Embeddings]:
        check = await super().check_completion(state, ctx)
        return CompletionCheck.ready() if check.is_ready else check
