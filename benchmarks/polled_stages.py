"""What `polling_load.py` runs in Airflow's triggerer: our stages, whose checks are counted, and Airflow's part alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_batch_provider.stages.generate import GenerateStage
from airflow_batch_provider.stages.wait import WaitForBatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_batch_provider.stages import CheckCompletionContext, CompletionCheck, SuspendedState

CHECKS = {"number": 0}
HOUR = 3600.0


class Generate(GenerateStage):
    """The stage of `BatchGenerateOperator`."""

    async def check_completion(self, state: SuspendedState, ctx: CheckCompletionContext[Any]) -> CompletionCheck[Any]:
        CHECKS["number"] += 1
        return await super().check_completion(state, ctx)


class Wait(WaitForBatch):
    """The stage of `BatchSensor`."""

    async def check_completion(self, state: SuspendedState, ctx: CheckCompletionContext[Any]) -> CompletionCheck[Any]:
        CHECKS["number"] += 1
        return await super().check_completion(state, ctx)


class Sleeper(BaseTrigger):
    """The least that a deferred task can be: it sleeps for good, so that what it costs is what Airflow does for any trigger."""

    def __init__(self, **suspension: Any) -> None:
        super().__init__()
        self.suspension = suspension

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Sleeper", self.suspension

    async def run(self) -> AsyncIterator[TriggerEvent]:
        CHECKS["number"] += 1
        await asyncio.sleep(HOUR)
        yield TriggerEvent({})  # makes this an asynchronous generator, as Airflow wants it
