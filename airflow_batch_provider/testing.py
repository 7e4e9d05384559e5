"""Test stages of your own without Airflow, in milliseconds: days of waiting pass on a virtual clock.

    from datetime import timedelta

    from airflow_batch_provider.client import BatchHandle
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, Suspended, SuspendedState
    from airflow_batch_provider.testing import run_stage

    class Translations(AsyncBatchStage):
        id, name, dependencies = "translations", "Translate", ("texts",)

        async def execute(self, ctx):
            handle = await ctx.batch("openai:gpt-5").submit(ctx.require("texts"))
            return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=ctx.now()))

        async def check_completion(self, state, ctx):
            status = await ctx.batch("openai:gpt-5").get_status(state.batch_id)
            return CompletionCheck.ready({"batch": state.batch_id}) if status.ended else CompletionCheck.not_ready()

    class FakeBatches:
        polls = 0

        async def submit(self, requests):
            return BatchHandle(id="b-1", status="pending", provider="openai", batch_ids=("b-1",))

        async def get_status(self, batch_id):
            self.polls += 1
            return BatchStatus(batch_id=batch_id, status="completed" if self.polls == 3 else "processing")

    def test_a_translation_is_polled_until_it_is_done():
        result = run_stage(Translations, outputs={"texts": ["Guten Tag"]}, client=FakeBatches())

        assert result.output == {"batch": "b-1"}
        assert result.waited == timedelta(minutes=15)

The stage lives as in Airflow: each run has a fresh instance of its class; configuration, state, events and outputs pass
through JSON; the deadline counts. Public are the names in `__all__`.
"""

from __future__ import annotations

import json
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_batch_provider import loop
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.host import METRICS, PROGRESS, Host
from airflow_batch_provider.stages.loading import check_stage
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.suspension import StageLocation, Suspension

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from os import PathLike

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

__all__ = ["SimulatedTask", "StageResult", "VirtualClock", "run_stage"]

_START = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = TaskKey("dag", "run", "task")


class VirtualClock:
    """Time that only passes while somebody sleeps, or by hand."""

    def __init__(self, start: datetime = _START) -> None:
        self._now = start

    @property
    def clock(self) -> Clock:
        """Now and sleep, as the package takes them."""
        return Clock(self.now, self.sleep)

    def now(self) -> datetime:
        """Return the virtual time, aware."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


def _virtual_clock() -> Clock:
    return VirtualClock().clock


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


def run_stage(  # noqa: PLR0913 — one argument for each thing that a task is given
    stage: type[AsyncBatchStage[Any, Any]],
    *,
    config: Any = None,
    input: Any = None,  # noqa: A002 — the word of the stage contract
    outputs: Mapping[str, Any] | None = None,
    client: Any = None,
    accounts: Mapping[str, Account] | None = None,
    conn_id: str | None = None,
    poll: PollConfig | None = None,
    storage: PathLike[str] | str | None = None,
    clock: Clock | None = None,
) -> StageResult:
    """Run a stage to its end, as an Airflow task would, and return what became of it.

    Args:
        stage: the class; every run has a new instance of it.
        config: what the stage's `config_schema` takes.
        input: what the stage finds in `ctx.input`.
        outputs: outputs of the upstream tasks by task id, for `ctx.require` and `ctx.optional`; JSON.
        client: given to the stage for every `ctx.batch(…)`; has the verbs of `BatchClient` that the stage uses.
        accounts: accounts by connection id, for stages that talk to the emulator; instead of `client`.
        conn_id: connection that `ctx.batch` uses when none is named; the only one of `accounts` by default.
        poll: wins over the stage's own, as `AsyncBatchStageOperator(poll=…)` does.
        storage: folder for stage storage; a temporary one by default, which is removed afterwards.
        clock: the time; virtual by default.

    Raises:
        StageFailed: a completion check failed.
        Overdue: the deadline passed, and the stage saved nothing.
        UsageError: config, input, output or state do not fit, or a task that the stage depends on is not upstream.
    """
    with _folder(storage) as folder:
        task = SimulatedTask(
            stage,
            storage=folder,
            config={} if config is None else config,
            input=input,
            outputs=outputs or {},
            client=client,
            accounts=accounts or {},
            conn_id=conn_id,
            poll=poll,
            clock=clock or _virtual_clock(),
        )
        return loop.run(task.run())


@contextmanager
def _folder(storage: PathLike[str] | str | None) -> Iterator[str]:
    if storage is not None:
        yield str(storage)
        return
    with TemporaryDirectory(prefix="stage-") as made:
        yield made


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
    clock: Clock = field(default_factory=_virtual_clock)
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
