"""The state of a task as a running trigger asks for it, and the small records that it shows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from airflow.sdk.api.datamodels._generated import TaskInstanceState
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, SetXCom, TaskStatesResult

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.airflow.task_state import ask_from_trigger
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
