"""The whole ledger: what it waits for, what it stops, and how long it waits for what it stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START

from airflow_batch_provider.exceptions import Denied, NotFound, Unavailable, UsageError
from airflow_batch_provider.ledger.ledger import Waiting
from airflow_batch_provider.models import Reply

QUARTER = timedelta(minutes=15)


@pytest.fixture
def three(ledger, provider):
    """A task with three batches of one row each, none of which ends by itself."""
    provider.max_requests = 1
    provider.polls_until_done = 1000
    task, _ = ledger()
    return task


async def test_a_ledger_without_a_plan_is_not_driven(three):
    """Its storage was removed while it waited."""
    three.root.delete("plan.json")

    with pytest.raises(UsageError, match=r"no plan\. Clear the task to start it again"):
        await three.advance()


async def test_what_is_waited_for_is_told(three, clock):
    """The deadline counts from the first submit."""
    await three.advance()
    clock.advance(60)

    assert await three.advance() == Waiting(
        batch_ids=("batch-0", "batch-1", "batch-2"),
        queued=0,
        started_at=START,
        seen_at=START + timedelta(minutes=1),
        newest_at=START,
    )


async def test_a_task_that_is_done_has_no_deadline_any_more(three, provider):
    """What a later attempt asks again gets its own."""
    await three.advance()
    assert three.root.exists("clock.json")
    for batch in provider.batches.values():
        batch.status = "completed"

    assert await three.advance() is None
    assert not three.root.exists("clock.json")


async def test_only_batches_that_have_not_landed_are_cancelled(three, provider):
    """A provider may refuse to cancel what has ended."""
    await three.advance()
    provider.batches["batch-1"].status = "completed"
    await three.advance()
    stopped, cancel = [], provider.cancel

    async def note(batch_id):
        stopped.append(batch_id)
        await cancel(batch_id)

    provider.cancel = note

    assert await three.cancel(timedelta(0)) == 2
    assert stopped == ["batch-0", "batch-2"]


async def test_a_batch_that_is_not_visible_yet_keeps_no_other_from_being_cancelled(three, provider):
    """It is told at the end."""
    await three.advance()
    cancel = provider.cancel

    async def hidden(batch_id):
        if batch_id == "batch-0":
            raise NotFound("no such batch")
        await cancel(batch_id)

    provider.cancel = hidden

    with pytest.raises(NotFound):
        await three.cancel(timedelta(0))
    assert [batch.status for batch in provider.batches.values()] == ["processing", "cancelled", "cancelled"]


async def test_what_was_cancelled_is_waited_for_and_landed(three, provider, clock):
    """A poll every ten seconds; a fault that passes does not end it."""
    await three.advance()
    provider.status_faults = [Unavailable("busy")]
    sleep = clock.sleep

    async def settle(seconds):
        await sleep(seconds)
        if (clock.time - START).total_seconds() >= 25:
            await three.cancel(timedelta(0))

    clock.sleep = settle

    assert await three.settle(QUARTER) is True
    assert (clock.time - START).total_seconds() == 30
    assert not three.receipts(unlanded=True)


async def test_what_has_ended_is_landed_without_waiting(three, provider, clock):
    """One poll is enough."""
    await three.advance()
    await three.cancel(timedelta(0))

    assert await three.settle(QUARTER) is True
    assert clock.time == START


@pytest.mark.parametrize(("max_wait", "waited"), [(25, 30), (30, 30), (3, 3), (0, 0)])
async def test_what_does_not_settle_is_given_up_when_the_time_is_over(three, clock, max_wait, waited):
    """The next attempt lands it."""
    await three.advance()

    assert await three.settle(timedelta(seconds=max_wait)) is False
    assert (clock.time - START).total_seconds() == waited
    assert len(three.receipts(unlanded=True)) == 3


async def test_files_are_cleaned_up_once_their_rows_are_here_and_a_refusal_harms_nothing(three, provider):
    """The answers are safe; a batch that has not landed keeps what it needs."""
    await three.advance()
    for name in ("batch-0", "batch-2"):
        provider.batches[name].status = "completed"
    await three.advance()
    asked = []

    async def clean_up(batch_id):
        asked.append(batch_id)
        raise Denied("no")

    provider.clean_up = clean_up
    await three.clean_up()

    assert asked == ["batch-0", "batch-2"]


async def test_landing_cleans_up_what_it_landed_and_nothing_twice(three, provider):
    """A provider may refuse to delete what is gone."""
    await three.advance()
    for batch_id in ("batch-0", "batch-1"):
        provider.batches[batch_id].status = "completed"
        await three.land()

    assert provider.cleaned == ["batch-0", "batch-1"]


async def test_a_next_wave_is_opened_and_submitted_at_once(ledger, provider):
    """Nobody has to come back for it."""
    provider.answer = lambda body, n: None if body["prompt"] == "b" and n == 1 else Reply(key="", status="succeeded")
    task, _ = ledger(retry_rows=1)
    await task.advance()
    provider.batches["batch-0"].status = "completed"

    waiting = await task.advance()

    assert (waiting.batch_ids, waiting.queued) == (("batch-1",), 0)
    assert [wave.number for wave in task.waves()] == [0, 1]
    assert [receipt.batch_id for receipt in task.receipts()] == ["batch-0", "batch-1"]
    assert [receipt.batch_id for receipt in task.receipts(unlanded=True)] == ["batch-1"]
