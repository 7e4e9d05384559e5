"""The submit goes wrong: what is bought, and by whom."""

from __future__ import annotations

import pytest
from fakes import failing

from airflow_batch_provider.exceptions import (
    Denied,
    NotFound,
    Overtaken,
    Paused,
    Rejected,
    Unavailable,
    Unresolved,
)
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.models import Reply
from airflow_batch_provider.providers.base import Candidate
from airflow_batch_provider.stages import CheckCompletionContext, Suspended


async def test_no_answer_to_a_submit_that_happened_buys_nothing_more(job, provider):
    """The connection broke after the provider had it: it is found by its tag."""
    provider.submit_faults = [(Unavailable("cut"), "after")]

    manifest = await job().run()

    assert len(provider.batches) == 1
    assert manifest.counts["succeeded"] == 3


async def test_no_answer_to_a_submit_that_did_not_happen_submits_after_the_grace_time(job, provider, clock):
    """Absence counts only once the batch would have become visible."""
    provider.submit_faults = [Unavailable("cut")]
    before = clock.now()

    await job().start()

    assert len(provider.batches) == 1
    assert (clock.now() - before).total_seconds() >= 60


async def test_a_provider_that_takes_no_batch_now_is_waited_for_without_a_worker(job, provider):
    """A long 429 suspends the task, which comes back by itself."""
    provider.submit_faults = [Unavailable("429", retry_after=600, ambiguous=False)]
    task = job()

    suspended = await task.start()

    assert isinstance(suspended, Suspended)
    assert suspended.state.metadata["batch_ids"] == []
    assert not (await task.check(suspended)).is_ready
    await task.wait(suspended)
    assert (await task.run()).counts["succeeded"] == 3
    assert len(provider.batches) == 1


@pytest.mark.parametrize("error", [Rejected("bad"), Denied("no key"), Paused("no credit")])
async def test_a_refused_submit_withdraws_its_claim(job, provider, error):
    """Nothing was billed, so the next attempt may simply submit."""
    provider.submit_faults = [error]
    task = job()

    with pytest.raises(type(error)):
        await task.start()

    assert BatchFiles(task.directory.sub("waves/0"), 0).claim() is None
    assert (await task.retry()).counts["succeeded"] == 3


async def _paused(task, provider):
    provider.submit_faults = [Paused("no credit")]
    with pytest.raises(Paused):
        await task.start()


async def _undecided(task, provider):
    provider.submit_faults = [Unavailable("cut")]
    find = provider.find

    async def two(_claim):
        return [Candidate("one", certain=False), Candidate("two", certain=False)]

    provider.find = two
    with pytest.raises(Unresolved):
        await task.start()
    provider.find = find


async def _marked(task, _provider):
    suspended = await task.start()
    await task.stage.cancel(suspended.state, task.context(CheckCompletionContext))


async def _died(task, _provider):
    await task.start()


@pytest.mark.parametrize("ended", [_paused, _undecided, _marked, _died])
async def test_a_task_that_is_cleared_days_later_has_all_its_time_again(job, provider, clock, ended):
    """Whatever became of the attempt before: what is bought now, or runs still, is not cancelled at the first poll."""
    provider.polls_until_done = 10_000
    task = job()
    await ended(task, provider)
    clock.advance(2 * 86_400)
    task.attempt += 1
    cleared_at = clock.now()

    suspended = await task.start()

    assert suspended.state.submitted_at >= cleared_at


async def test_a_create_that_names_what_is_not_there_is_a_refusal(job, provider):
    """A model that does not exist, say: nothing was bought, so the DAG can be fixed."""
    provider.submit_faults = [NotFound("models/gemini-9 is not found")]
    task = job()
    with pytest.raises(Rejected, match="gemini-9 is not found"):
        await task.start()

    task.config = task.config.model_copy(update={"model": "openai:right"})
    assert (await task.retry()).counts["succeeded"] == 3


async def test_a_batch_that_failed_for_lack_of_credit_is_bought_when_there_is_some(job, provider):
    """The provider took it and found out later; nothing of it ran, so no row has failed."""
    task = job()
    suspended = await task.start()
    batch = provider.batches["batch-0"]
    batch.status, batch.error, batch.retryable, batch.unpaid = "failed", "billing_hard_limit_reached", True, True

    with pytest.raises(Paused, match="billing_hard_limit_reached Pay at the provider, then clear the task"):
        await task.resume(suspended)
    task.clock.advance(3600)

    assert (await task.retry()).counts["succeeded"] == 3
    assert provider.bought == {"a": 2, "b": 2, "c": 2}
    assert provider.cleaned[0] == "batch-0"


async def test_a_batch_that_is_not_visible_yet_is_not_gone(job, provider):
    """A 404 just after the create is waited out; much later it is a question for a person."""
    task = job()
    suspended = await task.start()
    hidden = provider.batches.pop("batch-0")
    assert isinstance(await task.resume(suspended), Suspended)
    task.clock.advance(3600)

    with pytest.raises(Unresolved, match="does not know batch"):
        await task.resume(suspended)

    provider.batches["batch-0"] = hidden
    assert (await task.retry()).counts["succeeded"] == 3
    assert len(provider.batches) == 1


async def test_a_later_batch_that_is_not_visible_yet_wakes_no_worker(job, provider, clock):
    """It is as young as its own create, however long ago the task began; after ten minutes the worker is to look."""
    provider.answer = lambda body, n: failing() if n == 1 else Reply(key="", status="succeeded", output="ok")
    task = job(retry_rows=1)
    suspended = await task.start()
    clock.advance(3600)
    await task.wait(suspended)
    suspended = await task.resume(suspended)
    hidden = provider.batches.pop("batch-1")

    assert not (await task.check(suspended)).is_ready
    clock.advance(601)
    assert (await task.check(suspended)).is_ready

    provider.batches["batch-1"] = hidden
    await task.wait(suspended)
    assert (await task.resume(suspended)).counts["succeeded"] == 3


async def test_a_damaged_ledger_stops_the_task(job, provider):
    """A file that cannot be read may hide a purchase, so a person must look."""
    task = job()
    await task.start()
    task.directory.write("waves/0/00000.receipt.json", b'{"batch_')

    with pytest.raises(Unresolved, match="damaged"):
        await task.retry()

    assert len(provider.batches) == 1


async def test_a_batch_that_failed_unbilled_for_a_passing_reason_is_submitted_again(job, provider, clock):
    """A full queue (`token_limit_exceeded`) costs no wave: the part rests, longer each time, and goes again."""
    task = job()
    suspended = await task.start()
    for number, rest in enumerate([60, 120]):
        batch = provider.batches[f"batch-{number}"]
        batch.status, batch.error, batch.retryable = "failed", "token_limit_exceeded", True
        before = clock.now()
        suspended = await task.resume(suspended)
        assert suspended.state.metadata["batch_ids"] == []
        await task.wait(suspended)
        assert (clock.now() - before).total_seconds() >= rest
        suspended = await task.resume(suspended)

    await task.wait(suspended)
    manifest = await task.resume(suspended)

    assert manifest.counts["succeeded"] == 3
    assert manifest.waves == 1
    assert len({batch.tag for batch in provider.batches.values()}) == 3


async def test_a_queue_that_stays_full_for_days_is_waited_for(job, provider, clock):
    """The rest stops growing at an hour, however often the batch was refused."""
    task = job()
    suspended = await task.start()
    for _ in range(60):
        batch = list(provider.batches.values())[-1]
        batch.status, batch.error, batch.retryable = "failed", "token_limit_exceeded", True
        resting = await task.resume(suspended)
        clock.advance(3600)
        suspended = await task.resume(resting)

    await task.wait(suspended)
    assert (await task.resume(suspended)).counts["succeeded"] == 3


async def test_a_zombie_that_was_overtaken_creates_nothing(job, provider, clock):
    """Its successor took the claim over while it was preparing."""
    zombie, successor = job(), job()

    async def overtake():
        clock.advance(120)
        await successor.start()

    provider.while_preparing = [overtake]
    with pytest.raises(Overtaken, match="took over"):
        await zombie.start()

    assert len(provider.batches) == 1
    assert (await successor.retry()).counts["succeeded"] == 3


async def test_a_zombie_that_is_overtaken_while_it_creates_cancels_what_it_created(job, provider, clock):
    """Two creates cannot be kept apart by any search; the one that lost its claim undoes its own."""
    zombie, successor = job(), job()

    async def overtake():
        clock.advance(120)
        await successor.start()

    provider.while_creating = [overtake]
    with pytest.raises(Overtaken, match="is cancelled"):
        await zombie.start()

    assert sorted(batch.status for batch in provider.batches.values()) == ["cancelled", "processing"]
    assert (await successor.retry()).counts["succeeded"] == 3


@pytest.mark.parametrize("fault", [Unavailable("busy", retry_after=10.0), NotFound("not visible yet")])
@pytest.mark.parametrize(
    ("faults", "status", "error", "message"),
    [
        (3, "cancelled", Overtaken, "is cancelled"),
        (99, "processing", Unresolved, "Cancel it in openai's console"),
    ],
)
async def test_an_overtaken_batch_is_cancelled_as_soon_as_the_provider_lets_it(
    job, provider, clock, faults, status, error, message, fault
):
    """It would run beside the successor's; what does not pass in a minute is a person's, who is told the batch."""
    zombie, successor = job(), job()
    cancel = provider.cancel

    async def overtake():
        clock.advance(120)
        await successor.start()
        provider.cancel = unreachable

    async def unreachable(batch_id):
        nonlocal faults
        faults -= 1
        if faults >= 0:
            raise fault
        await cancel(batch_id)

    provider.while_creating = [overtake]
    with pytest.raises(error, match=message):
        await zombie.start()

    assert sorted(batch.status for batch in provider.batches.values()) == [status, "processing"]
