"""Stages that do as they are told; a module of its own because the triggerer imports stages by their path."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from airflow_batch_provider.exceptions import (
    Denied,
    NotFound,
    Overdue,
    Paused,
    Rejected,
    RowsFailed,
    StageFailed,
    Unavailable,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.models import ErrorDigest
from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, PollConfig, Suspended, SuspendedState

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=5), first_poll=timedelta(0))


class Told(BaseModel):
    mode: Literal["at_once", "resume", "output", "twice", "fail", "overdue", "secretive"] = "resume"
    size: int = 0
    needs: str | None = None


class Done(BaseModel):
    said: str
    runs: int = 0
    heard: Any = None


class Obedient(AsyncBatchStage[Told, Done]):
    """Suspends and ends as its config says, without any provider."""

    id = "obedient"
    name = "Obedient"
    config_schema = Told
    output_schema = Done

    async def execute(self, ctx):
        runs = (await ctx.storage.load("runs") or 0) + 1
        await ctx.storage.save("runs", runs)
        heard = ctx.require(ctx.config.needs) if ctx.config.needs else ctx.input
        wanted = {"at_once": 1, "twice": 3}.get(ctx.config.mode, 2)
        if ctx.resume_state is None and wanted > 1:
            runs = 1
            await ctx.storage.save("runs", runs)
        if runs < wanted or (ctx.resume_state is None and wanted > 1):
            return _suspended(ctx, runs)
        await ctx.progress(100, "done")
        return Done(said="x" * ctx.config.size or "done", runs=runs, heard=heard)

    async def check_completion(self, state, ctx):
        match ctx.config.mode:
            case "output":
                return CompletionCheck.ready(Done(said="from the check"), metrics={"polls": 1.0})
            case "fail":
                return CompletionCheck.failed("All batch requests failed")
            case "overdue":
                return CompletionCheck.not_ready()
        return CompletionCheck.ready()

    async def cancel(self, state, ctx):
        await ctx.storage.save("cancelled", state.batch_id)

    async def overdue(self, ctx):
        await self.cancel(ctx.resume_state, ctx)
        raise Overdue("Nothing came in time.")


def _suspended(ctx, run: int) -> Suspended:
    state = SuspendedState(batch_id=f"batch-{run}", submitted_at=ctx.now(), metadata={"batch_ids": [f"batch-{run}"]})
    poll = SOON
    if getattr(ctx.config, "mode", None) == "overdue":
        poll = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(seconds=1), first_poll=timedelta(0))
    return Suspended(state=state, poll=poll, metrics={"rows": 3.0})


class Dependent(Obedient):
    id = "dependent"
    dependencies = ("extraction",)


class Scripted(AsyncBatchStage):
    """Each poll takes the next line of the script: an exception to raise, a check to return, or seconds to hang."""

    id = "scripted"
    name = "Scripted"
    output_schema = Done

    script: ClassVar[deque[Any]] = deque()
    cancelled: ClassVar[list[str]] = []

    async def check_completion(self, state, ctx):
        line = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, float):
            await asyncio.sleep(line)
        if isinstance(line, dict):
            await ctx.publish(line)
            return CompletionCheck.not_ready()
        return line

    async def cancel(self, state, ctx):
        self.cancelled.append(state.batch_id)


class Box:
    class Inner(AsyncBatchStage):
        id = "inner"
        name = "Inner"


class Fault(BaseModel):
    name: str
    place: Literal["execute", "check_completion", "resume"] = "execute"


class Raising(AsyncBatchStage[Fault, Done]):
    """Raises an error of the package at one place of its life."""

    id = "raising"
    name = "Raising"
    config_schema = Fault

    ERRORS: ClassVar[dict[str, Exception]] = {
        "UsageError": UsageError("the usage. Fix the DAG."),
        "Rejected": Rejected("the refusal. Fix the request."),
        "Denied": Denied("the key. Fix the connection."),
        "Paused": Paused("the credit. Pay, then clear the task."),
        "Unavailable": Unavailable("the fault. Wait."),
        "NotFound": NotFound("the id. Fix it."),
        "Unresolved": Unresolved("the batch. Look at the provider."),
        "StageFailed": StageFailed("the stage. Read its message."),
        "Overdue": Overdue("the deadline. Raise it."),
        "RowsFailed": RowsFailed("the rows. See the digest.", digest=ErrorDigest(), retryable=False),
    }

    async def execute(self, ctx):
        if ctx.config.place == ("execute" if ctx.resume_state is None else "resume"):
            self._raise(ctx.config.name)
        return _suspended(ctx, 1)

    async def check_completion(self, state, ctx):
        if ctx.config.place == "check_completion":
            self._raise(ctx.config.name)
        return CompletionCheck.ready()

    def _raise(self, name):
        raise self.ERRORS[name] from RuntimeError("a fault of some library")


class Ending(AsyncBatchStage):
    """Tells at its only poll that all is done."""

    id = "ending"
    name = "Ending"

    async def check_completion(self, state, ctx):
        await ctx.publish({"done": state.batch_id})
        return CompletionCheck.ready()
