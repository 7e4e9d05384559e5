"""What is to be done about one batch, by what the ledger, the provider and Airflow say about it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from fakes import START
from upath import UPath

from airflow_batch_provider.fleet.deployment import Slot
from airflow_batch_provider.fleet.findings import VISIBLE, Case, verdict, without_provider
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.models import BatchStatus
from airflow_batch_provider.records import save
from airflow_batch_provider.registry import Entry
from airflow_batch_provider.storage import Directory

HOUR = timedelta(hours=1)


@pytest.fixture
def case(tmp_path):
    """Makes a case: `case("over", "claim", "receipt", shown="completed")`, an hour after its claim."""
    root = Directory(UPath(tmp_path / "task"))
    wave = root.sub("waves/0")

    def make(task, *files, shown=(), config=None, doubtful=(), over_since=None, now=START + HOUR):
        if "claim" in files:
            claim = Claim(tag="t", requests=2, claimed_at=START, attempt=1, owner="o")
            save(wave, "00000.claim.json", claim)
        if "receipt" in files or "guess" in files:
            tentative = "guess" in files
            receipt = Receipt(batch_id="b-0", tag="t", requests=2, submitted_at=START, tentative=tentative)
            save(wave, "00000.receipt.json", receipt)
        if "rows" in files:
            wave.write("00000.rows.jsonl", b"")
        if "clock" in files:
            root.write("clock.json", b"{}")
        if config is not None:
            root.write("config.json", json.dumps(config).encode())
        entry = Entry(tag="t", provider="openai", account="a", label="d/r/t", claim="c", requests=2, claimed_at=START)
        words = [shown] if isinstance(shown, str) else shown
        statuses = tuple(BatchStatus(batch_id=f"b-{number}", status=word) for number, word in enumerate(words))
        return Case(entry, Slot("t", root, wave, "00000"), task, now, over_since, statuses, doubtful)

    return make


# what needs no look


@pytest.mark.parametrize("task", ["waiting", "over", "gone", "unknown"])
def test_a_batch_whose_rows_are_here_is_forgotten(case, task):
    """Whatever Airflow says."""
    found = without_provider(case(task, "claim", "receipt", "rows"))

    assert (found.action, found.task, found.batch_id, found.label) == ("forget", task, "b-0", "d/r/t")


def test_a_task_that_airflow_does_not_know_is_not_touched(case):
    """Another Airflow may share the storage."""
    assert without_provider(case("unknown", "claim")).action == "report"


def test_a_claim_that_a_task_waits_for_is_kept(case):
    """With a receipt or without; a withdrawn claim is another matter."""
    assert without_provider(case("waiting")) is None
    assert without_provider(case("waiting", "claim")).action == "keep"
    assert without_provider(case("waiting", "claim", "receipt")).action == "keep"


@pytest.mark.parametrize("task", ["over", "gone"])
def test_a_batch_that_nobody_waits_for_is_looked_at(case, task):
    """Only its provider knows."""
    assert without_provider(case(task, "claim", "receipt")) is None


# what the provider shows of it


@pytest.mark.parametrize("task", ["over", "gone"])
def test_what_cannot_be_decided_is_a_question_for_a_person(case, task):
    """With all that may be it, and both commands."""
    for unsure in (
        case(task, "claim", shown=["completed", "processing"]),
        case(task, "claim", doubtful=("b-0", "b-1")),
    ):
        found = verdict(unsure, HOUR)
        assert (found.action, found.status) == ("report", None)
        assert "b-0, b-1." in found.why
        assert "airflow batches adopt t BATCH_ID" in found.why
        assert "airflow batches absent t." in found.why


def test_what_is_sure_wins_over_what_only_looks_alike(case):
    """A batch under the tag itself settles it."""
    found = verdict(case("gone", "claim", shown="completed", doubtful=("b-7",)), HOUR)

    assert (found.action, found.batch_id) == ("forget", "b-0")


def test_a_batch_that_is_not_shown_is_not_there_after_a_while(case):
    """To the second; before, it may only not be visible yet."""
    assert verdict(case("over", "claim", now=START + VISIBLE - timedelta(seconds=1)), HOUR).action == "keep"
    assert verdict(case("over", "claim", now=START + VISIBLE), HOUR).action == "forget"


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
    found = verdict(case(task, *files, shown=word), HOUR)

    assert (found.action, found.status, found.batch_id) == (action, word, "b-0")
    assert ("clear of its task lands it" in found.why) is lands


# a batch that runs for nobody


def test_a_batch_whose_claim_was_withdrawn_while_its_task_waits_is_for_a_person(case):
    """The task buys another one."""
    assert verdict(case("waiting", shown="processing"), HOUR).action == "report"


def test_a_guess_is_never_cancelled(case):
    """It may be a neighbour's."""
    assert verdict(case("gone", "claim", "guess", shown="processing"), timedelta(0)).action == "report"


@pytest.mark.parametrize(
    ("task", "files", "config", "action"),
    [
        ("over", [], {"on_timeout": "leave"}, "keep"),
        ("over", ["clock"], {"on_timeout": "leave"}, "cancel"),  # killed before its deadline
        ("over", [], {"on_timeout": "fail"}, "cancel"),
        ("over", [], ["on_timeout"], "cancel"),
        ("over", [], None, "cancel"),
        ("gone", [], {"on_timeout": "leave"}, "cancel"),
    ],
)
def test_only_what_was_left_at_its_deadline_runs_on(case, task, files, config, action):
    """`on_timeout='leave'` is no licence for a task that was killed, nor for one whose run is deleted."""
    running = case(task, "claim", "receipt", *files, config=config, shown="processing")

    assert verdict(running, timedelta(0)).action == action


@pytest.mark.parametrize(
    ("files", "meanwhile"), [(["claim", "receipt"], "keep"), (["claim"], "adopt"), ([], "keep"), (["receipt"], "keep")]
)
def test_a_batch_is_cancelled_after_the_grace(case, files, meanwhile):
    """It counts from when the task was first seen to be over, or else from now; a receipt is written meanwhile."""
    first = case("over", *files, shown="pending")
    young = case("over", *files, shown="processing", over_since=START + timedelta(seconds=1))
    old = case("over", *files, shown="processing", over_since=START)

    assert [verdict(one, HOUR).action for one in (first, young, old)] == [meanwhile, meanwhile, "cancel"]
    assert "is cancelled after 2026-11-23 10:00" in verdict(first, HOUR).why
    assert "is cancelled after 2026-11-23 09:00" in verdict(young, HOUR).why


@pytest.mark.parametrize(("task", "said"), [("over", "is over"), ("gone", "was deleted")])
def test_a_cancel_says_what_became_of_the_task(case, task, said):
    """The two are mended in different ways: by a clear, or not at all."""
    found = verdict(case(task, "claim", "receipt", shown="processing"), timedelta(0))

    assert (found.action, found.status) == ("cancel", "processing")
    assert said in found.why
