"""The deadline passes: what is cancelled, kept and left to the next attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import failing

from airflow_batch_provider.exceptions import (
    NotFound,
    Overdue,
    Overtaken,
    RowsFailed,
    Unavailable,
)
from airflow_batch_provider.models import Reply
from airflow_batch_provider.stages import Suspended


async def test_the_deadline_cancels_lands_and_leaves_the_rest_to_the_next_attempt(job, provider):
    """What finished is kept; a retry buys only the rest."""
    provider.max_requests = 1
    task = job(["a", "b"])
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    with pytest.raises(Overdue, match=r"1 of 2 rows have an answer, in .*; a retry buys only the rest\.$"):
        await task.overdue(suspended)
    manifest = await task.retry()

    assert manifest.counts["succeeded"] == 2
    assert provider.bought == {"a": 1, "b": 2}


async def test_a_provider_that_does_not_settle_is_told_with_the_deadline(job, provider):
    """After a quarter of an hour; the next attempt lands what is left."""
    task = job(["a"])
    suspended = await task.start()
    before = task.clock.now()

    async def deaf(_batch_id):
        pass

    provider.cancel, provider.polls_until_done = deaf, 1000
    with pytest.raises(Overdue, match="did not settle within 0:15:00; the next attempt lands the rest"):
        await task.overdue(suspended)

    assert (task.clock.now() - before).total_seconds() == 900


async def test_the_deadline_may_salvage(job, provider):
    """`on_timeout="salvage"` succeeds with what finished, above the ratio."""
    provider.max_requests = 1
    task = job(["a", "b"], on_timeout="salvage", min_success_ratio=0.5)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    manifest = await task.overdue(suspended)

    assert manifest.counts == {**manifest.counts, "succeeded": 1, "cancelled": 1}


async def test_a_salvage_that_could_not_wait_for_a_batch_is_completed_by_a_clear(job, provider):
    """What the provider had not settled was paid as well: it is neither given up nor bought again."""
    provider.max_requests, provider.polls_until_done = 1, 1000
    task = job(["a", "b"], on_timeout="salvage", min_success_ratio=0.5)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    async def deaf(_batch_id):
        pass

    provider.cancel = deaf
    salvaged = await task.overdue(suspended)
    provider.batches["batch-1"].status = "completed"
    whole = await task.retry()

    assert (salvaged.counts["succeeded"], salvaged.counts["missing"]) == (1, 1)
    assert whole.counts["succeeded"] == 2
    assert provider.bought == {"a": 1, "b": 1}


@pytest.mark.parametrize("busy", [200.0, None])
async def test_a_provider_that_is_busy_at_the_deadline_is_waited_for(job, provider, busy):
    """One 503 in the wrong moment must not cost the answers that are there."""
    provider.max_requests = 1
    task = job(["a", "b"], on_timeout="salvage")
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"
    cancel, faults = provider.cancel, [Unavailable("503", retry_after=busy)] * 3

    async def unsteady(batch_id):
        if faults:
            raise faults.pop()
        await cancel(batch_id)

    provider.cancel = unsteady
    manifest = await task.overdue(suspended)

    assert manifest.counts == {**manifest.counts, "succeeded": 1, "cancelled": 1}


async def test_a_provider_that_is_busy_for_long_at_the_deadline_ends_the_attempt(job, provider):
    """A quarter of an hour for all batches together; the next attempt goes on with them."""
    provider.max_requests = 1
    task = job(["a", "b"])
    suspended = await task.start()
    before = task.clock.now()

    async def busy(_batch_id):
        raise Unavailable("503", retry_after=100.0)

    provider.cancel = busy
    with pytest.raises(Unavailable, match="503"):
        await task.overdue(suspended)

    assert (task.clock.now() - before).total_seconds() == 900
    assert (await task.retry()).counts["succeeded"] == 2
    assert provider.bought == {"a": 1, "b": 1}


async def test_the_deadline_may_leave_the_batches_running(job, provider):
    """`on_timeout="leave"` cancels nothing; the next attempt lands them, with a deadline of its own."""
    task = job(on_timeout="leave")
    suspended = await task.start()
    task.clock.advance(36_000)

    with pytest.raises(Overdue, match="go on running"):
        await task.overdue(suspended)
    again = await task.start()

    assert provider.batches["batch-0"].status == "processing"
    assert again.state.submitted_at > suspended.state.submitted_at


async def test_a_deadline_that_leaves_batches_running_shows_no_results_of_an_earlier_attempt(job, provider):
    """They are not those of what runs."""
    provider.answer = lambda _body, _n: failing(retryable=False)
    task = job(on_timeout="leave", min_success_ratio=1.0)
    with pytest.raises(RowsFailed):
        await task.run()
    assert task.shown[-1]["results"]

    task.requests = ["other rows"]
    task.attempt += 1
    suspended = await task.start()
    task.clock.advance(36_000)
    with pytest.raises(Overdue, match="go on running"):
        await task.overdue(suspended)

    assert task.shown[-1]["results"] is None


async def test_a_retry_within_the_deadline_goes_on_with_the_same_one(job, provider, clock):
    """A worker that dies, or a task that is cleared, gets no more time."""
    task = job()
    first = await task.start()
    clock.advance(9 * 3600)
    task.attempt += 1

    again = await task.start()

    assert again.state.submitted_at == first.state.submitted_at


async def test_the_deadline_passes_while_the_provider_takes_nothing(job, provider, clock):
    """A full queue is waited for until the deadline, not longer; nothing was bought, and the next attempt tries again."""
    provider.submit_faults = [Unavailable("429", retry_after=1800.0, ambiguous=False)] * 30
    task = job()
    suspended = await task.start()
    while clock.now() < suspended.state.submitted_at + timedelta(hours=10):
        clock.advance(1800)
        again = await task.resume(suspended)
        assert again.state.submitted_at == suspended.state.submitted_at
        suspended = again

    with pytest.raises(Overdue, match="0 of 3 rows have an answer"):
        await task.overdue(suspended)
    assert not provider.batches
    provider.submit_faults.clear()
    assert (await task.retry()).counts["succeeded"] == 3


async def test_a_worker_that_waits_to_cancel_lets_its_successors_batch_run(job, provider, clock):
    """At the deadline the provider was busy; meanwhile the task was cleared, and goes on with the same batch."""
    zombie, successor = job(), job()
    suspended = await zombie.start()
    successor.attempt = 2
    cancelled = []

    async def busy(batch_id):
        if not cancelled:
            cancelled.append(batch_id)
            await successor.start()
            raise Unavailable("503")
        raise AssertionError(batch_id)

    provider.cancel = busy
    with pytest.raises(Overtaken, match="so they are not cancelled"):
        await zombie.overdue(suspended)


async def test_the_deadline_counts_from_the_first_submit_through_all_waves(job, provider):
    """A second wave does not start the clock again."""
    provider.answer = lambda _body, n: failing() if n == 1 else Reply(key="", status="succeeded", output="x")
    task = job(retry_rows=1)
    first = await task.start()
    await task.wait(first)

    second = await task.resume(first)

    assert isinstance(second, Suspended)
    assert second.state.submitted_at == first.state.submitted_at


async def test_at_the_deadline_one_hidden_batch_does_not_keep_the_others_running(job, provider):
    """They are cancelled, and the task says which one is not to be found."""
    provider.max_requests = 1
    task = job()
    suspended = await task.start()
    del provider.batches["batch-0"]
    original = provider.cancel

    async def cancel(batch_id):
        if batch_id not in provider.batches:
            raise NotFound(batch_id)
        await original(batch_id)

    provider.cancel = cancel
    with pytest.raises(NotFound, match="batch-0"):
        await task.overdue(suspended)

    assert [batch.status for batch in provider.batches.values()] == ["cancelled", "cancelled"]
