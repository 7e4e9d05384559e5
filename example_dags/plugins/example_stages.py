"""Two custom stages. They live in the plugins folder because the triggerer imports them too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from airflow_batch_provider.stages import (
    AsyncBatchStage,
    CheckCompletionContext,
    CompletionCheck,
    PollConfig,
    StageContext,
    Suspended,
    SuspendedState,
)


class Config(BaseModel):
    model: str
    poll_seconds: float = 60
    max_wait_seconds: float = 3600

    @property
    def poll(self) -> PollConfig:
        return PollConfig(
            interval=timedelta(seconds=self.poll_seconds), max_wait=timedelta(seconds=self.max_wait_seconds)
        )


class ProcessedItem(BaseModel):
    id: str
    result: Any
    success: bool
    error: str | None


class Processed(BaseModel):
    items: list[ProcessedItem]


class BatchProcess(AsyncBatchStage[Config, Processed]):
    """Asks once per extracted item, keeps every answer and every error."""

    id = "batch-process"
    name = "Batch Process"
    dependencies = ("data-extraction",)
    config_schema = Config
    output_schema = Processed

    async def execute(self, ctx: StageContext[Config]) -> Processed | Suspended:
        if ctx.resume_state:
            return Processed.model_validate(await ctx.storage.load("batch-result"))
        items = ctx.require("data-extraction")["items"]
        requests = [{"custom_id": f"item-{n}", "prompt": f"Process this item: {item}"} for n, item in enumerate(items)]
        handle = await ctx.batch(ctx.config.model).submit(requests)
        await ctx.storage.save("batch-metadata", {"request_count": len(requests)})
        return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=ctx.now()), poll=ctx.config.poll)

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[Config]
    ) -> CompletionCheck[Processed]:
        batch = ctx.batch(ctx.config.model)
        status = await batch.get_status(state.batch_id)
        if not status.ended:
            return CompletionCheck.not_ready()
        if status.status == "failed":
            return CompletionCheck.failed(f"Batch {state.batch_id} failed: {status.error}")
        rows = await batch.get_results(state.batch_id)
        items = [
            ProcessedItem(
                id=row.custom_id,
                result=row.output,
                success=row.status == "succeeded",
                error=row.error and row.error.message,
            )
            for row in rows
        ]
        await ctx.storage.save("batch-result", Processed(items=items))
        return CompletionCheck.ready(metrics={"items_processed": len(items)})


class Embedding(BaseModel):
    id: str
    vector: list[float]


class Embeddings(BaseModel):
    embeddings: list[Embedding]
    total_tokens: int


class BatchEmbeddings(AsyncBatchStage[Config, Embeddings]):
    """Turns the sections of an extraction into vectors."""

    id = "batch-embeddings"
    name = "Generate Embeddings"
    dependencies = ("data-extraction",)
    config_schema = Config
    output_schema = Embeddings

    async def execute(self, ctx: StageContext[Config]) -> Embeddings | Suspended:
        if ctx.resume_state:
            return Embeddings.model_validate(await ctx.storage.load("embeddings"))
        sections = ctx.require("data-extraction")["sections"]
        requests = [{"custom_id": f"section-{n}", "prompt": text} for n, text in enumerate(sections)]
        handle = await ctx.batch(ctx.config.model).submit(requests)
        await ctx.log("INFO", f"Submitted {len(requests)} texts for embedding")
        return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=ctx.now()), poll=ctx.config.poll)

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[Config]
    ) -> CompletionCheck[Embeddings]:
        batch = ctx.batch(ctx.config.model)
        status = await batch.get_status(state.batch_id)
        if not status.ended:
            return CompletionCheck.not_ready()
        if status.status == "failed":
            return CompletionCheck.failed(f"Embedding batch {state.batch_id} failed: {status.error}")
        rows = [row for row in await batch.get_results(state.batch_id) if row.status == "succeeded"]
        vectors = [Embedding(id=row.custom_id, vector=row.output) for row in rows]
        tokens = sum(row.usage.input_tokens for row in rows)
        await ctx.storage.save("embeddings", Embeddings(embeddings=vectors, total_tokens=tokens))
        return CompletionCheck.ready(metrics={"embeddings_generated": len(vectors), "total_tokens": tokens})
