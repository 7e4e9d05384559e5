"""The contract of an async batch stage: submit, suspend, be checked, resume.

One table maps the guide that this contract comes from (its times are milliseconds, ours are `timedelta`):

====================================  ==================================================
`execute(ctx)`                        `AsyncBatchStage.execute(ctx)`
`ctx.resumeState`                     `StageContext.resume_state`
`SimpleSuspendedResult.state`         `Suspended.state`
`pollInterval, maxWaitTime`           `PollConfig.interval, PollConfig.max_wait`
`nextPollAt`                          `PollConfig.first_poll` (from the suspension)
`customMetrics`                       `Suspended.metrics`
`checkCompletion(state, ctx)`         `AsyncBatchStage.check_completion(state, ctx)`
`{ready, output, metrics}`            `CompletionCheck.ready(output, metrics=…)`
`{ready: false, nextCheckIn}`         `CompletionCheck.not_ready(next_check_in=…)`
`{ready: false, error}`               `CompletionCheck.failed(error)`
`state.apiKey`                        none: keys come from Airflow connections only
====================================  ==================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal

from typing_extensions import TypeVar

from airflow_batch_provider.exceptions import BatchError, Overdue
from airflow_batch_provider.stages.values import NONE_YET

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_batch_provider.models import ConnectionRef
    from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext
    from airflow_batch_provider.stages.values import CompletionCheck, Suspended, SuspendedState

ConfigT = TypeVar("ConfigT", default=Any)
OutputT = TypeVar("OutputT", default=Any)


class AsyncBatchStage(Generic[ConfigT, OutputT]):
    """One unit of work that an Airflow task runs: it may suspend, and is polled until it is done.

    A stage class has no arguments and keeps nothing in `self`: every call may happen in another process. It must be
    importable by the triggerer (an installed module, or one in the plugins folder).

    Attributes:
        id, name, description: for people and for storage.
        dependencies: ids of the tasks that must be upstream.
        input_schema, config_schema, output_schema: pydantic models that validate; None takes anything.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    description: ClassVar[str] = ""
    mode: ClassVar[Literal["async-batch"]] = "async-batch"
    dependencies: ClassVar[tuple[str, ...]] = ()
    input_schema: ClassVar[type[BaseModel] | None] = None
    config_schema: ClassVar[type[BaseModel] | None] = None
    output_schema: ClassVar[type[BaseModel] | None] = None

    async def execute(self, ctx: StageContext[ConfigT]) -> OutputT | Suspended:
        """Run in the worker, at the start and at every resume (`ctx.resume_state`); may suspend again."""
        raise NotImplementedError

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ConfigT]
    ) -> CompletionCheck[OutputT]:
        """Run in the triggerer at every poll; it never submits and never blocks."""
        raise NotImplementedError

    def polled_connection(self, config: ConfigT) -> ConnectionRef | None:  # noqa: ARG002
        """Return the connection that sees the suspended batches, whose end then cuts the wait short; None by default."""
        return None

    async def cancel(
        self,
        state: SuspendedState,  # noqa: ARG002 — for stages that bought elsewhere
        ctx: CheckCompletionContext[ConfigT],
    ) -> tuple[str, ...] | None:
        """Stop what was bought, because the task was killed or is overdue; by default what `ctx.batch` bought.

        Returns:
            The ids of the batches that were surely cancelled; None when the stage does not say.
        """
        return await ctx.cancel_all()

    async def overdue(self, ctx: StageContext[ConfigT]) -> OutputT:
        """Run in the worker when the deadline has passed: cancels and raises `Overdue`, by default.

        A stage that can salvage finished rows does so here, and returns its output or raises.
        """
        state = ctx.resume_state
        assert state is not None  # only a suspended stage can be overdue
        fact = f"Batch timeout after {(ctx.now() - state.submitted_at).total_seconds():.0f} s"
        try:
            cancelled = await self.cancel(state, ctx)
        except BatchError as error:
            raise Overdue(f"{fact}: {state.batch_id!r} was not cancelled: {error} Do it at the provider.") from error
        raise Overdue(f"{fact}: {fate(state.batch_id, cancelled)}")


def fate(batch_id: str, cancelled: tuple[str, ...] | None) -> str:
    """Say what became of a batch, by what a stage's `cancel` returned."""
    if cancelled is None:
        return f"the stage's own cancel was called for {batch_id!r}."
    if not cancelled and batch_id == NONE_YET:
        return "nothing was bought."
    if not cancelled:
        return f"nothing was cancelled, because this task has no running batch of ctx.batch. See {batch_id!r} yourself."
    verb = "was" if len(cancelled) == 1 else "were"
    return f"{', '.join(map(repr, cancelled))} {verb} cancelled."
