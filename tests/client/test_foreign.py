"""Several batches behind one id, as one status."""

from __future__ import annotations

import pytest
from fakes import failing
from msgspec import structs

from airflow_batch_provider.client.foreign import combined, rows_of_foreign_batch
from airflow_batch_provider.models import BatchStatus, Reply, RequestCounts, RowError
from airflow_batch_provider.schemas import AnswerSchema


def batch(status, counts=None, error=None):
    return BatchStatus(batch_id=f"of {status}", status=status, counts=counts and RequestCounts(**counts), error=error)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["completed", "completed"], "completed"),
        (["completed", "processing"], "processing"),
        (["pending", "completed"], "pending"),
        (["pending", "processing"], "processing"),
        (["failed", "completed"], "completed"),
        (["failed", "expired"], "expired"),
    ],
)
def test_batches_have_ended_when_all_of_them_have(words, word):
    """`completed` when any of them is, because it has rows to read."""
    assert combined("all", [batch(each) for each in words]).status == word


def test_counts_are_the_sums_of_all_batches_or_unknown():
    """A sum that leaves one batch out would look like a whole."""
    one, two = {"total": 5, "succeeded": 3, "failed": 1}, {"total": 7, "succeeded": 2, "failed": 4}

    both = combined("all", [batch("processing", one), batch("processing", two)])
    half = combined("all", [batch("processing", one), batch("pending")])

    assert both.batch_id == "all"
    assert both.counts == RequestCounts(total=12, succeeded=5, failed=5)
    assert half.counts is None


def test_the_first_error_is_told():
    """And one batch is told as it is."""
    failed = batch("failed", error="no file")
    assert combined("all", [batch("completed"), failed, batch("failed", error="later")]).error == "no file"
    assert combined("all", [failed]) is failed


class Elsewhere:
    """A provider with a batch that was not bought here."""

    def __init__(self, *replies):
        self._replies = replies

    async def results(self, _batch_id, _kind):
        for key, reply in self._replies:
            yield structs.replace(reply, key=key)


GOOD, BETTER = (Reply(key="", status="succeeded", output=text) for text in ("good", "better"))
BAD, WORSE = failing("overloaded"), failing("refused")


@pytest.mark.parametrize(
    ("replies", "output", "code"),
    [
        ([GOOD, BAD], "good", None),
        ([BAD, GOOD], "good", None),
        ([GOOD, BETTER], "better", None),
        ([BAD, WORSE], None, "refused"),
    ],
)
async def test_of_several_answers_to_one_key_the_last_good_one_stands(replies, output, code):
    """As in a batch of our own."""
    elsewhere = Elsewhere(*(("a", reply) for reply in replies))

    (row,) = await rows_of_foreign_batch(elsewhere, batch("completed"), "generate", ["a"], None)

    assert (row.custom_id, row.output, row.error and row.error.code) == ("a", output, code)
    assert row.batch_id == "of completed"


async def test_answers_are_checked_against_the_schema_that_is_given():
    """And a row without an answer says how its batch ended."""
    schema = AnswerSchema({"type": "object", "required": ["n"]})
    fits, misfit = (Reply(key="", status="succeeded", output=text) for text in ('{"n": 1}', "{}"))

    rows = await rows_of_foreign_batch(
        Elsewhere(("b", misfit), ("a", fits)), batch("expired"), "generate", ["a", "b", "c"], schema
    )

    assert [(row.custom_id, row.index, row.status) for row in rows] == [
        ("a", 0, "succeeded"),
        ("b", 1, "invalid"),
        ("c", 2, "expired"),
    ]
    assert rows[0].output == {"n": 1}
    assert isinstance(rows[2].error, RowError)
