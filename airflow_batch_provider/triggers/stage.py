"""The one trigger: it looks at a suspended stage until the worker is needed, and never submits anything."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages import CheckCompletionContext
from airflow_batch_provider.storage import StageStorage
from airflow_batch_provider.triggers import hubs, supervisor
from airflow_batch_provider.triggers.suspension import StageFiles, Suspension, load_stage, place_of
from airflow_batch_provider.triggers.watch import Watch, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# Airflow before 3.3 only cancels `run`, without a word why.
_TELLS_KILLS = hasattr(BaseTrigger, "on_kill")

# Cancellations on their way; Python keeps no strong reference to a running task.
_KILLS: set[asyncio.Task[None]] = set()

# The scheduler may hear of a worker's exit after the event has queued the task again, and then fails the task
# (apache/airflow#66374, #67287, #72716; not mended in 3.3.2). The reports there tell of 3 to 27 seconds, and here a busy
# machine took more than 5. Batches take minutes: holding back what is quicker costs nothing.
HOLD = timedelta(seconds=20)

# Seconds between two progress records of one task.
_PROGRESS_EVERY = 60.0


class AsyncBatchTrigger(BaseTrigger):
    """Looks at a suspended stage in the triggerer: one for all batches of the stage.

    Args:
        **suspension: the fields of `Suspension`; plain JSON, because Airflow keeps them in its database unencrypted.
    """

    def __init__(self, **suspension: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.suspension = Suspension.model_validate(suspension)
        self._clock = Clock()
        self._jitter = random.random
        self._fired = False
        self._killed = False
        self._shown: tuple[datetime, dict[str, Any]] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of this class and the arguments to build it again."""
        return f"{__name__}.{type(self).__name__}", self.suspension.kwargs()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `ready`, `failed` or `timeout`."""
        try:
            found = await self._find()
            await self._hold()
        except asyncio.CancelledError:
            if not _TELLS_KILLS:
                await self.on_kill()
            raise
        finally:
            await hubs.leave(self)  # before the event: after it, Airflow may take this for a killed trigger
        self._fired = True
        yield TriggerEvent(found)

    async def _hold(self) -> None:
        """Wait out the time in which Airflow may take a quick resume for a failure; `dag.test` has no such time."""
        if self.task_instance is None:
            return
        left = HOLD - (self._clock.now() - self.suspension.suspended_at)
        if left > timedelta(0):
            await self._clock.sleep(min(left, HOLD).total_seconds())  # the worker's clock may be ahead of this one

    async def on_kill(self) -> None:
        """Cancel the batch when the task is over, and only then: see `supervisor.TERMINAL`.

        Airflow cancels the trigger's task anew each second until it is gone (3.3.2, `TriggerRunner.cancel_triggers`),
        also in the middle of this method; the work is done in a task of its own, which that does not reach.
        """
        if self._fired or self._killed:
            return
        self._killed = True
        work = asyncio.create_task(self._kill())
        _KILLS.add(work)
        work.add_done_callback(_KILLS.discard)
        await asyncio.shield(work)

    async def _kill(self) -> None:
        task = self.suspension.task
        try:
            state = await supervisor.task_state(task)
        except Exception:
            log.warning("Airflow does not tell the state of %s, so its batch is left alone.", task, exc_info=True)
            return
        if state not in supervisor.TERMINAL:
            log.info("%s is %r, so its batch is left to the try or the triggerer that owns it now.", task, state)
            return
        log.info("%s is %r: cancelling batch %r.", task, state, self.suspension.state.batch_id)
        user = object()  # keeps the connections open when the trigger itself has left
        try:
            watch = await self._open(user)
            await watch.stage.cancel(self.suspension.state, watch.ctx)
        except Exception:
            log.warning(
                "Batch %r was not cancelled: do it at the provider.", self.suspension.state.batch_id, exc_info=True
            )
        finally:
            await hubs.leave(user)

    async def cleanup(self) -> None:
        """Give back the shared connections."""
        await hubs.leave(self)

    async def _find(self) -> Any:
        told = False
        while True:
            try:
                watch = await self._open(self)
            except UsageError as error:
                return event("failed", str(error))
            except OSError as error:
                if self._clock.now() >= self.suspension.deadline:
                    return event("timeout", f"Stage storage cannot be read: {error}")
                if not told:
                    log.warning("Stage storage of %s cannot be read: %s Trying on.", self.suspension.task, error)
                told = True
                await self._clock.sleep(self.suspension.poll.interval.total_seconds())
            else:
                return await watch.until_event()

    async def _open(self, user: object) -> Watch:
        place = place_of(self.suspension)
        stage = await asyncio.to_thread(load_stage, place.stage)
        directory = await self._directory()
        files = StageFiles(directory)
        hub = hubs.join(user, self._clock).subscribe(self.suspension.poll.interval, self._clock.sleep)
        ctx = CheckCompletionContext(
            stage_id=stage.id,
            key=self.suspension.task,
            config=await asyncio.to_thread(files.config, stage),
            storage=StageStorage(directory),
            hub=hub,
            default_conn_id=self.suspension.conn_id,
            poll=self.suspension.poll,
            logger=log,
            publish=self._publish,
            now=self._clock.now,
            sleep=self._clock.sleep,
        )
        return Watch(stage, ctx, hub, self.suspension, files, self._clock, self._jitter)

    async def _directory(self) -> Directory:
        place = place_of(self.suspension)
        if supervisor.threads_may_ask() or "://" not in place.storage or place.storage.startswith("file:"):
            return await asyncio.to_thread(place.directory)
        return place.directory()

    async def _publish(self, record: dict[str, Any]) -> None:
        now = self._clock.now()
        if self._shown is not None:
            then, shown = self._shown
            if shown == record or (now - then).total_seconds() < _PROGRESS_EVERY:
                return
        self._shown = (now, record)
        if "message" in record:
            log.info("%s", record["message"])
        await supervisor.publish_progress(self.suspension.task, record)
