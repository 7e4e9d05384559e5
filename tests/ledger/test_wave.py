"""One wave on its way: when a part rests, when a batch is gone, and what is waited for."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from fakes import START, FakeBatch, Killed, failing
from ledgers import plan_of

from airflow_batch_provider.exceptions import Overdue, Overtaken, RowsFailed, Unavailable, Unresolved, UsageError
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import FailedBatch, Plan
from airflow_batch_provider.ledger.wave import WaveRun
from airflow_batch_provider.models import Reply, RequestCounts
from airflow_batch_provider.providers.base import Candidate
from airflow_batch_provider.records import load
from airflow_batch_provider.stages import CheckCompletionContext, Suspended


async def test_a_part_rests_twice_as_long_each_time_up_to_an_hour(ledger, provider, clock):
    """A queue that is full for a day is not asked a thousand times."""
    task, _ = ledger()
    rests = []
    for number in range(8):
        assert (await task.advance()).batch_ids == (f"batch-{number}",)
        batch = provider.batches[f"batch-{number}"]
        batch.status, batch.error, batch.retryable = "failed", "token_limit_exceeded", True
        waiting = await task.advance()
        assert (waiting.batch_ids, waiting.queued) == ((), 1)
        rests.append((waiting.resume_at - clock.now()).total_seconds())
        clock.time = waiting.resume_at

    assert rests == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    failed = load(task.root, "waves/0/00000.failed-1.json", FailedBatch)
    assert failed == FailedBatch(
        batch_id="batch-0", reason="token_limit_exceeded", again_at=START + timedelta(seconds=60)
    )


async def test_a_part_that_rests_is_not_submitted_too_early(ledger, provider, clock):
    """Another part's batch may end meanwhile."""
    provider.max_requests = 1
    task, _ = ledger()
    await task.advance()
    batch = provider.batches["batch-1"]
    batch.status, batch.error, batch.retryable = "failed", None, True

    waiting = await task.advance()
    clock.advance(59)
    provider.batches["batch-0"].status = "completed"
    await task.advance()

    assert waiting.batch_ids == ("batch-0", "batch-2")
    assert len(provider.batches) == 3
    assert load(task.root, "waves/0/00001.failed-1.json", FailedBatch).reason == ""


async def test_a_batch_that_failed_for_good_is_landed(ledger, provider):
    """Nothing would be gained by sending it again."""
    task, _ = ledger()
    await task.advance()
    provider.batches["batch-0"].status = "failed"
    provider.answer = lambda _body, _n: None

    assert await task.advance() is None
    assert len(provider.batches) == 1


async def test_the_deployment_forgets_a_batch_that_has_landed_or_failed(ledger, provider, clock):
    """What stays is what somebody still waits for."""
    provider.max_requests = 1
    task, registry = ledger()
    await task.advance()
    assert [entry.batch_id for entry in registry.entries()] == ["batch-0", "batch-1", "batch-2"]
    provider.batches["batch-0"].status = "completed"
    provider.batches["batch-1"].status, provider.batches["batch-1"].retryable = "failed", True

    await task.advance()

    assert [entry.batch_id for entry in registry.entries()] == ["batch-2"]


async def test_a_batch_that_was_adopted_by_mistake_is_looked_for_again(ledger, provider, clock):
    """Its results carry none of our keys: receipt and note go, the claim stays, and the rows are bought once."""
    task, registry = ledger()
    provider.submit_faults = [Unavailable("cut")]
    found = []

    async def find(_claim):
        return list(found)

    provider.find = find
    provider.batches["stranger"] = FakeBatch("x", ["x-0"], [{"prompt": "theirs"}], clock.now(), "completed")
    found.append(Candidate("stranger", certain=False))
    assert (await task.advance()).batch_ids == ("stranger",)
    found.clear()

    waiting = await task.advance()

    assert waiting.batch_ids == ("batch-1",)
    assert [entry.batch_id for entry in registry.entries()] == ["batch-1"]
    assert provider.bought == {"a": 1, "b": 1, "c": 1}


async def test_rows_that_landed_stay_when_another_worker_lands_them_late(job, provider):
    """Its download began before the successor's ended, and lost a line on the way; later waves ask by the first."""
    zombie, successor = job(), job()
    suspended = await zombie.start()
    await zombie.wait(suspended)
    results = provider.results

    async def slow(batch_id, kind):
        provider.results = results
        manifests.append(await successor.resume(suspended))
        async for reply in results(batch_id, kind):
            if not reply.key.endswith("-0"):
                yield reply

    provider.results, manifests = slow, []
    await zombie.resume(suspended)

    assert manifests[0].counts["succeeded"] == 3
    assert all(row["status"] == "succeeded" for row in zombie.rows(manifests[0]))


async def test_a_batch_that_may_be_somebody_elses_is_not_cancelled(job, provider, clock):
    """Neither at the deadline nor when the task is marked: only its time and its size are like ours."""
    provider.submit_faults = [Unavailable("cut")]
    provider.batches["stranger"] = FakeBatch("x", ["x-0"], [{"prompt": "theirs"}], clock.now())

    async def find(_claim):
        return [Candidate("stranger", certain=False)]

    provider.find = find
    task = job()
    suspended = await task.start()
    assert suspended.state.metadata["batch_ids"] == ["stranger"]

    await task.stage.cancel(suspended.state, task.context(CheckCompletionContext))
    with pytest.raises(Overdue):
        await task.overdue(suspended)

    assert provider.batches["stranger"].status != "cancelled"


async def test_the_claim_of_a_batch_that_failed_as_a_whole_stays_until_the_next_one_replaces_it(
    ledger, provider, clock
):
    """A worker that gives up late would else delete its successor's claim, and with it all trace of what that one bought."""
    task, _ = ledger()
    await task.advance()
    provider.batches["batch-0"].status, provider.batches["batch-0"].retryable = "failed", True
    await task.advance()
    old = BatchFiles(task.root.sub("waves/0"), 0).claim()
    provider.bomb.at = provider.bomb.moment + 2  # a poll, then the create

    clock.advance(60)
    with pytest.raises(Killed, match="we do not know"):
        await task.advance()

    new = BatchFiles(task.root.sub("waves/0"), 0).claim()
    assert (new.tag, new.owner != old.owner) == (f"{old.tag}-1", True)
    assert (await task.advance()).batch_ids == ("batch-1",)


async def test_other_requests_are_asked_although_a_part_of_the_old_ones_rests(job, provider):
    """What failed as a whole is not open any more."""
    task = job()
    suspended = await task.start()
    provider.batches["batch-0"].status, provider.batches["batch-0"].retryable = "failed", True
    await task.resume(suspended)

    task.requests = ["x"]
    manifest = await task.retry()

    assert manifest.counts["succeeded"] == 1
    assert provider.bought["x"] == 1


async def test_a_batch_is_late_for_ten_minutes_and_then_gone(job, provider, clock):
    """To the second; the message says what it was bought under, and when."""
    task = job()
    suspended = await task.start()
    provider.batches.clear()
    clock.advance(600)
    assert isinstance(await task.resume(suspended), Suspended)
    clock.advance(1)

    with pytest.raises(Unresolved, match="openai does not know batch 'batch-0', bought 2026-11-23 08:00:00") as caught:
        await task.resume(suspended)
    assert re.search(
        r"again: delete \S+00000\.receipt\S* and \S+00000\.claim\S+, then clear the task\.$", str(caught.value)
    )


async def test_the_token_budget_is_filled_to_the_last(job, provider):
    """Two parts that fit together go together; the third waits until there is room for it."""
    provider.max_requests = 1
    size = (await job(["x" * 400], dry_run=True).run()).usage.input_tokens
    task = job([one * 400 for one in "xyz"], max_enqueued_tokens=2 * size)

    suspended = await task.start()

    assert suspended.state.metadata["queued"] == 1
    assert suspended.state.metadata["batch_ids"] == ["batch-0", "batch-1"]


async def test_a_fault_that_names_a_time_is_waited_out_as_long(ledger, provider, clock):
    """And a minute when it names none."""
    task, _ = ledger()
    await task.advance()
    provider.status_faults = [Unavailable("busy", retry_after=300)]
    first = await task.advance()
    provider.status_faults = [Unavailable("busy")]
    second = await task.advance()

    assert (first.resume_at - clock.now()).total_seconds() == 300
    assert (second.resume_at - clock.now()).total_seconds() == 60
    assert first.batch_ids == ("batch-0",)


async def test_a_neighbours_batch_that_was_given_back_leaves_the_claim_in_the_deployment(ledger, provider, clock):
    """Our own may run, and the provider is busy: the reconciler must go on to look for it."""
    task, registry = ledger()
    provider.submit_faults = [Unavailable("cut")]
    provider.batches["stranger"] = FakeBatch("x", ["x-0"], [{"prompt": "theirs"}], clock.now(), "completed")
    answers = [[Candidate("stranger", certain=False)], Unavailable("503", retry_after=900.0)]

    async def find(_claim):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    provider.find = find
    await task.advance()
    await task.advance()

    (entry,) = registry.entries()
    assert (entry.batch_id, entry.tentative) == (None, False)


async def test_a_rest_that_ends_between_two_checks_of_the_files_wakes_the_task(ledger, provider, clock):
    """No batch is on its way that would."""
    task, _ = ledger()
    await task.advance()
    batch = provider.batches["batch-0"]
    batch.status, batch.retryable = "failed", True
    resting = await task.advance()
    submit_queued = WaveRun._submit_queued

    async def just_before(self):
        gate = await submit_queued(self)
        clock.time = resting.resume_at
        return gate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WaveRun, "_submit_queued", just_before)
        waiting = await task.advance()

    assert (waiting.batch_ids, waiting.queued, waiting.resume_at) == ((), 1, clock.now())


async def test_full_batches_of_two_tasks_differ_where_only_their_size_tells_them_apart(ledger, provider):
    """And are full to the last row where a tag does."""
    provider.max_requests = 1000
    rows = [str(number) for number in range(2100)]
    sizes = []
    for keeps_tags in (True, True, False, False, False, False):
        provider.keeps_tags = keeps_tags
        task, _ = ledger()
        task.root.delete("plan.json")
        first, *_ = plan_of(task, *rows).first.chunks
        sizes.append(first.requests)

    assert sizes[:2] == [1000, 1000]
    assert len(set(sizes[2:])) > 1
    assert all(950 < size <= 1000 for size in sizes[2:])


async def test_a_batch_whose_answers_are_late_keeps_no_other_waiting(ledger, provider, clock):
    """The others land, and what is queued goes out; the late one is polled again when its time is up."""
    provider.max_requests = 1
    task, _ = ledger(in_flight=2)
    await task.advance()
    statuses = provider.statuses

    async def told(batch_ids):
        seen = await statuses(batch_ids)
        counts = RequestCounts(total=1, succeeded=1)
        return {name: one.model_copy(update={"counts": counts, "ended_at": START}) for name, one in seen.items()}

    provider.statuses = told
    provider.batches["batch-0"].status = provider.batches["batch-1"].status = "completed"
    provider.answer = lambda body, _n: None if body["prompt"] == "a" else Reply(key="", status="succeeded", output="x")
    clock.advance(60)

    waiting = await task.advance()

    assert (waiting.batch_ids, waiting.queued) == (("batch-0", "batch-2"), 0)
    assert (waiting.must_wait, waiting.resume_at) == (True, START + timedelta(minutes=10))


async def test_a_batch_that_cannot_be_polled_keeps_no_other_from_landing(ledger, provider):
    """It is polled again when the others are here."""
    provider.max_requests = 1
    task, _ = ledger(in_flight=2)
    await task.advance()
    statuses = provider.statuses

    async def told(batch_ids):
        return await statuses(batch_ids) | {"batch-0": Unavailable("busy")}

    provider.statuses = told
    provider.batches["batch-1"].status = "completed"
    waiting = await task.advance()

    assert "batch-0" in waiting.batch_ids
    assert "batch-1" not in waiting.batch_ids
    assert task.landed().succeeded == 1


async def test_people_read_what_became_of_the_rows_of_a_batch(ledger, provider, caplog):
    """How it ended, and how many rows of each kind."""
    caplog.set_level("INFO")
    provider.polls_until_done = 0
    ok = Reply(key="", status="succeeded", output="x")
    provider.answer = lambda body, _n: failing() if body["prompt"] == "b" else ok
    task, _ = ledger()
    await task.advance()

    await task.advance()

    assert "Landed batch batch-0 (completed): 1 failed, 2 succeeded." in [record.message for record in caplog.records]


async def test_a_kill_passes_a_doubtful_batch_over_and_cancels_the_next(job, provider):
    """Their order is that of the purchase."""
    provider.max_requests = 1
    task = job("ab")
    suspended = await task.start()
    doubtful = suspended.state.model_copy(update={"metadata": {**suspended.state.metadata, "tentative": ["batch-0"]}})

    await task.stage.cancel(doubtful, task.context(CheckCompletionContext))

    assert [batch.status for batch in provider.batches.values()] == ["processing", "cancelled"]


async def test_a_batch_of_ones_own_that_has_landed_is_not_taken_for_a_lost_one(ledger, provider):
    """It has the time and the size, and is in no registry any more."""
    provider.max_requests = 1
    task, _ = ledger(in_flight=1)
    await task.advance()
    provider.batches["batch-0"].status = "completed"
    provider.submit_faults = [(Unavailable("cut"), "after")]

    async def find(_claim):
        return [Candidate("batch-0", certain=False), Candidate("batch-1", certain=False)]

    provider.find = find

    assert (await task.advance()).batch_ids == ("batch-1",)


async def test_parts_are_cut_to_the_token_budget_and_claimed_in_the_attempts_name(job, provider):
    """Two rows fit into the budget together, so four make two parts, which go out one after the other."""
    size = (await job(["x" * 400], dry_run=True).run()).usage.input_tokens
    task = job([letter * 400 for letter in "abcd"], max_enqueued_tokens=2 * size)
    task.attempt = 7

    suspended = await task.start()

    plan = load(task.directory, "plan.json", Plan)
    assert [(chunk.requests, chunk.tokens) for chunk in plan.first.chunks] == [(2, 2 * size), (2, 2 * size)]
    assert (suspended.state.metadata["batch_ids"], suspended.state.metadata["queued"]) == (["batch-0"], 1)
    assert BatchFiles(task.directory.sub("waves/0"), 0).claim().attempt == 7


async def test_a_part_holds_just_what_the_provider_takes(job, provider):
    """To the byte, with the longest key that a row may get and its newline."""
    alone = job(["x" * 40])
    await alone.start()
    (chunk,) = load(alone.directory, "plan.json", Plan).first.chunks
    line = provider.codec.line("0" * 12 + "-000-00000-0000000000", b'{"prompt":"' + b"x" * 40 + b'","model":"m"}', None)
    assert chunk.bytes == len(line) + 1

    for limit, cut in ((2 * chunk.bytes, [2, 1]), (2 * chunk.bytes - 1, [1, 1, 1])):
        alone.directory.delete("")
        provider.max_bytes = limit
        task = job([one * 40 for one in "xyz"])
        await task.start()
        assert [one.requests for one in load(task.directory, "plan.json", Plan).first.chunks] == cut


async def test_a_row_that_is_larger_than_the_token_budget_is_refused_by_its_name(job, provider):
    """And one that just fills it is not."""
    size = (await job(["x" * 400], dry_run=True).run()).usage.input_tokens

    with pytest.raises(UsageError, match=rf"'request-0'\) alone is .* more than max_enqueued_tokens={size - 1}\."):
        await job(["x" * 400], max_enqueued_tokens=size - 1).start()
    assert not provider.batches
    await job(["x" * 400], max_enqueued_tokens=size).start()


async def test_whoever_sees_the_receipt_releases_the_submit_lock_of_its_claim(ledger, provider, clock):
    """A worker killed between the two would block every submit at its account for a quarter of an hour."""
    provider.keeps_tags = False
    task, registry = ledger()
    await task.advance()
    (receipt,) = task.receipts()
    registry.enter(registry.get(receipt.tag).model_copy(update={"batch_id": None}))  # the receipt was written last
    await registry.acquire_submit_lock(provider.account, "killed", clock, timedelta(0), receipt.tag)

    await task.advance()

    await registry.acquire_submit_lock(provider.account, "neighbour", clock, timedelta(0))


async def test_the_submit_lock_of_another_claim_is_left_alone(ledger, provider, clock):
    """Its worker may be submitting."""
    provider.keeps_tags = False
    task, registry = ledger()
    await task.advance()
    await registry.acquire_submit_lock(provider.account, "other", clock, timedelta(0))

    await task.advance()

    with pytest.raises(Unavailable, match="are submitting"):
        await registry.acquire_submit_lock(provider.account, "neighbour", clock, timedelta(0))


UNREADABLE = {
    "a retryable empty answer": failing("empty_answer"),
    "no result": None,
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_wave_of_which_nothing_can_be_read_is_not_bought_again(ledger, provider, answer):
    """The server speaks a dialect that is not understood: the next wave would be paid for nothing, too."""
    provider.max_requests = 2
    provider.answer = lambda _body, _n: answer
    task, _ = ledger(retry_rows=2)
    await task.advance()
    for batch in provider.batches.values():
        batch.status = "completed"

    for _ in range(2):  # a clear finds the same
        with pytest.raises(RowsFailed, match="Not one answer of openai could be read") as caught:
            await task.advance()

    assert not caught.value.retryable
    assert sum(reason.count for reason in caught.value.digest.reasons) == 3
    assert set(provider.bought.values()) == {1}


async def test_what_is_read_again_is_counted_again(ledger, provider):
    """As the message says how: the row files are deleted, and the sums are of what they hold then."""
    provider.answer = lambda _body, _n: failing("empty_answer")
    task, _ = ledger(retry_rows=2)
    await task.advance()
    provider.batches["batch-0"].status = "completed"
    with pytest.raises(RowsFailed):
        await task.advance()
    before = task.landed()

    for batch in task.files.batches(task.waves()[0]):
        batch.directory.delete(batch.rows_name)
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="fine")
    task.landed()
    assert await task.advance() is None

    assert (before.succeeded, before.batch_ids) == (0, ("batch-0",))
    assert (task.landed().succeeded, task.landed().batch_ids) == (3, ("batch-0",))


@pytest.mark.parametrize("other", [failing("overloaded"), Reply(key="", status="succeeded", output="fine")])
async def test_a_wave_of_which_one_row_says_something_is_asked_again(ledger, provider, other):
    """Where one row is understood, the others failed for reasons of their own."""
    provider.answer = lambda body, n: other if body["prompt"] == "a" or n > 1 else failing("empty_answer")
    task, _ = ledger(retry_rows=1)
    await task.advance()
    provider.batches["batch-0"].status = "completed"

    assert (await task.advance()).batch_ids == ("batch-1",)
    assert provider.bought["b"] == 2


async def test_results_that_break_off_are_read_again_after_the_others(ledger, provider, clock, caplog):
    """A cut stream costs a pause of seconds, not the run; the same fault is told once."""
    caplog.set_level("INFO")
    provider.max_requests = 1
    task, _ = ledger()
    await task.advance()
    for batch in provider.batches.values():
        batch.status = "completed"
    cut = Unavailable("the stream was cut")
    provider.result_faults = [cut, None, cut, cut, cut]

    assert await task.advance() is None

    assert (clock.now() - START).total_seconds() == 10
    assert caplog.text.count("the stream was cut") == 1


async def test_results_that_always_break_off_do_not_keep_the_others_from_landing(ledger, provider, clock):
    """The run ends after a minute, and what could be read is here."""
    provider.max_requests = 1
    task, _ = ledger()
    await task.advance()
    for batch in provider.batches.values():
        batch.status = "completed"
    provider.result_faults = [Unavailable("cut"), None, None, *[Unavailable("cut")] * 100]

    waiting = await task.advance()

    assert waiting.batch_ids == ("batch-0",)
    assert waiting.must_wait


async def test_a_request_file_that_another_worker_set_aside_ends_this_one_as_overtaken(ledger, provider):
    """Whatever it was about to do with it."""
    task, _ = ledger()
    (batch,) = task.files.batches(task.waves()[0])
    batch.delete_requests()

    with pytest.raises(Overtaken, match="another worker has set these requests aside"):
        await task.advance()

    assert not provider.batches
