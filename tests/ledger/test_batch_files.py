"""The files of one batch: only one worker can make the next claim, the last one counts, and no file is another's."""

from __future__ import annotations

import pytest
from fakes import START
from upath import UPath

from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import Claim, FailedBatch, Receipt
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


def test_claim_and_receipt_are_those_of_the_tag_that_is_asked_for(log):
    """What stands under another tag is another batch's, whoever asks."""
    log.add_claim(claim(0))
    log.add_receipt(Receipt(batch_id="b", tag="tag", requests=1, submitted_at=START))

    assert (log.claim_under("tag"), log.receipt_under("tag")) == (log.claim(), log.receipt())
    assert (log.claim_under("other"), log.receipt_under("other")) == (None, None)


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


def failed(number):
    return FailedBatch(batch_id=f"batch-{number}", reason="full", again_at=START)


def test_a_failed_batch_that_a_person_removed_shifts_no_other(log, directory):
    """The tag of the next batch is made of the number, and must never be used twice."""
    for number in (1, 2, 3):
        log.add_failure(number, failed(number))
    directory.delete("00000.failed-2.json")

    last = log.failures(log.names())
    assert (last, log.failure(last)) == (3, failed(3))


def test_files_of_other_batches_are_not_ones_own(directory):
    """Not even when one number begins as the other."""
    one, many = BatchFiles(directory, 1), BatchFiles(directory, 100001)
    many.add_failure(4, failed(4))
    directory.write("100001-x.rows.jsonl", b"")

    assert one.failures(one.names()) == 0
    assert many.has_landed()
    assert not BatchFiles(directory, 10000).has_landed()


@pytest.mark.parametrize(("draft", "here"), [("a", True), ("b", False), (None, True)])
def test_rows_have_landed_in_ones_own_draft_only(directory, draft, here):
    """Who knows only the number, as the reconciler, takes those of any draft."""
    directory.write("00002-a.rows.jsonl", b"")

    assert BatchFiles(directory, 2, draft).has_landed() is here
    assert BatchFiles(directory, 2, draft).has_landed(directory.names()) is here


def test_a_batch_is_found_by_the_name_of_its_claim(directory):
    """A registry may hold anything in its place."""
    assert BatchFiles.at(directory, "00007.claim.json") == BatchFiles(directory, 7)
    assert BatchFiles.at(directory, "00007.claim-1.json") is None
    assert BatchFiles.at(directory, "../x.claim.json") is None
