"""The answers come back: each request has one row, and nothing is left at the provider."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec
import pytest
from fakes import Killed, failing

from airflow_batch_provider.exceptions import (
    NotFound,
    Overdue,
    RowsFailed,
    Unavailable,
    Unresolved,
)
from airflow_batch_provider.models import Reply
from airflow_batch_provider.stages import Suspended


async def test_every_request_has_one_row_in_the_order_asked(job):
    """Providers answer in any order; the results stand in ours, with the users' keys."""
    task = job([f"q{n}" for n in range(7)])

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == [f"echo: q{n}" for n in range(7)]
    assert [row["custom_id"] for row in task.rows(manifest)] == [f"request-{n}" for n in range(7)]
    assert manifest.counts["succeeded"] == manifest.requests == 7


async def test_results_that_break_off_are_landed_later_and_whole(job, provider):
    """Landing starts again; nothing half-written is taken for rows."""
    provider.result_faults = [None, Unavailable("cut in the middle")]
    task = job()

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 3
    assert len(provider.batches) == 1


async def test_a_poll_that_fails_for_a_passing_reason_does_not_fail_the_task(job, provider):
    """The worker comes back instead."""
    task = job()
    suspended = await task.start()
    await task.wait(suspended)
    provider.status_faults = [Unavailable("503")]

    result = await task.resume(suspended)

    assert isinstance(result, Suspended)
    assert result.poll.first_poll.total_seconds() == 60


async def test_what_waits_for_answers_wakes_no_worker_before_they_are_due(job, provider, clock):
    """The batch has ended, but there is nothing to do."""
    task = job()
    suspended = await task.start()
    await task.wait(suspended)
    provider.result_faults = [Unavailable("not yet", retry_after=600.0)]
    held = await task.resume(suspended)

    assert not (await task.check(held)).is_ready
    clock.advance(590)
    assert not (await task.check(held)).is_ready
    clock.advance(10)
    assert (await task.check(held)).is_ready


async def test_files_at_the_provider_are_removed_after_landing(job, provider):
    """Every batch of a task that is done is cleaned up."""
    provider.max_requests = 2

    await job().run()

    assert provider.cleaned == ["batch-0", "batch-1"]


@pytest.mark.parametrize("on_timeout", ["salvage", "fail"])
async def test_files_of_what_landed_are_removed_when_the_deadline_passes(job, provider, on_timeout):
    """Nobody may ever retry the task."""
    provider.max_requests = 1
    task = job(["a", "b"], on_timeout=on_timeout)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    with nullcontext() if on_timeout == "salvage" else pytest.raises(Overdue):
        await task.overdue(suspended)

    assert provider.cleaned == ["batch-0", "batch-1"]


async def test_files_of_what_landed_are_removed_when_too_few_rows_are_good(job, provider):
    """The answers are in stage storage; a retry asks the rest in batches of its own."""
    provider.answer = lambda _body, _n: failing()

    with pytest.raises(RowsFailed):
        await job().run()

    assert provider.cleaned == ["batch-0"]


async def test_a_worker_that_dies_while_it_removes_files_leaves_a_task_that_is_done(job, provider):
    """A row without a good answer is not asked again by the attempt after a success."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, _n: failing() if body["prompt"] == "b" else ok
    task = job()
    clean_up = provider.clean_up

    async def dies(batch_id):
        raise Killed(batch_id)

    provider.clean_up = dies
    with pytest.raises(Killed):
        await task.run()
    provider.clean_up = clean_up
    manifest = await task.retry()

    assert manifest.counts["failed"] == 1
    assert provider.bought == {"a": 1, "b": 1, "c": 1}


async def test_duplicates_and_strangers_in_the_results_change_nothing(job, provider):
    """The last good answer wins; keys that were never asked are ignored."""
    original = provider.results

    async def noisy(batch_id, kind):
        async for reply in original(batch_id, kind):
            yield reply
            yield msgspec.structs.replace(failing(), key=reply.key)
            yield msgspec.structs.replace(reply, key="somebody-else-1")
            yield msgspec.structs.replace(reply, key=f"{reply.key}9999")

    provider.results = noisy
    task = job()

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == ["echo: a", "echo: b", "echo: c"]


async def test_results_that_are_gone_are_not_bought_again_silently(job, provider):
    """They were paid; whether to pay again is a person's decision."""
    provider.result_faults = [NotFound("the results were removed after 29 days")]
    task = job()
    suspended = await task.start()
    await task.wait(suspended)

    with pytest.raises(Unresolved, match=r"are gone from openai.*delete"):
        await task.resume(suspended)

    assert len(provider.batches) == 1


async def test_files_at_the_provider_stay_when_the_user_wants_them(job, provider):
    """`clean_up=False`."""
    await job(clean_up=False).run()

    assert provider.cleaned == []
