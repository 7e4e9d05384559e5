"""One wait: what a trigger is given, and what people see of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_batch_provider.airflow.signals.notifiers import near_notice
from airflow_batch_provider.stages import PollConfig, Suspended, SuspendedState, TaskKey
from airflow_batch_provider.stages.base import fate
from airflow_batch_provider.stages.suspension import StageLocation, Suspension
from airflow_batch_provider.stages.values import NONE_YET

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LOCATION = StageLocation(stage="module.Stage", task=TaskKey("dag", "run", "task"), storage="file:///tmp")
HOUR = timedelta(hours=1)


def waiting(**metadata) -> Suspension:
    state = SuspendedState(batch_id="one", submitted_at=NOW - HOUR, metadata=metadata)
    return Suspension.begin(LOCATION, Suspended(state=state, poll=PollConfig(interval=HOUR, max_wait=24 * HOUR)), NOW)


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        (["one", "two"], ["one", "two"]),
        ([1, 2], ["1", "2"]),
        ([], ["one"]),
        (None, ["one"]),
        ("two", ["one"]),
        (7, ["one"]),
        ({"a": 1}, ["one"]),
    ],
)
def test_a_stage_may_list_its_batches_and_keep_anything_else_under_that_name(named, seen):
    """The state is the user's own: a wrong list is not a reason to fail a task whose batch is paid."""
    assert waiting(batch_ids=named).batch_ids == seen


def test_a_wait_before_anything_was_bought_names_no_batch():
    """The state of a built-in stage then holds a word that is nobody's id."""
    state = SuspendedState(batch_id=NONE_YET, submitted_at=NOW, metadata={"batch_ids": []})
    wait = Suspension.begin(LOCATION, Suspended(state=state, poll=PollConfig(interval=HOUR, max_wait=24 * HOUR)), NOW)

    told = near_notice(wait)

    assert (wait.batch_ids, told["batch_ids"], wait.begun(NOW).batches) == ([], [], 0)
    assert "It waits for its first batch, which is not bought yet." in told["message"]
    assert NONE_YET not in told["message"] + fate(NONE_YET, ())


def test_the_first_poll_counts_from_the_suspension_and_the_deadline_from_the_submission():
    """Restarts change neither."""
    suspension = waiting()

    assert suspension.first_poll_at == NOW + HOUR
    assert suspension.deadline == NOW + 23 * HOUR
    assert Suspension(**suspension.kwargs()) == suspension


def test_a_wait_for_another_trigger_is_the_same_wait():
    """It only knows how often its trigger was lost, and polls an interval later."""
    first = waiting()
    again = first.again(NOW + HOUR)

    assert (again.lost, again.token, again.state, again.deadline) == (1, first.token, first.state, first.deadline)
    assert again.first_poll_at == NOW + 2 * HOUR


@pytest.mark.parametrize(("passed", "next_poll"), [(HOUR / 4, HOUR), (10 * HOUR, 10 * HOUR + HOUR / 2)])
def test_who_was_told_that_the_deadline_is_near_goes_on_polling_as_before(passed, next_poll):
    """The first poll is not waited for again."""
    first = waiting()
    poll = PollConfig(interval=HOUR / 2, first_poll=HOUR, max_wait=23 * HOUR)
    first = first.model_copy(update={"poll": poll, "near_at": NOW})

    on = first.after_near(NOW + passed)

    assert (on.near_at, on.deadline, on.token) == (None, first.deadline, first.token)
    assert on.first_poll_at == NOW + next_poll


def test_the_poll_of_the_operator_wins_over_that_of_the_stage():
    """Where it has one."""
    quick = PollConfig.of("quick")
    state = SuspendedState(batch_id="one", submitted_at=NOW)

    assert Suspension.begin(LOCATION, Suspended(state=state), NOW, quick).poll == quick
    assert Suspension.begin(LOCATION, Suspended(state=state), NOW).poll == PollConfig.of("long")
