"""The life of one stage, without Airflow: start, suspend, poll, resume, until it returns, fails or is overdue."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_batch_provider.client.purchases import bought_below
from airflow_batch_provider.exceptions import StageFailed, Unavailable, UsageError
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.stages.base import fate
from airflow_batch_provider.stages.context import CheckCompletionContext, StageContext
from airflow_batch_provider.stages.host import BATCH_IDS, EMBEDDINGS, METRICS, PROGRESS
from airflow_batch_provider.stages.polled_wait import PolledWait
from airflow_batch_provider.stages.polling import with_bought
from airflow_batch_provider.stages.shapes import as_check, as_suspended, output_json, parse_config, parse_input, shown
from airflow_batch_provider.stages.suspension import Suspension
from airflow_batch_provider.storage import StageStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.signals import WaitEnd
    from airflow_batch_provider.stages.base import AsyncBatchStage
    from airflow_batch_provider.stages.files import StageFiles
    from airflow_batch_provider.stages.host import Host
    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.suspension import StageLocation
    from airflow_batch_provider.stages.values import CompletionCheck, PollConfig, SuspendedState

# A trigger that is lost more often than this in one wait will not come back.
MOST_LOST = 3


@dataclass(frozen=True)
class Finished:
    """The stage has returned; its output as JSON values."""

    output: Any


Outcome: TypeAlias = Finished | Suspension
"""The outcome of one run of a stage on a worker."""


@dataclass(kw_only=True)
class StageRun:
    """One stage in one process; another process goes on from the files, in a run of its own.

    Attributes:
        registry: where submits are noted for the whole deployment, and landed batches leave.
        poll: wins over the stage's own.
        config: in the shape of the stage's `config_schema`; None reads the saved one when it is needed.
        tells_near: somebody wants to be told when a deadline is near, by the event of that name.
        jitter: a number from 0 to 1 for each poll, so that stages which started together spread.
    """

    stage: AsyncBatchStage[Any, Any]
    location: StageLocation
    files: StageFiles
    host: Host
    registry: Registry | None = None
    poll: PollConfig | None = None
    tells_near: bool = False
    jitter: Callable[[], float] = random.random
    config: Any = None
    _has_config: bool = field(default=False, init=False)

    async def start(self, config: Any, value: Any) -> Outcome:
        """Execute the stage from the top; the configuration is kept for every later run.

        Args:
            value: the stage's input.

        Raises:
            UsageError: config or input do not fit, or a task that the stage depends on is not upstream.
        """
        self._check_dependencies()
        self.config, value = parse_config(self.stage, config), parse_input(self.stage, value)
        self.files.save_config(self.config)
        self.files.config(self.stage)  # one that later runs could not read is refused before anything is paid
        return await self._execute(None, value)

    async def proceed(self, suspension: Suspension, event: Event, value: Any = None) -> Outcome:
        """Go on after a wait, as its event says.

        Raises:
            StageFailed: the completion check said so.
            Unavailable: polling failed, and another attempt may go on with the same batch.
        """
        if event.get("has_record"):
            await self._show_kept(suspension.token)
        if event["status"] == "near":
            return self._wait_on(suspension)
        if event["status"] == "failed":
            if event.get("retryable"):
                raise Unavailable(str(event["error"]), ambiguous=False)
            raise StageFailed(with_bought(str(event["error"]), await self._bought()))
        if event["status"] == "timeout":
            if event["error"]:
                self.host.logger.warning("The last poll before the deadline: %s", event["error"])
            return await self.overdue(suspension)
        return await self.resume(suspension, value)

    async def resume(self, suspension: Suspension, value: Any = None) -> Outcome:
        """Return what the completion check returned, or execute the stage again with the suspended state."""
        found = self.files.output(suspension.token)
        if metrics := found.get("metrics"):
            await self.host.publish(METRICS, shown(suspension.metrics | metrics))
        if (embeddings := found.get("embeddings")) is not None:
            await self.host.publish(EMBEDDINGS, shown(embeddings))
        if "output" in found:
            return Finished(output_json(self.stage, found["output"]))
        return await self._execute(suspension, parse_input(self.stage, value))

    async def overdue(self, suspension: Suspension) -> Outcome:
        """Let the stage save what it can, because the deadline has passed; it returns or raises."""
        async with self.host.hub() as hub:
            return await self._outcome(await self.stage.overdue(self.stage_context(hub, suspension)))

    async def cancel(self, suspension: Suspension) -> str:
        """Let the stage stop what it bought; return a sentence about it."""
        suspension = await asyncio.to_thread(self.files.whole, suspension)
        async with self.host.hub() as hub:
            cancelled = await self.stage.cancel(suspension.state, self.check_context(hub, suspension))
        return fate(suspension.state.batch_id, cancelled)

    async def until_event(self, suspension: Suspension) -> Event:
        """Sleep and poll until the stage is ready, has failed, or the deadline passes; the deadline itself gets a poll."""
        if suspension.is_bare:
            suspension = await asyncio.to_thread(self.files.whole, suspension)
        told = self.host.signals.wait(suspension.begun(self.host.clock.now()))
        end: WaitEnd = "stopped"
        try:
            async with self.host.hub() as hub:
                subscription = hub.subscribe(suspension.poll.interval, self.host.clock.sleep)
                found = await PolledWait(self, subscription, suspension).until_event(subscription, told)
            end = found["status"]
            return found
        finally:
            told.over(end, self.host.clock.now())

    async def recover(self, suspension: Suspension, why: object) -> Event | Suspension:
        """Poll once in place of a trigger that was lost; where that gives nothing, wait again.

        Raises:
            Unavailable: triggers were lost too often.
        """
        async with self.host.hub() as hub:
            found = await PolledWait(self, hub, suspension).poll()
        if not isinstance(found, timedelta):
            return found
        again = suspension.again(self.host.clock.now())
        if again.lost > MOST_LOST:
            raise Unavailable(
                f"The trigger of {suspension.task} was lost {again.lost} times ({why}). The batch runs on; see the "
                "triggerer's log, then clear the task: it goes on with the same batch.",
                ambiguous=False,
            )
        self.files.save_suspension(again)
        return again

    def _wait_on(self, suspension: Suspension) -> Suspension:
        """Wait on, after somebody was told that the deadline is near."""
        on = suspension.after_near(self.host.clock.now())
        self.files.save_suspension(on)
        return on

    def load_config(self) -> Any:
        """Read the saved configuration once; blocking. That of a stage without one is None."""
        if self.config is None and not self._has_config:
            self.config = self.files.config(self.stage)
            self._has_config = True
        return self.config

    def stage_context(self, hub: Hub, suspension: Suspension | None = None, value: Any = None) -> StageContext[Any]:
        """Return what `execute` and `overdue` are given."""
        return StageContext(
            **self._shared(hub, suspension),
            input=value,
            resume_state=suspension.state if suspension else None,
            pull=self._output_of,
            upstream=tuple(sorted(self.host.upstream)),
            open_path=self.host.open_path,
        )

    def check_context(
        self, hub: Hub | Subscription, suspension: Suspension | None = None
    ) -> CheckCompletionContext[Any]:
        """Return what `check_completion` and `cancel` are given."""
        return CheckCompletionContext(**self._shared(hub, suspension))

    async def check(self, state: SuspendedState, ctx: CheckCompletionContext[Any]) -> CompletionCheck[Any]:
        """Ask the stage.

        Raises:
            StageFailed: it called `sys.exit`, which would end whatever else runs in this process.
        """
        try:
            return as_check(self.stage, await self.stage.check_completion(state, ctx))
        except SystemExit as ended:
            raise StageFailed(
                f"check_completion of stage {self.stage.id!r} called sys.exit({ended.code!r}). Return "
                "CompletionCheck.failed(reason) instead."
            ) from None

    async def _execute(self, suspension: Suspension | None, value: Any) -> Outcome:
        try:
            async with self.host.hub() as hub:
                return await self._outcome(await self.stage.execute(self.stage_context(hub, suspension, value)))
        except UsageError as error:
            error.args = (with_bought(str(error), await self._bought()),)
            raise

    async def _bought(self) -> tuple[str, ...]:
        """Return the batches that `ctx.batch` has bought for this task; none where they cannot be read now."""
        try:
            return await asyncio.to_thread(bought_below, self.files.directory)
        except Exception:  # the errors of object stores have no common class
            self.host.logger.debug("What %s has bought cannot be read", self.location.task, exc_info=True)
            return ()

    async def _outcome(self, returned: Any) -> Outcome:
        if isinstance(returned, Manifest) and returned.batches:
            await self.host.publish(BATCH_IDS, list(returned.batches))
        suspended = as_suspended(self.stage, returned)
        if suspended is None:
            return Finished(output_json(self.stage, returned))
        now, traceparent = self.host.clock.now(), self.host.signals.traceparent()
        suspended.state.check_time(now)
        suspension = Suspension.begin(self.location, suspended, now, self.poll, traceparent)
        if self.tells_near:
            suspension = suspension.with_near(self.files.last_suspension())
        self.files.save_suspension(suspension)
        await self.host.publish(BATCH_IDS, list(suspended.batch_ids) or suspension.batch_ids)
        if suspension.metrics:
            await self.host.publish(METRICS, shown(suspension.metrics))
        return suspension

    def _shared(self, hub: Hub | Subscription, suspension: Suspension | None) -> dict[str, Any]:
        return {
            "stage_id": self.stage.id,
            "key": self.location.task,
            "config": self.load_config(),
            "storage": StageStorage(self.files.directory),
            "hub": hub,
            "default_conn_id": self.location.conn_id,
            "poll": suspension.poll if suspension else None,
            "logger": self.host.logger,
            "publish": self._show,
            "now": self.host.clock.now,
            "sleep": self.host.clock.sleep,
            "new_id": self.host.new_id,
            "registry": self.registry,
            "client": self.host.client,
            "signals": self.host.signals,
        }

    async def _show_kept(self, token: str) -> None:
        """Show the last record of a wait, which ended before it was shown; one that cannot be read stops nothing."""
        try:
            record = await asyncio.to_thread(self.files.record, token)
        except Exception:  # the errors of object stores have no common class
            self.host.logger.debug("The last record of %s cannot be read", self.location.task, exc_info=True)
            return
        if record is not None:
            await self.host.publish(*record)

    async def _show(self, record: dict[str, Any], key: str = PROGRESS) -> None:
        await self.host.publish(key, record)

    def _check_dependencies(self) -> None:
        for task_id in self.stage.dependencies:
            if self._upstream_id(task_id) is None:
                known, name = ", ".join(sorted(self.host.upstream)) or "none", self.location.task.task_id
                raise UsageError(
                    f"Stage {self.stage.id!r} depends on task {task_id!r}, which is not upstream of {name!r} "
                    f"(upstream: {known}). Add {task_id} >> {name}."
                )

    def _output_of(self, task_id: str) -> Any:
        known = self._upstream_id(task_id)
        return None if known is None else self.host.output_of(known)

    def _upstream_id(self, task_id: str) -> str | None:
        """The full id of an upstream task: inside a task group, its own name is enough where only one has it."""
        if task_id in self.host.upstream:
            return task_id
        inside = [known for known in self.host.upstream if known.endswith(f".{task_id}")]
        return inside[0] if len(inside) == 1 else None
