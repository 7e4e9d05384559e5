"""Values that a stage and the process that runs it hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, Self

from pydantic import AwareDatetime, Field, field_serializer, model_validator
from typing_extensions import TypeVar

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import FrozenModel
from airflow_batch_provider.timing import LONGEST_WAIT

OutputT = TypeVar("OutputT", default=Any)


class PollConfig(FrozenModel):
    """When to poll a suspended stage, and for how long.

    Attributes:
        interval: time between two polls, 1 second to 1 day.
        max_wait: the deadline, counted in wall clock from `SuspendedState.submitted_at`, at most 14 days.
        first_poll: time from the suspension to the first poll; the interval by default.
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
        """Return a preset by name, or the config itself.

        Raises:
            UsageError: no preset of this name.
        """
        if isinstance(poll, PollConfig):
            return poll
        if poll not in PRESETS:
            raise UsageError(f"poll={poll!r} is not a preset. Use one of {', '.join(PRESETS)}, or a PollConfig.")
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
        metadata: values that the stage wants to find again; JSON, no secrets, no prompts, small (all of the state
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
    """What a poll found; made by `ready`, `not_ready` and `failed`.

    Attributes:
        output: the stage's output; None with `is_ready` means: resume `execute`.
        metrics: numbers for the log and for XCom.
        embeddings: any summary of embeddings the stage wants to show.
        error: stops the task for good.
        next_check_in: time to the next poll, instead of the poll interval.
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
        """Poll again after the poll interval, or after `next_check_in`."""
        return cls(is_ready=False, next_check_in=next_check_in)

    @classmethod
    def failed(cls, error: str) -> CompletionCheck[OutputT]:
        """The stage cannot succeed; the task fails with this message."""
        return cls(is_ready=False, error=error)
