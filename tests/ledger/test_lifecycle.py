"""The ledger from plan to manifest, and what it does when rows, batches or the world fail."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta

import pytest
from fakes import Killed, failing

from airflow_batch_provider.exceptions import (
    Denied,
    NotFound,
    Overdue,
    Overtaken,
    Paused,
    Rejected,
    RowsFailed,
    Unavailable,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.models import Manifest, Reply
from airflow_batch_provider.providers.base import Candidate
from airflow_batch_provider.stages import CheckCompletionContext, Suspended
from airflow_batch_provider.storage import Directory


async def test_every_request_has_one_row_in_the_order_asked(job):
    """Providers answer in any order; the results stand in ours, with the users' keys."""
    task = job([f"q{n}" for n in range(7)])

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == [f"echo: q{n}" for n in range(7)]
    assert [row["custom_id"] for row in task.rows(manifest)] == [f"request-{n}" for n in range(7)]
    assert manifest.counts["succeeded"] == manifest.requests == 7


async def test_requests_are_cut_into_as_many_batches_as_the_limit_asks_for(job, provider):
    """Seven rows at two a batch are four batches."""
    provider.max_requests = 2

    manifest = await job([f"q{n}" for n in range(7)]).run()

    assert [len(batch.keys) for batch in provider.batches.values()] == [2, 2, 2, 1]
    assert len(manifest.batches) == 4


async def test_requests_are_cut_by_bytes(job, provider):
    """A batch never grows over the provider's size."""
    provider.max_bytes = 400

    await job(["x" * 100 for _ in range(6)]).run()

    assert len(provider.batches) > 1
    assert provider.bought["x" * 100] == 6


async def test_no_more_batches_are_at_the_provider_than_allowed(job, provider):
    """A place is filled when a batch has ended, and the worker is woken for it."""
    provider.max_requests = 1
    task = job(["a", "b", "c"], max_in_flight=2)

    suspended = await task.start()

    assert len(provider.batches) == 2
    assert suspended.state.metadata["queued"] == 1
    provider.batches["batch-0"].status = "completed"
    assert (await task.check(suspended)).is_ready
    assert isinstance(await task.resume(suspended), Suspended)
    assert len(provider.batches) == 3


async def test_no_more_tokens_are_at_the_provider_than_allowed(job, provider):
    """Parts are cut to the token budget and wait for it."""
    task = job(["x" * 400, "y" * 400, "z" * 400], max_enqueued_tokens=150)

    await task.start()

    assert len(provider.batches) == 1
    assert (await task.run()).counts["succeeded"] == 3
    assert set(provider.bought.values()) == {1}


async def test_a_row_that_failed_for_a_passing_reason_is_asked_again_alone(job, provider):
    """The next wave asks it; rows with an answer are not bought twice."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n < 3 else ok
    task = job(retry_rows=2)

    manifest = await task.run()

    assert provider.bought == {"a": 1, "b": 3, "c": 1}
    assert manifest.waves == 3
    assert [row["wave"] for row in task.rows(manifest)] == [0, 2, 0]


async def test_a_row_refused_for_good_is_not_asked_again(job, provider):
    """Paying again would buy the same refusal."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, _n: failing("invalid", retryable=False) if body["prompt"] == "b" else ok

    manifest = await job(retry_rows=5).run()

    assert provider.bought["b"] == 1
    assert manifest.counts["failed"] == 1
    assert manifest.errors.reasons[0].sample == ("request-1",)


async def test_a_row_without_a_result_is_missing_and_asked_again(job, provider):
    """A batch may end without a line for some key."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: None if body["prompt"] == "b" and n == 1 else ok

    manifest = await job(retry_rows=1).run()

    assert manifest.counts["succeeded"] == 3
    assert provider.bought["b"] == 2


async def test_an_answer_that_does_not_fit_is_shown_to_the_model_and_asked_again(job, provider):
    """The re-ask carries the bad answer and what is wrong with it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answers = {1: '{"n": "one"}', 2: '```json\n{"n": 1}\n```'}
    provider.answer = lambda _body, n: Reply(key="", status="succeeded", output=answers[n])
    task = job(["a"], output_type=schema, retry_rows=1)

    manifest = await task.run()

    again = provider.batches["batch-1"].bodies[0]
    assert again["answer"] == '{"n": "one"}'
    assert "integer" in again["problem"]
    assert task.rows(manifest)[0]["output"] == {"n": 1}


async def test_an_answer_that_never_fits_keeps_its_raw_text(job, provider):
    """Nothing that was paid is thrown away."""
    provider.answer = lambda body, _n: Reply(
        key="", status="succeeded", output="no json" if body["prompt"] == "a" else "{}"
    )
    task = job(output_type={"type": "object"})

    manifest = await task.run()

    row = task.rows(manifest)[0]
    assert (row["status"], row["output"], row["error"]["code"]) == ("invalid", "no json", "invalid_output")


async def test_all_rows_failed_is_a_failure_with_a_digest(job, provider):
    """The seed's message, the top reasons with counts and sample keys."""
    provider.answer = lambda _body, _n: failing("invalid", retryable=False)

    with pytest.raises(RowsFailed, match="All batch requests failed") as caught:
        await job().run()

    assert not caught.value.retryable
    assert caught.value.digest.reasons[0].count == 3
    assert "3 x invalid" in str(caught.value)


async def test_too_few_good_rows_fail_and_the_next_attempt_buys_only_the_rest(job, provider):
    """Good answers survive the attempt that failed."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n < 2 else ok
    task = job(min_success_ratio=0.9)

    with pytest.raises(RowsFailed, match=r"Only 2 of 3 .* less than min_success_ratio=0\.9 asks for") as caught:
        await task.run()
    manifest = await task.retry()

    assert caught.value.retryable
    assert manifest.counts["succeeded"] == 3
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


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


async def test_results_that_break_off_are_landed_later_and_whole(job, provider):
    """Landing starts again; nothing half-written is taken for rows."""
    provider.result_faults = [None, Unavailable("cut in the middle")]
    task = job()

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 3
    assert len(provider.batches) == 1


async def test_a_look_that_fails_for_a_passing_reason_does_not_fail_the_task(job, provider):
    """The worker comes back instead."""
    task = job()
    suspended = await task.start()
    await task.wait(suspended)
    provider.status_faults = [Unavailable("503")]

    result = await task.resume(suspended)

    assert isinstance(result, Suspended)
    assert result.poll.first_poll.total_seconds() == 60


@pytest.mark.parametrize("word", ["expired", "cancelled"])
async def test_an_expired_or_cancelled_batch_is_asked_again(job, provider, word):
    """Its rows have no answer for a reason that passes."""
    task = job(retry_rows=1)
    suspended = await task.start()
    provider.batches["batch-0"].status = word

    await task.wait(suspended)
    result = await task.resume(suspended)
    await task.wait(result)
    manifest = await task.resume(result)

    assert manifest.counts["succeeded"] == 3
    assert manifest.waves == 2


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

    provider.cancel, provider.looks_until_done = deaf, 1000
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
    provider.max_requests, provider.looks_until_done = 1, 1000
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


async def test_a_retry_within_the_deadline_goes_on_with_the_same_one(job, provider, clock):
    """A worker that dies, or a task that is cleared, gets no more time."""
    task = job()
    first = await task.start()
    clock.advance(9 * 3600)
    task.attempt += 1

    again = await task.start()

    assert again.state.submitted_at == first.state.submitted_at


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
    """Whatever became of the attempt before: what is bought now, or runs still, is not cancelled at the first look."""
    provider.looks_until_done = 10_000
    task = job()
    await ended(task, provider)
    clock.advance(2 * 86_400)
    task.attempt += 1
    cleared_at = clock.now()

    suspended = await task.start()

    assert suspended.state.submitted_at >= cleared_at


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


async def test_a_kill_cancels_each_batch_although_one_cannot_be(job, provider, caplog):
    """A busy provider is asked again; what is not to be found keeps no other running, and is named."""
    provider.max_requests = 1
    provider.looks_until_done = 1000
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


async def test_a_create_that_names_what_is_not_there_is_a_refusal(job, provider):
    """A model that does not exist, say: nothing was bought, so the DAG can be mended."""
    provider.submit_faults = [NotFound("models/gemini-9 is not found")]
    task = job()
    with pytest.raises(Rejected, match="gemini-9 is not found"):
        await task.start()

    task.config = task.config.model_copy(update={"model": "openai:right"})
    assert (await task.retry()).counts["succeeded"] == 3


async def test_a_batch_that_failed_for_want_of_credit_is_bought_when_there_is_some(job, provider):
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


async def test_a_task_that_fell_short_leaves_a_manifest_with_the_digest(job, provider):
    """For people; the next attempt does not take it for the end."""
    provider.answer = lambda body, n: failing("overloaded") if n == 1 else Reply(key="", status="succeeded", output="x")
    task = job()
    with pytest.raises(RowsFailed):
        await task.run()

    manifest = Manifest.model_validate_json(task.directory.read("manifest.unmet.json"))
    assert (manifest.errors.reasons[0].code, manifest.errors.reasons[0].count) == ("overloaded", 3)
    assert manifest.counts["failed"] == 3

    assert (await task.retry()).counts["succeeded"] == 3
    assert task.directory.read("manifest.unmet.json") is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [(OSError(28, "No space left"), Unavailable), (TimeoutError(), Unavailable), (PermissionError("no"), UsageError)],
)
async def test_a_storage_that_is_away_is_tried_again_and_one_that_is_wrong_is_not(
    job, provider, monkeypatch, fault, error
):
    """Before anything is paid."""

    def write(self, name, data):
        raise fault

    monkeypatch.setattr(Directory, "write", write)
    with pytest.raises(error, match="cannot be written"):
        await job().start()

    assert not provider.batches


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


async def test_the_deadline_counts_from_the_first_submit_through_all_waves(job, provider):
    """A second wave does not start the clock anew."""
    provider.answer = lambda _body, n: failing() if n == 1 else Reply(key="", status="succeeded", output="x")
    task = job(retry_rows=1)
    first = await task.start()
    await task.wait(first)

    second = await task.resume(first)

    assert isinstance(second, Suspended)
    assert second.state.submitted_at == first.state.submitted_at


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


async def test_a_budget_is_checked_before_anything_is_paid(job, provider):
    """The estimate is an upper bound: all input and the longest possible output."""
    with pytest.raises(UsageError, match="max_cost_usd=1e-06"):
        await job(model="openai:gpt-5-mini", max_cost_usd=0.000001).run()

    assert not provider.batches


async def test_a_dry_run_buys_nothing_and_says_what_it_would_cost(job, provider):
    """Estimate in the manifest; a real run afterwards starts afresh."""
    task = job(model="openai:gpt-5-mini", dry_run=True, result_format="parquet")

    manifest = await task.run()

    assert manifest.dry_run
    assert manifest.cost.usd > 0
    assert (manifest.results, manifest.format, manifest.waves, manifest.batches) == ("", "parquet", 0, ())
    assert not provider.batches
    assert "plan.json" not in task.directory.names()


async def test_duplicates_and_strangers_in_the_results_change_nothing(job, provider):
    """The last good answer wins; keys that were never asked are ignored."""
    original = provider.results

    async def noisy(batch_id, kind):
        async for reply in original(batch_id, kind):
            yield reply
            yield failing().model_copy(update={"key": reply.key})
            yield reply.model_copy(update={"key": "somebody-else-1"})
            yield reply.model_copy(update={"key": f"{reply.key}9999"})

    provider.results = noisy
    task = job()

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == ["echo: a", "echo: b", "echo: c"]


async def test_tokens_of_every_wave_are_counted_once(job, provider):
    """Usage is what was paid: each landed answer of each wave, also after a clear."""
    provider.answer = lambda body, n: (
        failing() if body["prompt"] == "b" and n == 1 else Reply(key="", status="succeeded", output="x")
    )
    task = job(retry_rows=1)

    manifest = await task.run()
    again = await task.retry()

    assert manifest.usage.input_tokens == 40  # three rows and one again, ten tokens each
    assert again.usage == manifest.usage


async def test_results_that_are_gone_are_not_bought_again_silently(job, provider):
    """They were paid; whether to pay again is a person's decision."""
    provider.result_faults = [NotFound("the results were removed after 29 days")]
    task = job()
    suspended = await task.start()
    await task.wait(suspended)

    with pytest.raises(Unresolved, match=r"are gone from openai.*delete"):
        await task.resume(suspended)

    assert len(provider.batches) == 1


async def test_a_damaged_ledger_stops_the_task(job, provider):
    """A file that cannot be read may hide a purchase, so a person must look."""
    task = job()
    await task.start()
    task.directory.write("waves/0/00000.receipt.json", b'{"batch_')

    with pytest.raises(Unresolved, match="damaged"):
        await task.retry()

    assert len(provider.batches) == 1


async def test_no_prompt_reaches_the_state_that_airflow_stores(job):
    """The suspended state holds ids and times."""
    suspended = await job(["a very secret prompt"]).start()

    assert "secret" not in suspended.model_dump_json()
    assert len(json.dumps(suspended.model_dump(mode="json"))) < 1000


async def test_an_answer_that_was_cut_off_is_asked_again_with_more_room(job, provider):
    """`retry_truncated` doubles the room each time."""
    provider.answer = lambda _body, n: Reply(
        key="", status="succeeded", output="long", finish_reason="max_tokens" if n < 4 else "stop"
    )
    task = job(["a"], retry_truncated=True, retry_rows=3)

    manifest = await task.run()

    assert [batch.bodies[0].get("room") for batch in provider.batches.values()] == [None, 2, 4, 8]
    assert manifest.counts["succeeded"] == 1


async def test_an_answer_that_was_cut_off_is_an_answer_by_default(job, provider):
    """Its `finish_reason` tells."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="lo", finish_reason="max_tokens")
    task = job(["a"], retry_rows=2)

    manifest = await task.run()

    assert task.rows(manifest)[0]["finish_reason"] == "max_tokens"
    assert manifest.waves == 1


async def test_on_partial_fail_wants_every_row(job, provider):
    """Whatever the ratio says."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, _n: failing("invalid", retryable=False) if body["prompt"] == "b" else ok

    with pytest.raises(RowsFailed, match="on_partial='fail'"):
        await job(on_partial="fail").run()


async def test_files_at_the_provider_stay_when_the_user_wants_them(job, provider):
    """`clean_up=False`."""
    await job(clean_up=False).run()

    assert provider.cleaned == []


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
    """Two creates cannot be kept apart by any look; the one that lost its claim undoes its own."""
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


async def test_a_look_buys_nothing(job, provider):
    """The trigger may look as often as it likes, and with places free: only the worker submits."""
    provider.max_requests = 1
    task = job(["a", "b"], max_in_flight=1)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"

    for _ in range(5):
        await task.check(suspended)

    assert len(provider.batches) == 1


async def test_the_claim_is_on_disk_before_the_provider_is_asked(job, provider):
    """Whatever happens in the call, the next attempt knows that it was about to happen."""
    task = job()
    seen = []

    async def look():
        seen.extend(task.directory.names("waves/0"))

    provider.while_preparing = [look]
    await task.start()

    assert "00000.claim.json" in seen
    assert "00000.receipt.json" not in seen
