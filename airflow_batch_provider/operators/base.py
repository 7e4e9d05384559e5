"""The operator behind all operators of this package: starts a stage, defers while it waits, resumes it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator

from airflow_batch_provider import loop
from airflow_batch_provider.airflow import settings, signals
from airflow_batch_provider.airflow.exceptions import (
    AirflowSensorTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
    as_airflow_errors,
)
from airflow_batch_provider.airflow.heap import arrow_takes_little, heap_set_aside
from airflow_batch_provider.airflow.hosts import WorkerHost
from airflow_batch_provider.airflow.reach import require_reach
from airflow_batch_provider.airflow.signals.notifiers import checked, errors_noticed, near_notice, notify
from airflow_batch_provider.airflow.xcom import to_xcom
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.links import CONSOLE_LINKS, BatchLink
from airflow_batch_provider.links.page import has_page
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.loading import load_stage
from airflow_batch_provider.stages.polling import READY
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.suspension import StageLocation, Suspension, seconds_until
from airflow_batch_provider.timing import DEADLINE_MARGIN
from airflow_batch_provider.triggers.stage import AsyncBatchTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_batch_provider.airflow.signals.notifiers import Notify
    from airflow_batch_provider.stages import PollConfig
    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.runner import Outcome


class StageOperator(BaseOperator):
    """Runs one stage; private, the base of this package's operators and of its sensor.

    Attributes:
        stage: `module.Class`.
        storage_path: root of stage storage, a URI; None takes the configured one.
        deferrable: False waits on the worker.
        poll: wins over the stage's own; None for stages whose configuration says it.
        on_deadline_near, on_unresolved, on_budget: whom to tell, see `airflow/signals/notifiers.py`.
    """

    stage: str
    conn_id: str | None
    storage_path: str | None
    deferrable: bool
    poll: PollConfig | None = None
    on_deadline_near: Notify = None
    on_unresolved: Notify = None
    on_budget: Notify = None
    operator_extra_links = (*([BatchLink()] if has_page() else []), *CONSOLE_LINKS)

    _clock: ClassVar[Clock] = Clock()

    def execute_complete(self, context: Context, event: Event | None = None) -> Any:
        """Resume the task; everything but the event comes from stage storage."""
        with self._running(context):
            run = self._stage_run(context)
            outcome = self._proceed(run, context, run.files.suspension(), event or READY)
            return self._until_end(run, context, outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Do as Airflow does, but a lost trigger (crashed, not importable, timed out) gets a poll and a successor."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout, AirflowSensorTimeout) as error:
            why = str(error)
        with self._running(context):
            return self._recover(context, why)

    def _begin(self, context: Context, config: Any, value: Any) -> Any:
        """Start the stage; the first run of a try."""
        with self._running(context):
            require_reach(self.storage_path)
            run = self._stage_run(context)
            return self._until_end(run, context, loop.run(run.start(config, value)))

    @contextmanager
    def _running(self, context: Context) -> Iterator[None]:
        """Tell people of the errors they want to know, raise them as Airflow's, and let all signals leave the process."""
        wanted = {"unresolved": self.on_unresolved, "budget": self.on_budget}
        with (
            heap_set_aside(),
            arrow_takes_little(),
            signals.running(),
            as_airflow_errors(),
            errors_noticed(wanted, context),
        ):
            yield

    def _keep_notifiers(
        self, *, on_deadline_near: Notify = None, on_unresolved: Notify = None, on_budget: Notify = None
    ) -> None:
        """Keep whom to tell; what cannot be called is refused while the DAG is parsed."""
        self.on_deadline_near = checked("on_deadline_near", on_deadline_near)
        self.on_unresolved = checked("on_unresolved", on_unresolved)
        self.on_budget = checked("on_budget", on_budget)

    def _finished(self, output: Any, context: Context) -> None:
        """Tell of the output of a task that has succeeded; nothing by default."""

    def _input_again(self, _context: Context) -> Any:
        """The stage's input at a resume; None where it cannot be had twice."""
        return None

    def _stage_run(self, context: Context) -> StageRun:
        ti: Any = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        task = TaskKey(ti.dag_id, ti.run_id, ti.task_id, map_index, ti.try_number)
        location = StageLocation(
            stage=self.stage,
            task=task,
            storage=self.storage_path or settings.storage_path(),
            conn_id=self.conn_id,
        )
        upstream = frozenset(self.get_flat_relative_ids(upstream=True))
        host = WorkerHost(self._clock, task, context, upstream)
        return StageRun(
            stage=load_stage(self.stage),
            location=location,
            files=StageFiles(location.directory(host.open_path)),
            host=host,
            registry=location.registry(host.open_path, host.budgets),
            poll=self.poll,
            tells_near=bool(self.on_deadline_near),
        )

    def _until_end(self, run: StageRun, context: Context, outcome: Outcome) -> Any:
        """Defer the task while the stage waits; wait here when it is not deferrable."""
        while isinstance(outcome, Suspension):
            self._log_waiting(outcome)
            if self.deferrable:
                self._defer(outcome)
            outcome = self._proceed(run, context, outcome, loop.run(run.until_event(outcome)))
        returned = to_xcom(outcome.output, run.files.directory)
        self._finished(outcome.output, context)
        return returned

    def _proceed(self, run: StageRun, context: Context, suspension: Suspension, event: Event) -> Outcome:
        if event["status"] == "near":
            notify(self.on_deadline_near, context, near_notice(suspension))
        value = self._input_again(context) if event["status"] == "ready" else None
        return loop.run(run.proceed(suspension, event, value))

    def _recover(self, context: Context, why: str) -> Any:
        run = self._stage_run(context)
        suspension = run.files.suspension()
        found = loop.run(run.recover(suspension, why))
        if isinstance(found, Suspension):
            self.log.warning("The trigger was lost (%s); waiting with a new one.", why)
            return self._until_end(run, context, found)
        return self._until_end(run, context, self._proceed(run, context, suspension, found))

    def _defer(self, suspension: Suspension) -> NoReturn:
        left = timedelta(seconds=seconds_until(suspension.deadline, self._clock.now()))
        trigger = AsyncBatchTrigger(**suspension.kwargs())
        raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=left + DEADLINE_MARGIN)

    def _log_waiting(self, suspension: Suspension) -> None:
        self.log.info(
            "Waiting for %s: a poll every %s, until %s at the latest.",
            suspension.awaited,
            suspension.poll.interval,
            suspension.deadline.isoformat(timespec="seconds"),
        )
