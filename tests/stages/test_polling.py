"""When a suspended stage is polled next, and what the event of its end says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START

from airflow_batch_provider.exceptions import Denied, NotFound, Unavailable
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages import PollConfig, SuspendedState
from airflow_batch_provider.stages.polling import PollPlan, with_remedy
from airflow_batch_provider.stages.suspension import StageLocation, Suspension
from airflow_batch_provider.timing import GONE_AFTER


@pytest.fixture
def plan():
    return PollPlan(
        Suspension(
            location=StageLocation(stage="a.Stage", task=TaskKey("d", "r", "t"), storage="file:///s"),
            state=SuspendedState(batch_id="b", submitted_at=START),
            poll=PollConfig(interval=timedelta(minutes=1), max_wait=timedelta(hours=1)),
            suspended_at=START,
            token="t",
        )
    )


def test_only_a_refused_key_is_told_with_what_runs_on():
    """Other errors say themselves how to go on."""
    assert with_remedy(Unavailable("503")) == "503"
    assert with_remedy(Denied("401")).startswith("401 What was bought runs on at the provider.")


def test_a_batch_is_gone_only_after_the_time_in_which_it_may_become_visible(plan):
    """To the moment."""
    assert plan.after_fault(NotFound("404"), START + GONE_AFTER) == timedelta(minutes=1)
    found = plan.after_fault(NotFound("404"), START + GONE_AFTER + timedelta(microseconds=1))
    assert found == {"status": "failed", "error": "404"}


def test_a_good_poll_ends_the_row_of_faults(plan):
    """The next fault is polled again after one interval, whatever came before."""
    pauses = [plan.after_fault(OSError("disk"), START) for _ in range(3)]
    plan.faults = 0
    pauses.append(plan.after_fault(OSError("disk"), START))

    assert [pause.total_seconds() for pause in pauses] == [60, 120, 240, 60]


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 60), (None, 60), (60.0, 60), (61.0, 61), (1.0, 60)])
def test_a_pause_is_as_long_as_the_provider_asks_and_no_shorter_than_the_interval(plan, asked, pause):
    """It knows best when it can answer, and never how often we want to ask."""
    assert plan.after_fault(Unavailable("429", retry_after=asked), START).total_seconds() == pause
