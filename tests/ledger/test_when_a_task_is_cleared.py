"""Somebody clears, marks or changes the task."""

from __future__ import annotations

import pytest
from fakes import failing

from airflow_batch_provider.exceptions import (
    NotFound,
    Unavailable,
    UsageError,
)
from airflow_batch_provider.models import Reply
from airflow_batch_provider.stages import CheckCompletionContext, Suspended


async def test_clearing_a_task_that_succeeded_buys_nothing(job, provider):
    """The same requests have their answers already."""
    task = job()

    first = await task.run()
    second = await task.retry()

    assert second == first
    assert len(provider.batches) == 1


async def test_what_was_asked_after_another_worker_had_finished_is_not_left_out(job, provider):
    """A zombie called the task done while its successor, which then died, was about to ask again what had failed."""
    provider.answer = lambda body, n: (
        failing() if body["prompt"] == "b" and n == 1 else Reply(key="", status="succeeded", output="ok")
    )
    zombie, successor = job(), job()
    successor.attempt = 2
    suspended = await zombie.start()
    await zombie.wait(suspended)

    assert (await zombie.resume(suspended)).counts["failed"] == 1
    assert isinstance(await successor.resume(suspended), Suspended)
    manifest = await successor.retry()

    assert manifest.counts["succeeded"] == 3
    assert set(provider.bought.values()) == {1, 2}


async def test_what_was_bought_after_another_worker_had_salvaged_is_landed(job, provider):
    """The same, in the middle of a wave: the paid batch is not forgotten."""
    provider.max_requests = 1
    zombie, successor = (job(["a", "b"], max_in_flight=1, on_timeout="salvage") for _ in range(2))
    successor.attempt = 2
    suspended = await zombie.start()
    await zombie.wait(suspended)

    assert (await zombie.overdue(suspended)).counts["succeeded"] == 1
    assert isinstance(await successor.resume(suspended), Suspended)
    manifest = await successor.retry()

    assert manifest.counts["succeeded"] == 2
    assert set(provider.bought.values()) == {1}


async def test_a_retry_re_attaches_to_the_running_batch(job, provider):
    """A worker that died after the submit costs nothing."""
    task = job()

    await task.start()
    await task.retry()

    assert len(provider.batches) == 1


async def test_other_requests_of_a_finished_task_are_asked_and_the_old_answers_kept(job, provider):
    """Clearing after a change of the DAG asks the new rows."""
    task = job(["a"])
    await task.run()
    task.requests = ["b"]

    manifest = await task.retry()

    assert task.rows(manifest)[0]["output"] == "echo: b"
    (kept,) = task.directory.names("superseded")
    assert "results.jsonl" in task.directory.names(f"superseded/{kept}")


async def test_other_requests_are_refused_while_a_batch_is_open(job, provider):
    """Neither stale answers nor a second bill."""
    task = job(["a"])
    await task.start()
    task.requests = ["b"]

    with pytest.raises(UsageError, match=r"still open\. Restore the requests .* or delete that directory to pay"):
        await task.retry()

    assert len(provider.batches) == 1


async def test_other_requests_are_refused_while_any_batch_of_several_is_open(job, provider):
    """Also when the first ones have landed."""
    provider.max_requests = 1
    task = job(["a", "b"])
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"
    await task.resume(suspended)
    assert any(name.endswith(".rows.jsonl") for name in task.directory.names("waves/0"))
    task.requests = ["c"]

    with pytest.raises(UsageError, match="-0-00001' of them is still open"):
        await task.retry()

    assert len(provider.batches) == 2


async def test_a_kill_cancels_each_batch_although_one_cannot_be(job, provider, caplog):
    """A busy provider is asked again; what is not to be found keeps no other running, and is named."""
    provider.max_requests = 1
    provider.polls_until_done = 1000
    task = job()
    suspended = await task.start()
    cancel, busy = provider.cancel, [Unavailable("429")]

    async def unsteady(batch_id):
        if batch_id == "batch-0":
            raise NotFound("no such batch")
        if busy:
            raise busy.pop()
        await cancel(batch_id)

    provider.cancel = unsteady
    with pytest.raises(NotFound):
        await task.stage.cancel(suspended.state, task.context(CheckCompletionContext))

    assert [batch.status for batch in provider.batches.values()] == ["processing", "cancelled", "cancelled"]
    assert any("'batch-0' was not cancelled" in record.message for record in caplog.records)


async def test_a_poll_buys_nothing(job, provider):
    """The trigger may poll as often as it likes, and with places free: only the worker submits."""
    provider.max_requests = 1
    task = job(["a", "b"], max_in_flight=1)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    for _ in range(5):
        await task.check(suspended)

    assert len(provider.batches) == 1
