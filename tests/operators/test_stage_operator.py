"""What no `dag.test()` shows: lost triggers, loops inside loops, and our errors in Airflow's words."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
from types import SimpleNamespace

import pytest
from edge_stages import Obedient
from upath import UPath

from airflow_batch_provider.airflow import xcom
from airflow_batch_provider.airflow.exceptions import (
    AirflowException,
    AirflowFailException,
    TaskDeferred,
    as_airflow_errors,
)
from airflow_batch_provider.airflow.heap import is_kept_by_others
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
from airflow_batch_provider.loop import run
from airflow_batch_provider.models import ErrorDigest
from airflow_batch_provider.operators import AsyncBatchStageOperator
from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, Suspended, SuspendedState
from airflow_batch_provider.storage import Directory

CRASHED = {"error": "Trigger failure", "traceback": ["Traceback", "ImportError: stage"]}
TIMED_OUT = {"error": "Trigger timeout"}


@pytest.fixture
def context():
    pushed = {}
    ti = SimpleNamespace(
        dag_id="dag",
        run_id="run",
        task_id="stage",
        map_index=-1,
        try_number=1,
        pushed=pushed,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    return {"ti": ti}


def suspended(tmp_path, context, mode: str) -> AsyncBatchStageOperator:
    operator = AsyncBatchStageOperator(
        task_id="stage", stage=Obedient, config={"mode": mode}, storage_path=tmp_path.as_uri()
    )
    with pytest.raises(TaskDeferred):
        operator._begin(context, operator.config, None)
    return operator


@pytest.mark.parametrize("failure", [CRASHED, TIMED_OUT])
def test_a_lost_trigger_of_a_finished_batch_costs_nothing(tmp_path, context, failure):
    """One poll by the worker, and the task goes on to its end."""
    operator = suspended(tmp_path, context, "resume")
    assert operator.resume_execution("__fail__", dict(failure), context)["said"] == "done"


def test_a_lost_trigger_of_a_running_batch_is_replaced_a_few_times(tmp_path, context, monkeypatch):
    """Then the task fails and says that the batch runs on; Airflow may retry, and re-attaches."""
    monkeypatch.setattr("edge_stages.SOON", _patient())
    monkeypatch.setattr(Obedient, "check_completion", _not_yet)
    operator = suspended(tmp_path, context, "resume")
    first = operator._stage_run(context).files.suspension()
    for _ in range(3):
        with pytest.raises(TaskDeferred) as deferred:
            operator.resume_execution("__fail__", dict(CRASHED), context)
    again = deferred.value.trigger.suspension
    assert (again.lost, again.state, again.token) == (3, first.state, first.token)
    assert again.suspended_at > first.suspended_at  # the next poll comes an interval later, not at once
    with pytest.raises(AirflowException, match=r"lost 4 times.*The batch runs on.*then clear the task") as caught:
        operator.resume_execution("__fail__", dict(CRASHED), context)
    assert not isinstance(caught.value, AirflowFailException)


def test_a_lost_trigger_past_the_deadline_ends_the_task(tmp_path, context):
    """Airflow's own timeout only steps in when the trigger could not tell of the deadline."""
    operator = suspended(tmp_path, context, "overdue")
    files = operator._stage_run(context).files
    late = files.suspension()
    past = late.state.model_copy(update={"submitted_at": late.state.submitted_at.replace(year=2020)})
    files.save_suspension(late.model_copy(update={"state": past}))
    with pytest.raises(AirflowException, match="Nothing came in time"):
        operator.resume_execution("__fail__", dict(TIMED_OUT), context)


def test_a_deferral_outlasts_the_deadline(tmp_path, context):
    """Airflow's timeout is a net below the trigger's own."""
    operator = AsyncBatchStageOperator(task_id="stage", stage=Obedient, storage_path=tmp_path.as_uri(), poll="quick")
    with pytest.raises(TaskDeferred) as deferred:
        operator._begin(context, {"mode": "resume"}, None)
    assert 600 < deferred.value.timeout.total_seconds() <= 600 + 1800
    assert deferred.value.trigger.suspension.poll.interval.total_seconds() == 15
    assert deferred.value.method_name == "execute_complete"
    assert context["ti"].pushed["batch_ids"] == ["batch-1"]


@pytest.fixture
def nothing_frozen():
    """What the run of tests keeps from the collector is given back for a while."""
    gc.unfreeze()
    is_kept_by_others.cache_clear()
    yield
    gc.unfreeze()
    gc.freeze()
    is_kept_by_others.cache_clear()


@pytest.mark.usefixtures("nothing_frozen")
def test_the_collector_leaves_alone_what_was_there_before_the_task(tmp_path, context):
    """Airflow's objects would be looked through at the first import of an SDK, longer than a small task takes."""
    aside = []
    context["ti"].xcom_push = lambda key, value: aside.append(gc.get_freeze_count())

    suspended(tmp_path, context, "resume")

    assert min(aside) > 10_000
    assert gc.get_freeze_count() == 0


def test_arrow_takes_little_while_a_stage_runs(tmp_path, context, monkeypatch):
    """And whatever the worker runs next finds the environment as it was."""
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    chosen = []
    context["ti"].xcom_push = lambda key, value: chosen.append(os.environ.get("ARROW_DEFAULT_MEMORY_POOL"))

    suspended(tmp_path, context, "resume")

    assert set(chosen) == {"system"}
    assert "ARROW_DEFAULT_MEMORY_POOL" not in os.environ


@pytest.mark.usefixtures("nothing_frozen")
def test_what_an_executor_kept_from_the_collector_stays_so(tmp_path, context):
    """LocalExecutor does before it forks, so that the memory of its workers stays shared."""
    gc.freeze()

    suspended(tmp_path, context, "resume")

    assert gc.get_freeze_count() > 10_000


@pytest.mark.usefixtures("nothing_frozen")
def test_what_is_kept_is_counted_once_in_a_process(tmp_path, context, monkeypatch):
    """It takes 25 ms with the objects of Airflow."""
    counted = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counted.append(1) or 1)

    for _ in range(2):
        suspended(tmp_path, context, "resume")

    assert counted == [1]


READY = {"status": "ready", "error": None}


def stage_operator(tmp_path, **more):
    return AsyncBatchStageOperator(task_id="stage", stage=Obedient, storage_path=tmp_path.as_uri(), **more)


def test_a_task_goes_from_run_to_run_until_its_stage_returns(tmp_path, context):
    """Each wait ends one run; an event without words is as good as `ready`, which is all that `dag.test` hands over."""
    operator = suspended(tmp_path, context, "twice")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context, READY)

    assert deferred.value.trigger.suspension.state.batch_id == "batch-2"
    assert context["ti"].pushed == {"batch_ids": ["batch-2"], "batch_metrics": {"rows": 3.0}}
    assert operator.execute_complete(context, None) == {"said": "done", "runs": 3, "heard": None}


def test_airflow_resumes_a_task_as_any_other(tmp_path, context):
    """With the event of its trigger."""
    operator = suspended(tmp_path, context, "resume")

    assert operator.resume_execution("execute_complete", {"event": READY}, context)["runs"] == 2


def test_what_the_trigger_said_reaches_the_task_through_airflow(tmp_path, context):
    """Its event is not replaced by a good one on the way."""
    operator = suspended(tmp_path, context, "resume")

    with pytest.raises(AirflowFailException, match="no such model"):
        operator.resume_execution(
            "execute_complete", {"event": {"status": "failed", "error": "no such model"}}, context
        )


@pytest.mark.parametrize(
    ("others", "said"), [(0, "'one': a poll"), (1, "'one' and 1 more: a poll"), (2, "'one' and 2 more")]
)
def test_people_see_what_is_waited_for(tmp_path, context, monkeypatch, capsys, others, said):
    """The first batch by its id, the others by their number; all of them as XCom."""
    ids = ["one", "two", "three"][: 1 + others]

    def several(ctx, _run):
        state = SuspendedState(batch_id="one", submitted_at=ctx.now(), metadata={"batch_ids": ids})
        return Suspended(state=state, poll=_patient())

    monkeypatch.setattr("edge_stages._suspended", several)
    operator = stage_operator(tmp_path)
    with pytest.raises(TaskDeferred):
        operator._begin(context, {"mode": "resume"}, None)

    assert f"Waiting for batch {said}" in capsys.readouterr().out  # Airflow's logs end there, not in `caplog`
    assert context["ti"].pushed["batch_ids"] == ids


def test_the_first_run_hears_what_is_given(tmp_path, context):
    """And its answer is the task's when it needs no wait."""
    assert stage_operator(tmp_path)._begin(context, {"mode": "at_once"}, "a word")["heard"] == "a word"


def test_a_resumed_run_hears_the_input_again(tmp_path, context):
    """It lies in no trigger and no event."""
    operator = stage_operator(tmp_path, config={"mode": "resume"}, input="a word")
    with pytest.raises(TaskDeferred):
        operator.execute(context)

    assert operator.execute_complete(context, READY)["heard"] == "a word"


def test_a_stage_that_names_one_batch_shows_that_one(tmp_path, context, monkeypatch):
    """Only the built-in stages have lists of them."""

    def alone(ctx, _run):
        return Suspended(state=SuspendedState(batch_id="only", submitted_at=ctx.now()), poll=_patient())

    monkeypatch.setattr("edge_stages._suspended", alone)
    suspended(tmp_path, context, "resume")

    assert context["ti"].pushed == {"batch_ids": ["only"]}


def test_a_stage_knows_what_is_upstream_of_its_task(tmp_path, context):
    """All of it, and nothing that comes later."""
    from airflow.sdk import DAG, BaseOperator

    with DAG("dag", schedule=None):
        first, second, last = (BaseOperator(task_id=name) for name in ("first", "second", "last"))
        operator = stage_operator(tmp_path)
        first >> second >> operator >> last

    assert operator._stage_run(context).host.upstream == {"first", "second"}


def test_a_task_that_is_not_deferrable_waits_on_its_worker(tmp_path, context):
    """The same runs, one after the other."""
    operator = stage_operator(tmp_path, deferrable=False)

    assert operator._begin(context, {"mode": "resume"}, None)["runs"] == 2


def test_what_the_trigger_says_is_what_happens(tmp_path, context):
    """A refused key leaves the task its retries, a failed check is final, a deadline is the stage's to decide about."""
    refused = suspended(tmp_path / "refused", context, "resume")
    with pytest.raises(AirflowException, match=r"^401: bad key") as retryable:
        refused.execute_complete(context, {"status": "failed", "error": "401: bad key", "retryable": True})
    assert not isinstance(retryable.value, AirflowFailException)
    failed = suspended(tmp_path / "failed", context, "resume")
    with pytest.raises(AirflowFailException, match=r"^All batch requests failed$"):
        failed.execute_complete(context, {"status": "failed", "error": "All batch requests failed"})
    late = suspended(tmp_path / "late", context, "resume")
    with pytest.raises(AirflowException, match="Nothing came in time") as caught:
        late.execute_complete(context, {"status": "timeout", "error": None})
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("map_index", [None, -1, 0, 2])
def test_a_task_has_a_place_of_its_own(tmp_path, context, map_index):
    """Airflow says `None` or -1 of a task that is not mapped; the first index is 0."""
    context["ti"].map_index = map_index
    context["ti"].try_number = 4
    operator = suspended(tmp_path, context, "resume")

    place = operator._stage_run(context).location
    key = place.task
    assert (key.dag_id, key.run_id, key.task_id, key.try_number) == ("dag", "run", "stage", 4)
    assert key.map_index == (-1 if map_index is None else map_index)
    assert (place.stage, place.storage, place.conn_id) == ("edge_stages.Obedient", tmp_path.as_uri(), None)
    mapped = "" if key.map_index < 0 else f"/{map_index}"
    assert (tmp_path / f"dag/run/stage{mapped}/suspended.json").exists()


def test_where_no_storage_is_named_airflow_s_setting_says_where(tmp_path, context, monkeypatch):
    """The same for all tasks of a deployment."""
    monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__STORAGE_PATH", (tmp_path / "set").as_uri())
    operator = AsyncBatchStageOperator(task_id="stage", stage=Obedient, conn_id="mine")

    place = operator._stage_run(context).location

    assert (place.storage, place.conn_id) == ((tmp_path / "set").as_uri(), "mine")


def test_a_lost_trigger_of_a_task_that_waits_on_its_worker_is_not_replaced(tmp_path, context, monkeypatch):
    """The DAG was changed meanwhile; the worker waits by itself."""
    checks = iter([CompletionCheck.not_ready(), CompletionCheck.not_ready(), CompletionCheck.ready()])

    async def check_completion(_self, _state, _ctx):
        return next(checks)

    monkeypatch.setattr(Obedient, "check_completion", check_completion)
    operator = suspended(tmp_path, context, "resume")
    operator.deferrable = False

    assert operator.resume_execution("__fail__", dict(CRASHED), context)["said"] == "done"


def test_stage_storage_that_is_gone_is_told(tmp_path, context):
    """Not a traceback of some missing file."""
    operator = AsyncBatchStageOperator(task_id="stage", stage=Obedient, storage_path=tmp_path.as_uri())
    with pytest.raises(AirflowFailException, match="stage storage is gone"):
        operator.execute_complete(context, {"status": "ready", "error": None})


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (UsageError("m"), False),
        (Rejected("m"), False),
        (Paused("m"), False),
        (Unresolved("m"), False),
        (StageFailed("m"), False),
        (RowsFailed("m", digest=ErrorDigest(), retryable=False), False),
        (RowsFailed("m", digest=ErrorDigest(), retryable=True), True),
        (Denied("m"), True),
        (Unavailable("m"), True),
        (NotFound("m"), True),
        (Overdue("m"), True),
    ],
)
def test_airflow_retries_only_what_can_get_better(error, retried):
    """The message stays as it is."""
    with pytest.raises(AirflowException, match=r"^m$") as caught, as_airflow_errors():
        raise error
    assert isinstance(caught.value, AirflowFailException) is not retried


def test_a_users_own_error_stays_as_it_is():
    """A bug in a stage keeps its type."""
    with pytest.raises(KeyError), as_airflow_errors():
        raise KeyError("x")


async def test_a_coroutine_runs_also_where_a_loop_runs_already():
    """In a notebook, or below an operator that is async itself."""

    async def answer():
        await asyncio.sleep(0)
        return 42

    assert run(answer()) == 42


def test_an_output_that_is_too_large_for_a_task_is_kept_and_told(tmp_path, monkeypatch):
    """The answers are paid: the message says where they are."""
    monkeypatch.setattr(xcom, "LARGEST_XCOM", 100)
    directory = Directory(UPath(tmp_path))
    with pytest.raises(UsageError, match=r"has 104 bytes, above the 100 .*return_value\.json"):
        xcom.to_xcom(["x" * 100], directory)
    assert json.loads(directory.read("return_value.json")) == ["x" * 100]
    assert xcom.to_xcom(["x" * 90], directory) == ["x" * 90]


def test_a_stage_in_a_dag_file_is_an_import_error_of_airflow(tmp_path):
    """People see the remedy where they look for broken DAGs."""
    from airflow.dag_processing.dagbag import DagBag

    file = tmp_path / "mine.py"
    file.write_text(
        "from airflow.sdk import DAG\n"
        "from airflow_batch_provider.operators import AsyncBatchStageOperator\n"
        "from airflow_batch_provider.stages import AsyncBatchStage\n"
        "class Mine(AsyncBatchStage):\n    id = name = 'mine'\n"
        "with DAG('mine', schedule=None):\n    AsyncBatchStageOperator(task_id='t', stage=Mine)\n"
    )
    bag = DagBag(str(file))
    assert not bag.dags
    assert "Put the class into an installed package" in bag.import_errors[str(file)]


def _patient():
    from datetime import timedelta

    from airflow_batch_provider.stages import PollConfig

    return PollConfig(interval=timedelta(minutes=1), max_wait=timedelta(hours=1))


async def _not_yet(_self, _state, _ctx):
    return CompletionCheck.not_ready()


def test_a_stage_of_the_plugins_folder_may_be_imported_a_second_time(tmp_path, monkeypatch):
    """Airflow's plugins manager makes a module of its own of each file, so that two classes are one stage."""
    file = tmp_path / "twice.py"
    file.write_text(
        "from airflow_batch_provider.stages import AsyncBatchStage\n"
        "class Mine(AsyncBatchStage):\n    id = name = 'mine'\n    async def execute(self, ctx):\n        return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "twice", raising=False)
    first = importlib.import_module("twice").Mine
    monkeypatch.delitem(sys.modules, "twice")
    second = importlib.import_module("twice").Mine
    assert first is not second
    for stage in (first, second):
        assert AsyncBatchStageOperator(task_id="t", stage=stage).stage == "twice.Mine"

    stranger = type("Mine", (AsyncBatchStage,), {"id": "mine", "name": "mine", "__module__": "twice"})
    with pytest.raises(UsageError, match="is another class"):
        AsyncBatchStageOperator(task_id="t", stage=stranger)
