"""One wait of a stage: polled until it is ready, has failed, or the deadline passes; what may pass is polled again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import BatchError, Denied
from airflow_batch_provider.stages.faults import is_passing
from airflow_batch_provider.stages.first_step import FirstStep
from airflow_batch_provider.stages.polling import READY, PollPlan, event, with_remedy
from airflow_batch_provider.stages.shapes import as_json, output_json
from airflow_batch_provider.timing import CHECK_GRACE

if TYPE_CHECKING:
    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.signals import WaitSignals
    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.runner import StageRun
    from airflow_batch_provider.stages.suspension import Suspension
    from airflow_batch_provider.stages.values import CompletionCheck


class PolledWait:
    """One wait in one process.

    Args:
        hub: through which the stage asks its providers.
    """

    def __init__(self, run: StageRun, hub: Hub | Subscription, suspension: Suspension) -> None:
        self._run = run
        self._suspension = suspension
        self._ctx = run.check_context(hub, suspension)
        self._plan = PollPlan(suspension)

    async def until_event(self, subscription: Subscription, told: WaitSignals) -> Event:
        """Pause and poll until there is an event."""
        clock = self._run.host.clock
        await self._listen(subscription)
        pause = self._plan.first_pause(clock.now())
        while True:
            begun = clock.now()
            pause = self._plan.within_deadline(pause, begun)
            await subscription.pause(pause)
            told.polled(max((clock.now() - begun).total_seconds() - pause, 0.0))
            found = await self.poll()
            if not isinstance(found, timedelta):
                return await self._with_record(found)
            await self._run.host.publish_due()
            pause = found.total_seconds() * (1 + 0.1 * self._run.jitter())

    async def _with_record(self, found: Event) -> Event:
        """Return the event; what people have not seen yet waits in stage storage for the worker that it wakes."""
        record = await self._run.host.unshown()
        if record is None:
            return found
        try:
            await asyncio.to_thread(self._run.files.save_record, self._suspension.token, record)
        except Exception:  # nothing depends on a record, and the errors of object stores have no common class
            self._run.host.logger.debug("The last record of %s was not kept", self._suspension.task, exc_info=True)
            return found
        return {**found, "has_record": True}

    async def _listen(self, subscription: Subscription) -> None:
        connection = self._run.stage.polled_connection(self._run.load_config())
        if connection is not None:
            for batch_id in self._suspension.batch_ids:
                await subscription.listen(connection, batch_id)

    async def poll(self) -> Event | timedelta:
        """Ask the stage once; return how waiting ended, or how long to pause."""
        try:
            check = await self._in_time()
            found = self._plan.after_check(check, self._run.host.clock.now())
            if found == READY:
                await self._keep(check)
        except Denied as error:
            return event("failed", with_remedy(error), retryable=True)
        except Exception as error:  # noqa: BLE001 — a user's stage may raise anything; the task must end, not hang
            if is_passing(error):
                return await self._after_fault(error)
            if isinstance(error, BatchError):
                return event("failed", str(error))
            return event(
                "failed", f"{type(error).__name__} in check_completion of {self._run.location.stage!r}: {error}"
            )
        return found

    async def _in_time(self) -> CompletionCheck[Any]:
        """Ask the stage, and take no answer for a fault that may pass; the poll at the deadline has a few minutes too."""
        begun = FirstStep(self._run.check(self._suspension.state, self._ctx))
        if begun.is_over:  # a limit of time for each poll would cost as much as the poll
            return await begun
        left = self._plan.within_deadline(float("inf"), self._run.host.clock.now()) + CHECK_GRACE.total_seconds()
        try:
            async with asyncio.timeout(left) as limit:
                return await begun
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"check_completion of stage {self._run.stage.id!r} never returned.") from None
            raise

    async def _after_fault(self, error: Exception) -> Event | timedelta:
        found = self._plan.after_fault(error, self._run.host.clock.now())
        if isinstance(found, timedelta) and self._plan.faults == 1:
            until = self._suspension.deadline.isoformat()
            await self._ctx.log("WARN", f"{type(error).__name__}: {error} Polling again until {until}.")
        return found

    async def _keep(self, check: CompletionCheck[Any]) -> None:
        """Keep what a check returned for the worker that resumes the stage."""
        kept: dict[str, Any] = {"metrics": as_json(check.metrics), "embeddings": as_json(check.embeddings)}
        if check.output is not None:
            kept["output"] = output_json(self._run.stage, check.output)
        if check.output is not None or check.metrics or check.embeddings is not None:
            await asyncio.to_thread(self._run.files.save_output, self._suspension.token, kept)
