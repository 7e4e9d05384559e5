"""How an operator walks through its legs: start, wait, resume, until the stage returns or fails."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_batch_provider.hooks.airflow_errors import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)
from airflow_batch_provider.operators import settings
from airflow_batch_provider.operators.errors import as_airflow_errors
from airflow_batch_provider.operators.leg import Leg
from airflow_batch_provider.operators.outputs import to_xcom
from airflow_batch_provider.stages import PollConfig, Suspended, TaskKey
from airflow_batch_provider.triggers.stage import AsyncBatchTrigger
from airflow_batch_provider.triggers.suspension import Place, seconds_until

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_batch_provider.triggers.suspension import Suspension
    from airflow_batch_provider.triggers.watch import Event

# The trigger tells of the deadline itself; Airflow's own timeout only steps in when the trigger cannot.
_MARGIN = timedelta(minutes=30)

# A trigger that is lost this often in one wait will not come back.
_MOST_LOST = 3


class StageLegs:
    """What every operator with a stage has; mixed into an operator, before Airflow's base class.

    Attributes:
        stage: `module.Class`.
        deferrable: False waits on the worker.
        poll: wins over the stage's own, see `_override`.
    """

    stage: str
    conn_id: str | None
    storage_path: str | None
    deferrable: bool
    poll: PollConfig | None

    def execute_complete(self, context: Context, event: Event | None = None) -> Any:
        """Where Airflow resumes the task; everything but the event comes from stage storage."""
        with as_airflow_errors():
            leg = self._leg(context)
            suspension = leg.files.suspension()
            outcome = self._after(leg, suspension, event or {"status": "ready", "error": None})
            return self._walk(leg, outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does, but a lost trigger (crashed, not importable, timed out) gets a look and another one."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]  # of the operator
        except (TaskDeferralError, TaskDeferralTimeout, AirflowSensorTimeout) as error:
            with as_airflow_errors():
                return self._recover(context, error)

    def _begin(self, context: Context, config: Any, given: Any) -> Any:
        """The first leg of a try."""
        with as_airflow_errors():
            leg = self._leg(context)
            leg.check_dependencies()
            return self._walk(leg, leg.start(config, given))

    def _leg(self, context: Context) -> Leg:
        ti: Any = context["ti"]
        task = TaskKey(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index, ti.try_number)
        place = Place(self.stage, task, self.storage_path or settings.storage_path(), self.conn_id)
        upstream: set[str] = self.get_flat_relative_ids(upstream=True)  # type: ignore[attr-defined]  # of the operator
        return Leg(place, context, frozenset(upstream))

    def _walk(self, leg: Leg, outcome: Any) -> Any:
        while isinstance(outcome, Suspended):
            suspension = leg.place.suspension(outcome, self._override(), leg.clock.now())
            kwargs = suspension.kwargs()
            leg.files.save_suspension(suspension)
            leg.tell("batch_ids", outcome.state.metadata.get("batch_ids") or [outcome.state.batch_id])
            leg.tell("batch_metrics", outcome.metrics)
            if self.deferrable:
                self._defer(leg, suspension, kwargs)
            self._say_waiting(suspension)
            outcome = self._after(leg, suspension, leg.wait(suspension))
        return to_xcom(outcome, leg.files.directory)

    def _override(self) -> PollConfig | None:
        return self.poll

    def _after(self, leg: Leg, suspension: Suspension, event: Event) -> Any:
        if event["status"] == "failed":
            raise AirflowFailException(event["error"])
        if event["status"] == "timeout":
            if event["error"]:
                self.log.warning("The last look before the deadline: %s", event["error"])  # type: ignore[attr-defined]
            return leg.overdue(suspension)
        return leg.resume(suspension, self._given_again(leg.context))

    def _given_again(self, _context: Any) -> Any:
        """The input of a resumed leg; None where it cannot be had twice."""
        return None

    def _defer(self, leg: Leg, suspension: Suspension, kwargs: dict[str, Any]) -> NoReturn:
        self._say_waiting(suspension)
        left = timedelta(seconds=seconds_until(suspension.deadline, leg.clock.now()))
        raise TaskDeferred(trigger=AsyncBatchTrigger(**kwargs), method_name="execute_complete", timeout=left + _MARGIN)

    def _say_waiting(self, suspension: Suspension) -> None:
        self.log.info(  # type: ignore[attr-defined]  # of the operator
            "Waiting for batch %r%s: a look every %s, until %s at the latest.",
            suspension.state.batch_id,
            _others(suspension),
            suspension.poll.interval,
            suspension.deadline.isoformat(timespec="seconds"),
        )

    def _recover(self, context: Context, error: Exception) -> Any:
        leg = self._leg(context)
        suspension = leg.files.suspension()
        event = leg.look(suspension)
        if event is not None:
            return self._walk(leg, self._after(leg, suspension, event))
        if not self.deferrable or suspension.lost >= _MOST_LOST:
            raise AirflowException(
                f"The trigger of {suspension.task} was lost {suspension.lost + 1} times ({error}). The batch runs on; see "
                "the triggerer's log, then clear the task: it goes on with the same batch."
            ) from error
        again = suspension.model_copy(update={"lost": suspension.lost + 1, "suspended_at": leg.clock.now()})
        self.log.warning("The trigger was lost (%s); waiting with a new one.", error)  # type: ignore[attr-defined]
        leg.files.save_suspension(again)
        return self._defer(leg, again, again.kwargs())


def _others(suspension: Suspension) -> str:
    others = len(suspension.state.metadata.get("batch_ids") or ()) - 1
    return f" and {others} more" if others > 0 else ""
