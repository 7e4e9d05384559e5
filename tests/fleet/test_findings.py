"""What to do about one batch, by what the ledger, the provider and Airflow say about it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START

from airflow_batch_provider.fleet.findings import Evidence, decide, decide_locally
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.models import BatchStatus
from airflow_batch_provider.registry import Entry
from airflow_batch_provider.timing import GONE_AFTER

HOUR = timedelta(hours=1)


@pytest.fixture
def case():
    """Makes the evidence: `case("over", "claim", "receipt", shown="completed")`, an hour after its claim."""

    def make(task, *files, shown=(), leave=False, doubtful=(), over_since=None, now=START + HOUR):
        claim = Claim(tag="t", requests=2, claimed_at=START, attempt=1, owner="o")
        receipt = Receipt(batch_id="b-0", tag="t", requests=2, submitted_at=START, tentative="guess" in files)
        entry = Entry(
            tag="t",
            provider="openai",
            account="a",
            label="d/r/t",
            claim="c",
            requests=2,
            claimed_at=START,
            leave_running=leave,
        )
        words = [shown] if isinstance(shown, str) else shown
        return Evidence(
            entry=entry,
            task=task,
            now=now,
            claim=claim if "claim" in files else None,
            receipt=receipt if {"receipt", "guess"} & {*files} else None,
            has_landed="rows" in files,
            deadline_runs="clock" in files,
            over_since=over_since,
            statuses=tuple(BatchStatus(batch_id=f"b-{number}", status=word) for number, word in enumerate(words)),
            doubtful=doubtful,
        )

    return make


# what needs no poll


@pytest.mark.parametrize("task", ["waiting", "over", "gone", "unknown"])
def test_a_batch_whose_rows_are_here_is_forgotten(case, task):
    """Whatever Airflow says."""
    found = decide_locally(case(task, "claim", "receipt", "rows"))

    assert (found.action, found.task, found.batch_id, found.label) == ("forget", task, "b-0", "d/r/t")


def test_a_task_that_airflow_does_not_know_is_not_touched(case):
    """Another Airflow may share the storage."""
    assert decide_locally(case("unknown", "claim")).action == "report"


def test_a_claim_that_a_task_waits_for_is_kept(case):
    """With a receipt or without; a withdrawn claim is another matter."""
    assert decide_locally(case("waiting")) is None
    assert decide_locally(case("waiting", "claim")).action == "keep"
    assert decide_locally(case("waiting", "claim", "receipt")).action == "keep"


@pytest.mark.parametrize("task", ["over", "gone"])
def test_a_batch_that_nobody_waits_for_is_polled(case, task):
    """Only its provider knows."""
    assert decide_locally(case(task, "claim", "receipt")) is None


# what the provider shows of it


@pytest.mark.parametrize("task", ["over", "gone"])
def test_what_cannot_be_decided_is_a_question_for_a_person(case, task):
    """With all that may be it, and both commands."""
    for unsure in (
        case(task, "claim", shown=["completed", "processing"]),
        case(task, "claim", doubtful=("b-0", "b-1")),
    ):
        found = decide(unsure, HOUR)
        assert (found.action, found.status) == ("report", None)
        assert "b-0, b-1." in found.why
        assert "airflow batches adopt t BATCH_ID" in found.why
        assert "airflow batches absent t." in found.why


def test_what_is_sure_wins_over_what_only_looks_alike(case):
    """A batch under the tag itself settles it."""
    found = decide(case("gone", "claim", shown="completed", doubtful=("b-7",)), HOUR)

    assert (found.action, found.batch_id) == ("forget", "b-0")


def test_a_batch_that_is_not_shown_is_not_there_after_a_while(case):
    """To the second; before, it may only not be visible yet."""
    assert decide(case("over", "claim", now=START + GONE_AFTER - timedelta(seconds=1)), HOUR).action == "keep"
    assert decide(case("over", "claim", now=START + GONE_AFTER), HOUR).action == "forget"


@pytest.mark.parametrize(
    ("task", "files", "action", "lands"),
    [
        ("over", ["claim"], "adopt", True),
        ("over", ["claim", "receipt"], "forget", True),
        ("over", [], "forget", False),
        ("gone", ["claim"], "forget", False),
        ("gone", ["claim", "receipt"], "forget", False),
    ],
)
@pytest.mark.parametrize("word", ["completed", "failed", "expired", "cancelled"])
def test_a_batch_that_has_ended_is_lost_only_with_its_task(case, task, files, action, lands, word):
    """A clear lands what was paid; the sentence says whether one can."""
    found = decide(case(task, *files, shown=word), HOUR)

    assert (found.action, found.status, found.batch_id) == (action, word, "b-0")
    assert ("clear of its task lands it" in found.why) is lands


# a batch that runs for nobody


def test_a_batch_whose_claim_was_withdrawn_while_its_task_waits_is_for_a_person(case):
    """The task buys another one."""
    assert decide(case("waiting", shown="processing"), HOUR).action == "report"


def test_a_guess_is_never_cancelled(case):
    """It may be a neighbour's."""
    assert decide(case("gone", "claim", "guess", shown="processing"), timedelta(0)).action == "report"


@pytest.mark.parametrize(
    ("task", "files", "leave", "action"),
    [
        ("over", [], True, "keep"),
        ("over", ["clock"], True, "cancel"),  # killed before its deadline
        ("over", [], False, "cancel"),
        ("gone", [], True, "cancel"),
    ],
)
def test_only_what_was_left_at_its_deadline_runs_on(case, task, files, leave, action):
    """`on_timeout='leave'` is not a licence for a task that was killed, nor for one whose run is deleted."""
    running = case(task, "claim", "receipt", *files, leave=leave, shown="processing")

    assert decide(running, timedelta(0)).action == action


@pytest.mark.parametrize(
    ("files", "meanwhile"), [(["claim", "receipt"], "keep"), (["claim"], "adopt"), ([], "keep"), (["receipt"], "keep")]
)
def test_a_batch_is_cancelled_after_the_grace(case, files, meanwhile):
    """It counts from when the task was first seen to be over, or else from now; a receipt is written meanwhile."""
    first = case("over", *files, shown="pending")
    young = case("over", *files, shown="processing", over_since=START + timedelta(seconds=1))
    old = case("over", *files, shown="processing", over_since=START)

    assert [decide(one, HOUR).action for one in (first, young, old)] == [meanwhile, meanwhile, "cancel"]
    assert "is cancelled after 2026-11-23 10:00" in decide(first, HOUR).why
    assert "is cancelled after 2026-11-23 09:00" in decide(young, HOUR).why


@pytest.mark.parametrize(("task", "said"), [("over", "is over"), ("gone", "was deleted")])
def test_a_cancel_says_what_became_of_the_task(case, task, said):
    """The two are fixed in different ways: by a clear, or not at all."""
    found = decide(case(task, "claim", "receipt", shown="processing"), timedelta(0))

    assert (found.action, found.status) == ("cancel", "processing")
    assert said in found.why
