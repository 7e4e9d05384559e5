"""Looking at a suspended stage until there is something for the worker to do; the same in triggerer and worker."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import BatchError, NotFound, Unavailable, UsageError
from airflow_batch_provider.triggers.suspension import parse, seconds_until, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.stages import AsyncBatchStage, CheckCompletionContext, CompletionCheck
    from airflow_batch_provider.triggers.suspension import StageFiles, Suspension

# A batch may not be visible at once after it was created; later, an unknown id is a fact.
GRACE = timedelta(minutes=10)

# Between two looks while the provider or the storage cannot be reached.
LONGEST_PAUSE = timedelta(minutes=15)

_LONGEST_ERROR = 1500


class Event(TypedDict):
    """What wakes the worker; small, because Airflow logs it and stores it in a row."""

    status: Literal["ready", "failed", "timeout"]
    error: str | None


def event(status: Literal["ready", "failed", "timeout"], error: str | None = None) -> Event:
    """An event whose error is cut to what a person reads."""
    return {"status": status, "error": error[:_LONGEST_ERROR] if error else None}


@dataclass
class Watch:
    """One wait: its stage, what the stage is given, and the files that its answer goes to.

    Args:
        hub: what `ctx.hub` is too; it rests until a batch of this wait ends.
        clock: the wall clock, and how to sleep.
        jitter: a number from 0 to 1 for each look, so that triggers which started together spread.
    """

    stage: AsyncBatchStage[Any, Any]
    ctx: CheckCompletionContext[Any]
    hub: Subscription
    suspension: Suspension
    files: StageFiles
    clock: Clock = field(default_factory=Clock)
    jitter: Callable[[], float] = random.random
    _streak: int = field(default=0, init=False)

    async def until_event(self) -> Event:
        """Sleep and look until the stage is ready, has failed, or the deadline passes; the deadline itself gets a look."""
        pause = seconds_until(self.suspension.first_look, self.clock.now())
        while True:
            await self.hub.rest(self._within_deadline(pause))
            found = await self.look()
            if not isinstance(found, timedelta):
                return found
            pause = found.total_seconds() * (1 + 0.1 * self.jitter())

    async def look(self) -> Event | timedelta:
        """One look: what happened, or how long to wait for the next."""
        try:
            check = await self.stage.check_completion(self.suspension.state, self.ctx)
        except (Unavailable, NotFound, OSError) as error:
            return await self._passing(error)
        except BatchError as error:
            return event("failed", str(error))
        except Exception as error:  # noqa: BLE001 — a stage of the user's may raise anything; the task must end, not hang
            return event("failed", f"{type(error).__name__} in check_completion of {self.suspension.stage!r}: {error}")
        self._streak = 0
        return await self._answer(check)

    async def _answer(self, check: CompletionCheck[Any]) -> Event | timedelta:
        if check.error is not None:
            return event("failed", check.error)
        if check.is_ready:
            return await self._ready(check)
        if self.clock.now() >= self.suspension.deadline:
            return event("timeout")
        return check.next_check_in or self.suspension.poll.interval

    async def _ready(self, check: CompletionCheck[Any]) -> Event | timedelta:
        output: dict[str, Any] = {"metrics": check.metrics, "embeddings": to_json(check.embeddings)}
        try:
            if check.output is not None:
                what = f"The output of stage {self.stage.id!r}"
                output["output"] = to_json(parse(self.stage.output_schema, check.output, what))
            if check.output is not None or check.metrics or check.embeddings is not None:
                await asyncio.to_thread(self.files.save_output, self.suspension.token, output)
        except UsageError as error:
            return event("failed", str(error))
        except OSError as error:
            return await self._passing(error)
        return event("ready")

    async def _passing(self, error: Exception) -> Event | timedelta:
        now = self.clock.now()
        if isinstance(error, NotFound) and now > self.suspension.state.submitted_at + GRACE:
            return event("failed", str(error))
        text = f"{type(error).__name__}: {error}"
        if now >= self.suspension.deadline:
            return event("timeout", text)
        if self._streak == 0:
            await self.ctx.log("WARN", f"{text} Looking again until {self.suspension.deadline.isoformat()}.")
        self._streak += 1
        return self._backoff(error)

    def _backoff(self, error: Exception) -> timedelta:
        interval = self.suspension.poll.interval
        doubled: timedelta = min(interval * 2 ** min(self._streak - 1, 10), max(LONGEST_PAUSE, interval))
        asked = getattr(error, "retry_after", None) or 0.0
        return doubled if asked <= doubled.total_seconds() else timedelta(seconds=asked)

    def _within_deadline(self, pause: float) -> float:
        return min(pause, seconds_until(self.suspension.deadline, self.clock.now()))
