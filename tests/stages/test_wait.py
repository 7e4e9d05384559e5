"""The stage behind the sensor polls somebody else's batch and never touches it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START, Job

from airflow_batch_provider.exceptions import Overdue
from airflow_batch_provider.models import BatchStatus, ConnectionRef, RequestCounts
from airflow_batch_provider.stages import CompletionCheck, PollConfig
from airflow_batch_provider.stages.wait import WaitConfig, WaitForBatch

POLL = PollConfig(interval=timedelta(minutes=3), max_wait=timedelta(hours=5))


@pytest.fixture
def waiting(tmp_path, provider, clock):
    """A sensor's stage; `shows` is what the provider shows of the batch."""
    job = Job(tmp_path, provider, clock, stage=WaitForBatch())
    job.config = WaitConfig(batch_id="theirs", connection=ConnectionRef(conn_id="c"), poll=POLL)
    asked = []

    async def status(batch_id):
        asked.append(batch_id)
        return job.shows

    def shows(status, **more):
        job.shows = BatchStatus(batch_id="theirs", status=status, **more)

    provider.status, job.asked, job.show = status, asked, shows
    return job


async def test_it_waits_from_now_on_at_its_own_pace(waiting, clock):
    """The deadline counts from the start of the waiting, not of the batch."""
    clock.advance(60)

    suspended = await waiting.start()

    assert (suspended.state.batch_id, suspended.state.submitted_at) == ("theirs", START + timedelta(minutes=1))
    assert suspended.poll == POLL
    assert waiting.asked == []


async def test_a_running_batch_shows_how_far_it_is(waiting):
    """The numbers too, where the provider tells them."""
    suspended = await waiting.start()
    waiting.show("pending")
    assert await waiting.check(suspended) == CompletionCheck.not_ready()
    waiting.show("processing", counts=RequestCounts(total=9, succeeded=4, failed=1), error="a row had an error")
    assert await waiting.check(suspended) == CompletionCheck.not_ready()

    assert waiting.shown == [
        {"status": "pending", "batch_id": "theirs"},
        {"status": "processing", "batch_id": "theirs", "total": 9, "succeeded": 4, "failed": 1},
    ]
    assert waiting.asked == ["theirs", "theirs"]


async def test_a_completed_batch_is_the_answer(waiting):
    """As JSON, for XCom."""
    suspended = await waiting.start()
    waiting.show("completed", created_at=START)

    check = await waiting.check(suspended)

    assert check.is_ready
    assert (check.output["batch_id"], check.output["status"]) == ("theirs", "completed")
    assert check.output["created_at"] == "2026-11-23T08:00:00Z"
    assert waiting.shown == []


@pytest.mark.parametrize("word", ["failed", "expired", "cancelled"])
async def test_a_batch_that_came_to_nothing_fails_the_wait(waiting, word):
    """With the provider's reason where there is one, and what to do."""
    suspended = await waiting.start()
    waiting.show(word)
    check = await waiting.check(suspended)
    assert check.error.startswith(f"Batch 'theirs' {word}. ")
    assert "submit the missing rows again" in check.error
    assert not check.is_ready

    waiting.show(word, error="bad file")
    assert (await waiting.check(suspended)).error.startswith(f"Batch 'theirs' {word}: bad file. ")


async def test_a_wait_that_takes_too_long_leaves_the_batch_running(waiting, provider):
    """Says how long it waited: as the operator said, or else as the stage itself does."""
    suspended = await waiting.start()

    with pytest.raises(
        Overdue, match=r"'theirs' was not done after 5:00:00, and was left running\. Raise the max_wait"
    ):
        await waiting.overdue(suspended)

    shorter = POLL.model_copy(update={"max_wait": timedelta(hours=1)})
    with pytest.raises(Overdue, match="not done after 1:00:00"):
        await waiting.stage.overdue(waiting.context(resume_state=suspended.state, poll=shorter))
    assert waiting.asked == []


async def test_a_kill_leaves_the_batch_running(waiting, provider):
    """It is somebody else's; the provider in memory would not know it and fail."""
    suspended = await waiting.start()

    from airflow_batch_provider.stages import CheckCompletionContext

    await waiting.stage.cancel(suspended.state, waiting.context(CheckCompletionContext))

    assert waiting.asked == []
