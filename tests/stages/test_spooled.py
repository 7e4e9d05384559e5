"""Rows of a generator are read once and asked like those of a list."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from airflow_batch_provider.blocks import MOST_BYTES, MOST_ROWS
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.stages.spooled import SpooledRows


def test_the_rows_of_an_iterator_come_back_as_often_as_they_are_wanted():
    """In order, as the values that they were."""
    rows = ["a", {"prompt": "b", "n": [1, None]}, BatchRequest(prompt="c")]
    with closing(SpooledRows.of(iter(rows))) as spooled:
        assert list(spooled.blocks()) == [rows]
        assert next(spooled.blocks())[0] == "a"
        assert list(spooled.blocks()) == [rows]


def test_rows_come_back_in_blocks_that_do_not_grow_with_their_number_or_size():
    """Large ones alone, of small ones some hundred."""
    rows = [*(str(number) for number in range(MOST_ROWS + 1)), "x" * MOST_BYTES, "y" * MOST_BYTES, "z"]
    with closing(SpooledRows.of(iter(rows))) as spooled:
        blocks = list(spooled.blocks())

    assert [row for block in blocks for row in block] == rows
    assert [len(block) for block in blocks] == [MOST_ROWS, 2, 1, 1]


def test_a_row_that_cannot_be_kept_is_refused_by_its_number():
    """With the remedy."""
    with pytest.raises(UsageError, match=r"Row 1 is a lock, which cannot be kept .*a list instead of an iterator"):
        SpooledRows.of(iter(["a", threading.Lock()]))


async def test_a_generator_is_asked_in_place_of_the_requests_of_an_earlier_attempt(job, provider):
    """Whose plan is compared with it first, which reads it to its end."""
    await job(["old"]).run()

    task = job()
    task.requests = (prompt for prompt in ("new", "newer"))
    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == ["echo: new", "echo: newer"]
    assert provider.bought == {"old": 1, "new": 1, "newer": 1}


async def test_an_empty_generator_is_refused_as_an_empty_list_is(job):
    """Before anything is paid."""
    task = job()
    task.requests = iter(())
    with pytest.raises(UsageError, match="Cannot submit empty batch"):
        await task.start()
