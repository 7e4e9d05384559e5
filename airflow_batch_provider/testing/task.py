"""One task instance without Airflow, step by step, and what became of it."""

from __future__ import annotations

import json
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.host import METRICS, PROGRESS, Host
from airflow_batch_provider.stages.loading import check_stage
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.suspension import StageLocation, Suspension
from airflow_batch_provider.testing.time import virtual_clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Account, ConnectionRef
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.stages import (
        AsyncBatchStage,
        CheckCompletionContext,
        CompletionCheck,
        PollConfig,
        SuspendedState,
    )
    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.runner import Outcome

_KEY = TaskKey("dag", "run", "task")


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The outcome of a stage.

    Attributes:
        output: as JSON values, as the next task gets it.
        suspensions: every wait, in order; `state`, `poll` and `deadline` of each.
        checks: everything that `check_completion` returned, in order.
        waited: virtual time between the suspensions and their events.
        metrics: numbers of all suspensions and checks; of equal names the last.
        progress: every record of `ctx.progress` and `ctx.publish`.
    """

    output: Any
    suspensions: tuple[Suspension, ...] = ()
    checks: tuple[CompletionCheck[Any], ...] = ()
    waited: timedelta = timedelta(0)
    metrics: dict[str, float] = field(default_factory=dict)
    progress: tuple[dict[str, Any], ...] = ()


@dataclass
class SimulatedTask(Host):
    """One task instance, step by step: `start`, `wait`, `proceed`, or all of them by `run`.

    The arguments are those of `run_stage`. Each step is a process of its own that knows the files and the trigger's
    arguments only, so a test may leave steps out, repeat them, or let two tasks share a storage.

    Attributes:
        hub_in_use: open connections to use instead of connections to `accounts`; not closed.
        registry: where submits are noted for the whole deployment.
    """

    stage: type[AsyncBatchStage[Any, Any]]
    storage: str
    config: Any = field(default_factory=dict)
    input: Any = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    client: Any = None
    accounts: Mapping[str, Account] = field(default_factory=dict)
    conn_id: str | None = None
    poll: PollConfig | None = None
    clock: Clock = field(default_factory=virtual_clock)
    key: TaskKey = _KEY
    hub_in_use: Hub | None = None
    registry: Registry | None = None
    suspensions: list[Suspension] = field(default_factory=list)
    checks: list[CompletionCheck[Any]] = field(default_factory=list)
    waited: timedelta = timedelta(0)
    metrics: dict[str, float] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upstream = frozenset(self.outputs)

    async def run(self) -> StageResult:
        """Go from the start to the output."""
        outcome = await self.start()
        while isinstance(outcome, Suspension):
            outcome = await self.proceed(await self.wait(outcome))
        return StageResult(
            output=_through_json(outcome.output),
            suspensions=tuple(self.suspensions),
            checks=tuple(self.checks),
            waited=self.waited,
            metrics=self.metrics,
            progress=tuple(self.progress),
        )

    async def start(self) -> Outcome:
        """Execute the stage from the top, in a worker."""
        check_stage(self.stage)
        return self._noted(await self.stage_run().start(self.config, self.input))

    async def wait(self, suspension: Suspension) -> Event:
        """Poll until there is an event, in a triggerer, which has the trigger's arguments only."""
        arguments = _through_json(suspension.kwargs())
        before = self.clock.now()
        try:
            found: Event = _through_json(await self.stage_run().until_event(Suspension.model_validate(arguments)))
            return found
        finally:
            self.waited += self.clock.now() - before

    async def proceed(self, event: Event) -> Outcome:
        """Go on after an event, in a worker that finds the wait in stage storage."""
        run = self.stage_run()
        return self._noted(await run.proceed(run.files.suspension(), event, self.input))

    def stage_run(self) -> StageRun:
        """Return the stage in a new process."""
        location = StageLocation(
            stage=f"{self.stage.__module__}.{self.stage.__qualname__}",
            task=self.key,
            storage=self.storage,
            conn_id=self.conn_id or next(iter(self.accounts), None),
        )
        return _ObservedRun(
            stage=self.stage(),
            location=location,
            files=StageFiles(location.directory(self.open_path)),
            host=self,
            registry=self.registry,
            poll=self.poll,
            jitter=_no_jitter,
            checks=self.checks,
        )

    # as host

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        """Open connections to `accounts`."""
        return (
            nullcontext(self.hub_in_use)
            if self.hub_in_use
            else aclosing(Hub(self._account, sleep=_no_sleep, now=self.clock.now))
        )

    def output_of(self, task_id: str) -> Any:
        """Return an upstream output as XCom hands it over."""
        return _through_json(self.outputs[task_id])

    async def publish(self, key: str, value: Any) -> None:
        """Keep what people would see."""
        shown = _through_json(value)
        if key == PROGRESS:
            self.progress.append(shown)
        elif key == METRICS:
            self.metrics |= shown

    async def _account(self, connection: ConnectionRef) -> Account:
        if connection.conn_id not in self.accounts:
            raise UsageError(
                f"The test gives no account for connection {connection.conn_id!r}. Give accounts= or client= to run_stage."
            )
        return self.accounts[connection.conn_id]

    def _noted(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Suspension):
            self.suspensions.append(outcome)
        return outcome


@dataclass(kw_only=True)
class _ObservedRun(StageRun):
    checks: list[CompletionCheck[Any]]

    async def check(self, state: SuspendedState, ctx: CheckCompletionContext[Any]) -> CompletionCheck[Any]:
        check = await super().check(state, ctx)
        self.checks.append(check)
        return check


def _through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _no_jitter() -> float:
    return 0.0


async def _no_sleep(_seconds: float) -> None:
    """A hub that waits for neighbours would wait in vain."""
