"""The stage behind `BatchSensor`: waits for a batch that was submitted elsewhere, and never touches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from airflow_batch_provider.exceptions import Overdue
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import BatchStatus, ConnectionRef
from airflow_batch_provider.stages.base import AsyncBatchStage
from airflow_batch_provider.stages.values import PRESETS, CompletionCheck, PollConfig, Suspended, SuspendedState

if TYPE_CHECKING:
    from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext


class WaitConfig(FrozenModel):
    """The batch to wait for.

    Attributes:
        batch_id: the provider's id.
        connection: Airflow connection that sees the batch.
    """

    batch_id: str = Field(min_length=1, max_length=256)
    connection: ConnectionRef
    poll: PollConfig = PRESETS["long"]


class WaitForBatch(AsyncBatchStage[WaitConfig, dict[str, Any]]):
    """Suspends at once, and ends with the batch's status; `cancel` does nothing, for the batch is somebody else's."""

    id = "wait-for-batch"
    name = "Wait for a batch"
    config_schema: ClassVar[type[BaseModel] | None] = WaitConfig

    async def execute(self, ctx: StageContext[WaitConfig]) -> Suspended:
        """Start to wait; the deadline counts from here."""
        state = SuspendedState(batch_id=ctx.config.batch_id, submitted_at=ctx.now())
        return Suspended(state=state, poll=ctx.config.poll)

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[WaitConfig]
    ) -> CompletionCheck[dict[str, Any]]:
        """Poll the batch once."""
        status = await ctx.hub.status(ctx.config.connection, state.batch_id)
        if problem := failure(status):
            return CompletionCheck.failed(problem)
        if status.ended:
            return CompletionCheck.ready(status.model_dump(mode="json"))
        await ctx.publish(progress(status))
        return CompletionCheck.not_ready()

    def polled_connection(self, config: WaitConfig) -> ConnectionRef:
        """Return the connection that sees the batch."""
        return config.connection

    async def overdue(self, ctx: StageContext[WaitConfig]) -> dict[str, Any]:
        """Stop waiting; the batch goes on."""
        wait = ctx.config.poll.max_wait if ctx.poll is None else ctx.poll.max_wait
        raise Overdue(
            f"Batch {ctx.config.batch_id!r} was not done after {wait}, and was left running. Raise the max_wait of poll."
        )


def failure(status: BatchStatus) -> str | None:
    """Return why a batch that ended cannot help its waiters, None when it can or has not ended."""
    if not status.ended or status.status == "completed":
        return None
    reason = f": {status.error}" if status.error else ""
    return (
        f"Batch {status.batch_id!r} {status.status}{reason}. See it at the provider, and submit the missing rows again."
    )


def progress(status: BatchStatus) -> dict[str, Any]:
    """Return the small record that people see while they wait."""
    record: dict[str, Any] = {"status": status.status, "batch_id": status.batch_id}
    if status.counts is not None:
        record |= status.counts.model_dump()
    return record
