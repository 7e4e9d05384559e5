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

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field, field_serializer, model_validator
from typing_extensions import TypeVar

from airflow_batch_provider.exceptions import Overdue, UsageError
from airflow_batch_provider.models import FrozenModel
from airflow_batch_provider.timing import LONGEST_WAIT

if TYPE_CHECKING:
    from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext

ConfigT = TypeVar("ConfigT", default=Any)
OutputT = TypeVar("OutputT", default=Any)


class PollConfig(FrozenModel):
    """When to look at a suspended stage, and for how long.

    Attributes:
        interval: time between two looks, 1 second to 1 day.
        max_wait: the deadline, counted in wall clock from `SuspendedState.submitted_at`, at most 14 days.
        first_poll: time from the suspension to the first look; the interval by default.
    """

    interval: timedelta = Field(ge=timedelta(seconds=1), le=timedelta(days=1))
    max_wait: timedelta = Field(gt=timedelta(0), le=LONGEST_WAIT)
    first_poll: timedelta | None = Field(default=None, ge=timedelta(0), le=timedelta(days=1))

    @model_validator(mode="after")
    def _polls_before_the_deadline(self) -> Self:
        if self.interval > self.max_wait:
            raise ValueError(f"interval {self.interval} is longer than max_wait {self.max_wait}")
        return self

    @field_serializer("interval", "max_wait", "first_poll")
    def _as_seconds(self, value: timedelta | None) -> float | None:
        return None if value is None else value.total_seconds()

    @classmethod
    def of(cls, poll: PollConfig | str) -> PollConfig:
        """A preset by name, or the config itself.

        Raises:
            UsageError: no preset of this name.
        """
        if isinstance(poll, PollConfig):
            return poll
        if poll not in PRESETS:
            raise UsageError(f"poll={poll!r} is no preset. Use one of {', '.join(PRESETS)}, or a PollConfig.")
        return PRESETS[poll]


PRESETS = {
    "quick": PollConfig(interval=timedelta(seconds=15), max_wait=timedelta(minutes=10)),
    "medium": PollConfig(interval=timedelta(minutes=1), max_wait=timedelta(hours=1)),
    "long": PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=24)),
}


class SuspendedState(FrozenModel):
    """What a stage remembers while it waits; travels through Airflow's database in plain text.

    Attributes:
        batch_id: the batch at the provider that the stage waits for.
        submitted_at: when it was bought, aware; the deadline counts from here.
        metadata: whatever the stage wants to find again; JSON, no secrets, no prompts, small (all of the state
            together at most 6 KB: the rest belongs in `ctx.storage`).
    """

    batch_id: str = Field(min_length=1, max_length=256)
    submitted_at: AwareDatetime
    metadata: dict[str, Any] = Field(default_factory=dict)


class Suspended(FrozenModel):
    """`execute` returns this to free the worker until the batch is done."""

    state: SuspendedState
    poll: PollConfig = PRESETS["long"]
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def suspended(self) -> Literal[True]:
        """The guide's marker."""
        return True


@dataclass(frozen=True)
class CompletionCheck(Generic[OutputT]):
    """What a look found; made by `ready`, `not_ready` and `failed`.

    Attributes:
        output: the stage's output; None with `is_ready` means: resume `execute`.
        metrics: numbers for the log and for XCom.
        embeddings: any summary of embeddings the stage wants to show.
        error: stops the task for good.
        next_check_in: time to the next look, instead of the poll interval.
    """

    is_ready: bool
    output: OutputT | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    embeddings: Any = None
    error: str | None = None
    next_check_in: timedelta | None = None

    @classmethod
    def ready(
        cls, output: OutputT | None = None, *, metrics: dict[str, float] | None = None, embeddings: Any = None
    ) -> CompletionCheck[OutputT]:
        """The batch is done; without output the worker resumes `execute`."""
        return cls(is_ready=True, output=output, metrics=metrics or {}, embeddings=embeddings)

    @classmethod
    def not_ready(cls, *, next_check_in: timedelta | None = None) -> CompletionCheck[OutputT]:
        """Look again after the poll interval, or after `next_check_in`."""
        return cls(is_ready=False, next_check_in=next_check_in)

    @classmethod
    def failed(cls, error: str) -> CompletionCheck[OutputT]:
        """The stage cannot succeed; the task fails with this message."""
        return cls(is_ready=False, error=error)


class AsyncBatchStage(Generic[ConfigT, OutputT]):
    """One unit of work that an Airflow task runs: it may suspend, and is looked at until it is done.

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
        """Runs in the worker, at the start and at every resume (`ctx.resume_state`); may suspend again."""
        raise NotImplementedError

    async def check_completion(
        self, state: SuspendedState, ctx: CheckCompletionContext[ConfigT]
    ) -> CompletionCheck[OutputT]:
        """Runs in the triggerer at every poll; only looks: it never submits and never blocks."""
        raise NotImplementedError

    async def cancel(self, state: SuspendedState, ctx: CheckCompletionContext[ConfigT]) -> None:
        """Stop what was bought, because the task was killed or is overdue; does nothing by default."""

    async def overdue(self, ctx: StageContext[ConfigT]) -> OutputT:
        """Runs in the worker when the deadline has passed: cancels and raises `Overdue`, by default.

        A stage that can salvage finished rows does so here, and returns its output or raises.
        """
        state = ctx.resume_state
        assert state is not None  # only a suspended stage can be overdue
        await self.cancel(state, ctx)
        elapsed = ctx.now() - state.submitted_at
        raise Overdue(f"Batch timeout after {elapsed.total_seconds():.0f} s: {state.batch_id!r} was cancelled.")
