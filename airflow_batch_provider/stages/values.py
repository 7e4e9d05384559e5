"""Values that a stage and the process that runs it hand to each other."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, field_serializer, field_validator, model_validator
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypeVar

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages import guide
from airflow_batch_provider.stages.refusals import WHOLE, StageValue
from airflow_batch_provider.timing import LONGEST_WAIT, OLDEST_SUBMIT, WORST_SKEW

OutputT = TypeVar("OutputT", default=Any)

# Whole numbers of seconds from here on are taken for the guide's milliseconds: 10,000 ms are 10 s, 10,000 s nearly 3 h.
_MILLISECONDS = 10_000
_GIVE_POLL = "Give a PollConfig whose interval is not above its max_wait, or 'quick', 'medium' or 'long'"
_GIVE_STATE = "Give SuspendedState(batch_id=handle.id, submitted_at=ctx.now())"


class PollConfig(StageValue):
    """When to poll a suspended stage, and for how long.

    Attributes:
        interval: time between two polls, 1 second to 1 day.
        max_wait: the deadline, counted in wall clock from `SuspendedState.submitted_at`, at most 14 days.
        first_poll: time from the suspension to the first poll; the interval by default.

    Raises:
        UsageError: a field does not fit; says which, and what to give.
    """

    remedies: ClassVar = {
        WHOLE: f"{_GIVE_POLL}.",
        "interval": "Give a timedelta or a number of seconds, from 1 second to 1 day.",
        "max_wait": f"Give a timedelta or a number of seconds, above 0 and at most {LONGEST_WAIT.days} days.",
        "first_poll": "Give a timedelta or a number of seconds, at most 1 day, or None.",
    }

    interval: timedelta = Field(ge=timedelta(seconds=1), le=timedelta(days=1))
    max_wait: timedelta = Field(gt=timedelta(0), le=LONGEST_WAIT)
    first_poll: timedelta | None = Field(default=None, ge=timedelta(0), le=timedelta(days=1))

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        return guide.poll_fields(given)

    @field_validator("interval", "first_poll", mode="before")
    @classmethod
    def _not_milliseconds(cls, value: Any) -> Any:
        # Only a person writes a whole number: what comes from a file is a float.
        if type(value) is int and value >= _MILLISECONDS:
            raise ValueError(_hint(value))
        return value

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


NONE_YET = "none-yet"
"""The `batch_id` of a built-in stage that waits before anything was bought; nobody's id."""


class SuspendedState(StageValue):
    """The memory of a stage while it waits; travels through Airflow's database in plain text.

    Attributes:
        batch_id: the batch at the provider that the stage waits for; a whole number or a UUID becomes its text.
        submitted_at: when it was bought, aware; the deadline counts from here. When the stage suspends it must lie at most
            `WORST_SKEW` in the future, for the clocks of others, and at most `OLDEST_SUBMIT` in the past.
        metadata: values that the stage wants to find again; JSON of any size, no secrets, no prompts. What is too large
            for Airflow's database stays in stage storage.

    Raises:
        UsageError: a field does not fit; says which, and what to give. What was bought stays bought: a retry, or a clear
            of the task, goes on with what `ctx.batch` bought.
    """

    remedies: ClassVar = {
        WHOLE: f"{_GIVE_STATE}.",
        "batch_id": "Give the id of the batch as a text of 1 to 256 characters: batch_id=handle.id.",
        "submitted_at": "Give ctx.now(), or datetime.now(UTC).",
        "metadata": "Give dicts with texts as keys, lists, texts and numbers.",
    }

    batch_id: str = Field(min_length=1, max_length=256)
    submitted_at: AwareDatetime
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        return guide.state_fields(given)

    @field_validator("batch_id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return id_text(value)

    @field_validator("submitted_at", mode="before")
    @classmethod
    def _with_timezone(cls, value: Any) -> Any:
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError("it has no timezone")
        return value

    @field_validator("metadata")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(to_jsonable_python(value))
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            fact = " ".join(str(error).split())
            raise ValueError(f"it holds what is not JSON: {fact}") from None
        return value

    def check_time(self, now: datetime) -> None:
        """Refuse a submission long before `now` or after it: the deadline would have passed, or be far away.

        Raises:
            UsageError: as said; with the time and what to give.
        """
        if now - OLDEST_SUBMIT <= self.submitted_at <= now + WORST_SKEW:
            return
        days, side = abs(self.submitted_at - now) / timedelta(days=1), "past" if self.submitted_at < now else "future"
        raise UsageError(
            f"submitted_at of SuspendedState is {self.submitted_at.isoformat()}, {days:.0f} days in the {side}, and the "
            f"deadline counts from it. {self.remedies['submitted_at']}"
        )


class Suspended(StageValue):
    """`execute` returns this to free the worker until the batch is done.

    Attributes:
        batch_ids: every batch that was bought so far, to show to people; by default those that are waited for.
        provider, model: whom the stage waits for, to tell its metrics from those of others; few different values.

    Raises:
        UsageError: as `SuspendedState`.
    """

    remedies: ClassVar = {
        WHOLE: f"{_GIVE_STATE} in Suspended(state=…).",
        "state": f"{_GIVE_STATE}.",
        "poll": f"{_GIVE_POLL}.",
        "metrics": "Give numbers by their names: {'requests': 3}.",
        "batch_ids": "Give a list of texts: ['batch_1'].",
        "provider": "Give a text of at most 200 characters, or None.",
        "model": "Give a text of at most 200 characters, or None.",
    }

    state: SuspendedState
    poll: PollConfig = PRESETS["long"]
    metrics: dict[str, float] = Field(default_factory=dict)
    batch_ids: tuple[str, ...] = ()
    provider: str | None = Field(default=None, max_length=200)
    model: str | None = Field(default=None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        return guide.suspended_fields(given)

    @field_validator("batch_ids", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        return tuple(map(id_text, value)) if isinstance(value, list | tuple) else value

    @field_validator("poll", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        return PollConfig.of(value) if isinstance(value, str) else value

    @property
    def suspended(self) -> Literal[True]:
        """The guide's marker."""
        return True


@dataclass(frozen=True)
class CompletionCheck(Generic[OutputT]):
    """The result of a poll; made by `ready`, `not_ready` and `failed`.

    Attributes:
        output: the stage's output; None with `is_ready` means: resume `execute`.
        metrics: numbers for the log and for XCom.
        embeddings: any small JSON about embeddings; people find it in the XCom `batch_embeddings`.
        error: stops the task for good.
        next_check_in: time to the next poll, instead of the poll interval; a number means seconds, less than one is one.

    Raises:
        UsageError: `is_ready` is not True or False, `metrics` is not a dict, or `next_check_in` is not a time after now.
    """

    is_ready: bool
    output: OutputT | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    embeddings: Any = None
    error: str | None = None
    next_check_in: timedelta | None = None

    def __post_init__(self) -> None:
        """Take a number of seconds for a time and anything for the words of an error; refuse other shapes."""
        if not isinstance(self.is_ready, bool):
            raise UsageError(
                f"is_ready is a {type(self.is_ready).__name__}, not True or False. Compare the status first."
            )
        if not isinstance(self.metrics, dict):
            raise UsageError(f"metrics is a {type(self.metrics).__name__}, not a dict. Give numbers by their names.")
        if self.error is not None and not isinstance(self.error, str):
            object.__setattr__(self, "error", _told(self.error))
        if self.next_check_in is not None:
            object.__setattr__(self, "next_check_in", _pause(self.next_check_in))

    @classmethod
    def ready(
        cls, output: OutputT | None = None, *, metrics: dict[str, float] | None = None, embeddings: Any = None
    ) -> CompletionCheck[OutputT]:
        """The batch is done; without output the worker resumes `execute`."""
        return cls(is_ready=True, output=output, metrics=metrics or {}, embeddings=embeddings)

    @classmethod
    def not_ready(cls, *, next_check_in: timedelta | float | None = None) -> CompletionCheck[OutputT]:
        """Poll again after the poll interval, or after `next_check_in`; a number means seconds."""
        return cls(is_ready=False, next_check_in=None if next_check_in is None else _pause(next_check_in))

    @classmethod
    def failed(cls, error: str) -> CompletionCheck[OutputT]:
        """The stage cannot succeed; the task fails with this message."""
        return cls(is_ready=False, error=_told(error))


def id_text(value: Any) -> Any:
    """Return the text of an id that is a whole number or a UUID; anything else as it is, for whoever checks it."""
    return str(value) if isinstance(value, int | UUID) and not isinstance(value, bool) else value


def _told(error: Any) -> str:
    """Return the words of an error of any kind: a text, an exception, what a provider sent."""
    told = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error or "").strip()
    return told or "The stage gave no reason."


def _pause(given: Any) -> timedelta:
    is_time = isinstance(given, timedelta) or (isinstance(given, int | float) and math.isfinite(given))
    if isinstance(given, bool) or not is_time:
        raise UsageError(f"next_check_in={given!r} is not a time. Give a timedelta, or a number of seconds.")
    if isinstance(given, int | float) and given >= _MILLISECONDS:
        raise UsageError(f"next_check_in: {_hint(given)}.")
    pause = given if isinstance(given, timedelta) else timedelta(seconds=given)
    if pause <= timedelta(0):
        raise UsageError(
            f"next_check_in={given!r} is not after now. Give a timedelta, or a number of seconds, above 0."
        )
    return pause


def _hint(number: float) -> str:
    seconds = number / 1000
    return (
        f"{number} would be seconds. For milliseconds write timedelta(seconds={seconds:g}); if seconds are meant, "
        f"timedelta(seconds={number:g})"
    )
