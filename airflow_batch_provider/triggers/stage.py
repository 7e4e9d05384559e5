"""The one trigger: it polls a suspended stage until the worker is needed, and never submits anything."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.hosts import TriggererHost
from airflow_batch_provider.airflow.once import once_per_loop
from airflow_batch_provider.airflow.records import records
from airflow_batch_provider.airflow.task_state import TERMINAL, ask_from_trigger
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.layout import REGISTRY
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.stages.faults import is_passing
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.loading import load_stage
from airflow_batch_provider.stages.polling import event
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.suspension import Suspension
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import EVENT_DELAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_batch_provider.stages.host import Host
    from airflow_batch_provider.stages.polling import Event

log = logging.getLogger(__name__)

# Airflow before 3.3 only cancels `run`, without a reason.
_TELLS_KILLS = hasattr(BaseTrigger, "on_kill")

# Cancellations on their way; Python keeps no strong reference to a running task.
_KILLS: set[asyncio.Task[None]] = set()


class AsyncBatchTrigger(BaseTrigger):
    """Polls a suspended stage in the triggerer: one trigger for all batches of the stage.

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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and the arguments to build it again."""
        return f"{__name__}.{type(self).__name__}", self.suspension.kwargs()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `ready`, `failed` or `timeout`."""
        try:
            found = await self._until_event()
            await self._delay()
        except asyncio.CancelledError:
            records().take(self.suspension.task)  # the next try of the task shows its own
            if not _TELLS_KILLS:
                await self.on_kill()
            raise
        self._fired = True  # after the event, Airflow may take this for a killed trigger
        yield TriggerEvent(found)

    async def on_kill(self) -> None:
        """Cancel the batch when the task is over, and only then: see `task_state.TERMINAL`.

        Airflow cancels the trigger's task again each second until it is gone (3.3.2, `TriggerRunner.cancel_triggers`),
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
            state = await ask_from_trigger(task)
        except Exception as error:  # noqa: BLE001 — whoever cannot be asked, a batch that goes on costs less than two
            log.warning("Airflow does not say the state of %s (%r), so its batch is left alone.", task, error)
            return
        if state not in TERMINAL:
            log.info("%s is %r, so its batch is left to the try or the triggerer that owns it now.", task, state)
            return
        try:
            run = await self._stage_run()
            log.info("%s is %r: %s", task, state, await run.cancel(self.suspension))
        except Exception as error:
            log.debug("Cancelling failed", exc_info=True)
            awaited = self.suspension.awaited
            log.warning("What %s waits for was not cancelled (%s): %s; do it at the provider.", task, error, awaited)

    async def _delay(self) -> None:
        """Wait out the time in which Airflow may take a quick resume for a failure; `dag.test` has no such time."""
        if self.task_instance is None:
            return
        left = EVENT_DELAY - (self._clock.now() - self.suspension.suspended_at)
        if left > timedelta(0):
            # The worker's clock may be ahead of this one.
            await self._clock.sleep(min(left, EVENT_DELAY).total_seconds())

    async def _until_event(self) -> Event:
        is_logged = False
        while True:
            try:
                run = await self._stage_run()
                suspension = self.suspension
                if suspension.is_bare:
                    suspension = await asyncio.to_thread(run.files.whole, suspension)
            except UsageError as error:
                return event("failed", str(error))
            except Exception as error:
                if not is_passing(error):
                    raise
                if self._clock.now() >= self.suspension.deadline:
                    return event("timeout", f"Stage storage cannot be read: {error}")
                if not is_logged:
                    log.warning("Stage storage of %s cannot be read: %s Trying on.", self.suspension.task, error)
                is_logged = True
                await self._clock.sleep(self.suspension.poll.interval.total_seconds())
            else:
                return await run.until_event(suspension)

    async def _stage_run(self) -> StageRun:
        """Make the stage ready to be polled, in one thread, for a triggerer may start a thousand at once."""
        host, roots = TriggererHost(self._clock, self.suspension.task), _roots()
        uri = self.suspension.location.storage
        is_local = "://" not in uri or uri.startswith("file:")
        if not is_local and not supervisor.threads_may_ask():
            _root(uri, host, roots)
        return await asyncio.to_thread(self._made, host, roots)

    def _made(self, host: Host, roots: dict[str, _Root]) -> StageRun:
        """Import the stage's class, open its storage, read its configuration; blocking."""
        location = self.suspension.location
        stage, root = load_stage(location.stage), _root(location.storage, host, roots)
        run = StageRun(
            stage=stage,
            location=location,
            files=StageFiles(location.folder(root.directory)),
            host=host,
            registry=Registry(root.registry, host.budgets, location.task),
            jitter=self._jitter,
        )
        run.load_config()
        return run


class _Root(NamedTuple):
    """The root of a deployment's stage storage, and the registry's folder there, for all triggers that wait below it."""

    directory: Directory
    registry: Directory


@once_per_loop
def _roots() -> dict[str, _Root]:
    """Return the roots that are open, by address: Airflow keeps the filesystem of each for as long."""
    return {}


def _root(uri: str, host: Host, roots: dict[str, _Root]) -> _Root:
    found = roots.get(uri)
    if found is None:
        directory = Directory(host.open_path(uri))
        found = roots[uri] = _Root(directory, directory.sub(REGISTRY))
    return found
