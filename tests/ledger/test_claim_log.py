"""The claims on one batch: only one worker can make the next one, and the last one counts."""

from __future__ import annotations

import pytest
from fakes import START
from upath import UPath

from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import Claim
from airflow_batch_provider.storage import Directory


@pytest.fixture
def directory(tmp_path):
    return Directory(UPath(tmp_path / "wave"))


@pytest.fixture
def log(directory):
    return BatchFiles(directory, 0)


def claim(number=0, owner="one"):
    return Claim(number=number, tag="tag", requests=1, claimed_at=START, attempt=1, owner=owner)


def test_the_last_claim_counts(log):
    """Also the eleventh, which a list of names puts before the third."""
    assert (log.claim(), log.next_claim()) == (None, 0)
    for number in range(12):
        assert log.add_claim(claim(number))
        assert (log.claim(), log.next_claim()) == (claim(number), number + 1)


def test_only_one_worker_makes_the_next_claim(log):
    """The other one is told, and what the first one wrote stands."""
    log.add_claim(claim(0))

    assert log.add_claim(claim(1, "first"))
    assert not log.add_claim(claim(1, "second"))
    assert log.claim() == claim(1, "first")


def test_a_claim_that_was_followed_does_not_count_any_more(log):
    """Not even when the next one is in the same name."""
    log.add_claim(claim(0))
    assert log.is_last(claim(0))

    log.add_claim(claim(1))

    assert not log.is_last(claim(0))
    assert log.is_last(claim(1))


def test_a_withdrawn_claim_is_none_and_may_be_followed(log):
    """The number goes on, so that who held it does not take the next one for his."""
    log.add_claim(claim(0))

    assert log.withdraw(claim(0))
    assert log.claim() is None
    assert not log.is_last(claim(0))
    assert log.next_claim() == 2
    log.add_claim(claim(2, "next"))
    assert log.claim() == claim(2, "next")


def test_a_claim_that_was_taken_over_cannot_be_withdrawn(log):
    """It is the successor's to say."""
    log.add_claim(claim(0))
    log.add_claim(claim(1, "successor"))

    assert not log.withdraw(claim(0))
    assert log.claim() == claim(1, "successor")


def test_a_claim_that_a_person_removed_is_not_mistaken_for_a_new_one(log, directory):
    """Its number is given again, to somebody else."""
    log.add_claim(claim(0, "asleep"))
    directory.delete("00000.claim.json")
    log.add_claim(claim(0, "new"))

    assert not log.is_last(claim(0, "asleep"))


def test_claims_on_other_batches_are_others(log, directory):
    """And so is a file that is only half written."""
    BatchFiles(directory, 1).add_claim(claim(0))
    BatchFiles(directory, 1).add_claim(claim(0))
    directory.write("00000.claim.json.draft-1", b"{")

    assert (log.claim(), log.next_claim()) == (None, 0)
