"""Notifiers are called once, with a time limit, and nothing they do ends the task."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.notifier import BaseNotifier
from airflow_edge import Edge

from airflow_batch_provider.airflow.signals import notifiers
from airflow_batch_provider.airflow.signals.notifiers import notice, notify
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.operators import AsyncBatchStageOperator, BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

HEARD = []
CONTEXT = {"ti": "of Airflow"}
ABOUT = notice("unresolved", "Look there.")


@pytest.fixture(autouse=True)
def heard():
    HEARD.clear()
    return HEARD


class Plain(BaseNotifier):
    """Like most of Airflow's: text from a template."""

    template_fields = ("text",)

    def __init__(self, text="{{ batch_signal.name }}: {{ batch_signal.message }}"):
        super().__init__()
        self.text = text

    def notify(self, context):
        HEARD.append((self.text, context["ti"]))


class Asynchronous(Plain):
    """For the triggerer; has no `notify`."""

    notify = BaseNotifier.notify

    async def async_notify(self, context):
        HEARD.append((self.text, context["ti"]))


class Failing(BaseNotifier):
    def notify(self, context):
        raise RuntimeError("the webhook is gone")


@pytest.mark.parametrize("notifier", [Plain, Asynchronous])
def test_a_notifier_finds_the_signal_in_its_templates(notifier):
    """Rendered for each signal, though it is one object for all of them."""
    one = notifier()
    notify(one, CONTEXT, ABOUT)
    notify([one], CONTEXT, notice("budget", "Too dear."))
    assert HEARD == [("unresolved: Look there.", "of Airflow"), ("budget: Too dear.", "of Airflow")]
    assert "batch_signal" not in CONTEXT


def test_functions_are_notifiers_too():
    """Plain and async."""

    async def later(context):
        HEARD.append(context["batch_signal"]["message"])

    notify([lambda context: HEARD.append(context["batch_signal"]["name"]), later], CONTEXT, ABOUT)
    assert HEARD == ["unresolved", "Look there."]


def test_one_that_fails_is_logged_and_the_others_are_called(caplog):
    """The task has better things to do."""
    notify([Failing(), Plain()], CONTEXT, ABOUT)
    assert len(HEARD) == 1
    assert "the webhook is gone" in caplog.text


def test_one_that_hangs_is_left_behind(caplog):
    """A task that has paid does not wait for a chat."""
    over, began = threading.Event(), time.monotonic()
    notify([lambda _context: over.wait(60), Plain()], CONTEXT, ABOUT, limit=0.2)
    assert time.monotonic() - began < 5
    assert len(HEARD) == 1
    assert "the task goes on" in caplog.text
    over.set()


@pytest.mark.parametrize("name", ["on_deadline_near", "on_unresolved", "on_budget"])
def test_what_cannot_be_called_is_refused_while_the_dag_is_parsed(name):
    """An address is not a notifier."""
    with pytest.raises(UsageError, match=rf"{name}='#alerts' is not a notifier"):
        BatchGenerateOperator(task_id="ask", model="claude-x", requests=["x"], **{name: "#alerts"})


# of a task


@pytest.fixture
def airflow(monkeypatch, tmp_path):
    settings = Settings(progress=Progress(pending=60, running=7 * 3600, finalizing=60))
    with EmulatorServer(settings) as server:
        yield Edge(server, monkeypatch, tmp_path)


def asked(airflow, **kwargs):
    poll = PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=kwargs.pop("hours", 8)))
    return BatchGenerateOperator(
        task_id="ask",
        model="claude-sonnet-4-5",
        conn_id="anthropic",
        storage_path=airflow.storage,
        poll=poll,
        **{"requests": ["one"], **kwargs},
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_near_its_deadline_a_waiting_task_tells_once_and_waits_on(airflow, deferrable):
    """After 80 % of eight hours; the batch takes more than seven, and its answers are kept."""
    manifest = airflow.run(asked(airflow, on_deadline_near=Plain(), deferrable=deferrable))

    assert manifest["counts"]["succeeded"] == 1
    ((text, _),) = HEARD
    assert text.startswith("deadline_near: 80% of the time for dag/run/ask has passed: its deadline is ")
    slept = sum(airflow.slept)
    assert 7 * 3600 < slept < 7.5 * 3600
    if deferrable:
        near, again = (one.trigger.suspension for one in airflow.deferred)
        assert near.near_at == near.deadline - timedelta(hours=1.6)
        assert (again.near_at, again.token, again.deadline) == (None, near.token, near.deadline)


def test_a_task_that_ends_in_time_tells_nothing(airflow):
    """Seven of twelve hours."""
    airflow.run(asked(airflow, on_deadline_near=Plain(), hours=12))
    assert HEARD == []


def test_a_later_wave_does_not_tell_again_of_the_same_deadline(airflow):
    """The deadline counts from the first batch; the second, which is bought after seven hours, comes too late."""
    from airflow.sdk.exceptions import AirflowException

    airflow.server.faults.add("anthropic.create", "fail_rows", code="server")
    with pytest.raises(AirflowException, match="Batch timeout after 30"):
        airflow.run(asked(airflow, on_deadline_near=Plain(), hours=8.5))
    assert [dict(job)["provider"] for job in airflow.server.books()["jobs"]] == ["anthropic"] * 2
    assert len(HEARD) == 1


def test_who_wants_to_hear_nothing_is_not_woken(airflow):
    """The worker runs twice, as without notifiers."""
    airflow.run(asked(airflow))
    (only,) = airflow.deferred
    assert only.trigger.suspension.near_at is None


def test_a_limit_of_money_tells_before_it_refuses(airflow):
    """With the message that the task ends with."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=r"more than max_cost_usd=0\.000001") as refused:
        airflow.run(asked(airflow, max_cost_usd=0.000001, on_budget=Plain(), on_unresolved=Plain("never")))
    assert [text for text, _ in HEARD] == [f"budget: {refused.value}"]
    assert airflow.server.books()["jobs"] == []


def test_a_batch_that_may_have_been_bought_tells_a_person(tested):
    """In a real task of Airflow's; the task fails with the same message."""
    from edge_stages import Raising

    with DAG("unresolved", schedule=None) as dag:
        AsyncBatchStageOperator(
            task_id="ask",
            stage=Raising,
            config={"name": "Unresolved", "place": "execute"},
            on_unresolved=[Plain(), Failing()],
        )
    run = tested(dag)
    assert run.state("ask") == "failed"
    ((text, _),) = HEARD
    assert text == f"unresolved: {Raising.ERRORS['Unresolved']}"


def test_a_mapped_task_takes_notifiers(tested):
    """Its arguments are serialised; notifiers are objects."""
    with DAG("mapped_told", schedule=None) as dag:
        from edge_stages import Obedient

        AsyncBatchStageOperator.partial(task_id="ask", stage=Obedient, on_unresolved=Plain()).expand(
            config=[{"mode": "at_once"}, {"mode": "at_once"}]
        )
    run = tested(dag)
    assert set(run.states().values()) == {"success"}


def test_the_names_of_notices_are_those_of_the_arguments():
    """`on_budget` hears of `budget`."""
    from airflow_batch_provider.airflow.signals import table

    arguments = {fact.name.removeprefix("on_") for fact in table.NOTIFIERS}
    assert arguments == {"deadline_near", *(name for _, name in notifiers._ERRORS)}
    assert {f"batch_signal.{name}" for name in ABOUT} == {fact.name for fact in table.NOTICE}
