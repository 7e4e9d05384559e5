"""The state of a task as a running trigger asks for it, and the small records that it shows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from airflow.sdk.api.datamodels._generated import TaskInstanceState
from airflow.sdk.execution_time import comms as airflow_comms
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, SetXCom, TaskStatesResult

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.task_state import AskFromTask, ask_from_trigger
from airflow_batch_provider.stages import TaskKey


class Comms:
    """Airflow's side: keeps what it is asked, and answers `answer`."""

    def __init__(self):
        self.asked = []
        self.answer = None

    async def asend(self, message):
        self.asked.append(message)
        return self.answer


@pytest.fixture
def comms(monkeypatch):
    comms = Comms()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    return comms


def task(map_index=-1):
    return TaskKey("dag", "run", "task", map_index)


@pytest.mark.parametrize(("map_index", "name"), [(-1, "task"), (0, "task_0"), (1, "task_1"), (12, "task_12")])
async def test_the_state_is_that_of_the_task_s_own_index(comms, map_index, name):
    """Airflow names the states of mapped tasks `task_index`; the first index is 0."""
    others = dict.fromkeys({"task", "task_0", "task_1", "task_12"}, "running")
    comms.answer = TaskStatesResult(task_states={"run": others | {name: "failed"}, "another": {name: "success"}})

    assert await ask_from_trigger(task(map_index)) == "failed"
    assert comms.asked == [
        GetTaskStates(dag_id="dag", run_ids=["run"], task_ids=["task"], map_index=map_index),
    ]


async def test_a_state_is_a_word_however_airflow_says_it(comms):
    """As a text or as a member of its enumeration."""
    comms.answer = SimpleNamespace(task_states={"run": {"task": TaskInstanceState.UPSTREAM_FAILED}})

    assert await ask_from_trigger(task()) == "upstream_failed"


@pytest.mark.parametrize(
    "states", [{}, {"run": None}, {"run": {}}, {"run": {"task": None}}, {"other": {"task": "failed"}}]
)
async def test_a_state_that_airflow_does_not_tell_is_none(comms, states):
    """A task without a state has not been scheduled; `None` is in no set of final states."""
    comms.answer = SimpleNamespace(task_states=states)

    assert await ask_from_trigger(task()) is None


async def test_an_answer_of_another_kind_tells_no_state(comms):
    """As an error of Airflow's API is."""
    comms.answer = SimpleNamespace(error="not found")

    assert await ask_from_trigger(task()) is None


@pytest.mark.parametrize("without", ["nothing", None, SimpleNamespace(send=print)])
async def test_where_airflow_has_no_asynchronous_way_it_is_not_asked(monkeypatch, without):
    """In `dag.test`, and outside of Airflow."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", without, raising=False)
    if without == "nothing":
        monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS")

    assert await ask_from_trigger(task()) is None
    await supervisor.publish(task(), "batch_progress", {"n": 1})


async def test_an_answer_that_never_comes_is_not_waited_for_longer_than_the_max_wait(comms, monkeypatch):
    """Airflow does not answer a message of a kind that it does not know."""
    monkeypatch.setattr(supervisor, "SUPERVISOR_TIMEOUT", 0.01)

    async def asend(_message):
        await asyncio.sleep(3600)

    comms.asend = asend

    with pytest.raises(TimeoutError):
        await ask_from_trigger(task())
    await supervisor.publish(task(), "batch_progress", {"n": 1})


async def test_progress_is_shown_at_the_task_itself(comms):
    """At its own index, under one key."""
    await supervisor.publish(task(0), "batch_progress", {"n": 1})

    assert comms.asked == [
        SetXCom(key="batch_progress", value={"n": 1}, dag_id="dag", run_id="run", task_id="task", map_index=0)
    ]


@pytest.mark.parametrize(
    ("ways", "may"),
    [([], True), (["send"], True), (["asend"], False), (["asend", "start_reader"], True)],
)
def test_a_thread_asks_airflow_only_where_its_replies_arrive_in_order(monkeypatch, ways, may):
    """In the triggerer of Airflow before 3.2.2 a question of a thread ends the process."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(**dict.fromkeys(ways)), raising=False)

    assert supervisor.threads_may_ask() is may


class RunningTask:
    """Airflow's task instance in a worker: what it tells of other tasks."""

    def __init__(self, states, runs=0):
        self.states, self.runs = states, runs
        self.asked = []

    def get_task_states(self, **question):
        self.asked.append(question)
        return self.states

    def get_dr_count(self, dag_id):
        return self.runs if dag_id == "dag" else 0


@pytest.mark.parametrize(
    ("state", "fate"),
    [
        *[(state, "over") for state in ("failed", "success", "skipped", "upstream_failed", "removed")],
        *[(state, "waiting") for state in ("running", "deferred", "up_for_retry", "queued", "restarting", None)],
        (TaskInstanceState.FAILED, "over"),
    ],
)
def test_a_task_is_over_only_where_nobody_goes_on(state, fate):
    """Whatever else it is, somebody may still wait for its batch."""
    running = RunningTask({"run": {"task_3": state, "task": "success" if fate == "waiting" else "running"}})

    assert AskFromTask({"ti": running})(task(3)) == fate
    assert running.asked == [{"dag_id": "dag", "run_ids": ["run"], "task_ids": ["task"], "map_index": 3}]


@pytest.mark.parametrize("states", [{}, {"run": {}}, {"run": None}, {"another": {"task": "failed"}}])
@pytest.mark.parametrize(("knows", "fate"), [(True, "gone"), (False, "unknown")])
def test_a_task_without_a_state_is_gone_only_where_its_dag_is_known(monkeypatch, states, knows, fate):
    """A batch of another deployment's task must not be taken for one that nobody wants."""

    def send(question):
        assert question.dag_id == "dag"
        if not knows:
            raise RuntimeError("404")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)

    assert AskFromTask({"ti": RunningTask(states)})(task()) == fate


@pytest.mark.parametrize(("runs", "fate"), [(2, "gone"), (0, "unknown")])
def test_an_airflow_without_that_question_is_asked_for_the_runs_of_the_dag(monkeypatch, runs, fate):
    """Airflow 3.1 cannot be asked for a DAG."""
    monkeypatch.delattr(airflow_comms, "GetDag", raising=False)

    assert AskFromTask({"ti": RunningTask({}, runs)})(task()) == fate
