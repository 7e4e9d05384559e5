"""Rows have no good answer: which are asked again, and when a task has failed."""

from __future__ import annotations

from copy import deepcopy

import pytest
from fakes import failing

from airflow_batch_provider.exceptions import (
    RowsFailed,
)
from airflow_batch_provider.models import Manifest, Reply, Usage


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


async def test_an_answer_that_was_cut_off_is_asked_again_with_more_room(job, provider):
    """Twice the room each time, unless `retry_truncated` is off."""
    provider.answer = lambda _body, n: Reply(
        key="", status="succeeded", output="long", finish_reason="max_tokens" if n < 4 else "stop"
    )
    task = job(["a"], retry_rows=3)

    manifest = await task.run()

    assert [batch.bodies[0].get("room") for batch in provider.batches.values()] == [None, 2000, 4000, 8000]
    assert manifest.counts["succeeded"] == 1


async def test_an_answer_that_was_cut_off_may_count_as_an_answer(job, provider):
    """Its `finish_reason` tells."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="lo", finish_reason="max_tokens")
    task = job(["a"], retry_rows=2, retry_truncated=False)

    manifest = await task.run()

    assert task.rows(manifest)[0]["finish_reason"] == "max_tokens"
    assert manifest.waves == 1


async def test_a_cut_off_answer_stays_when_more_room_is_refused(job, provider):
    """The text was paid; the 400 says only that the model has no more room, so nothing is asked a third time."""
    cut = Reply(key="", status="succeeded", output="half a tale", finish_reason="max_tokens")
    ok = Reply(key="", status="succeeded", output="fine")
    refused = failing("invalid_request_error", retryable=False)
    provider.answer = lambda body, n: ok if body["prompt"] == "b" else cut if n == 1 else refused
    task = job(["a", "b"], retry_rows=3)

    manifest = await task.run()

    row, _ = task.rows(manifest)
    assert (row["status"], row["output"], row["error"]["code"], row["wave"]) == (
        "failed",
        "half a tale",
        "truncated",
        0,
    )
    assert manifest.waves == 2
    assert "truncated" in str(manifest.errors)


@pytest.mark.parametrize(
    ("model", "room", "asked"),
    [("gpt-4o", 6_000, [12_000, 16_384]), ("gpt-4o-2024-08-06", 16_384, []), ("ft:gpt-4.1-mini:me", 20_000, [32_768])],
)
async def test_more_room_ends_at_the_model_s_own_maximum(job, provider, model, room, asked):
    """What the provider would refuse is not asked; an answer that has used all of it is left as it is."""
    provider.codec = deepcopy(provider.codec)
    provider.codec.room = lambda body: body.get("room", room)

    def answer(body, _n):
        usage = Usage(input_tokens=1, output_tokens=body.get("room", room))
        return Reply(key="", status="succeeded", output="lo", finish_reason="max_tokens", usage=usage)

    provider.answer = answer
    with pytest.raises(RowsFailed, match="truncated"):
        await job(["a"], model=f"openai:{model}", retry_rows=5).run()

    assert [batch.bodies[0].get("room") for batch in provider.batches.values()] == [None, *asked]


async def test_on_partial_fail_wants_every_row(job, provider):
    """Whatever the ratio says."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, _n: failing("invalid", retryable=False) if body["prompt"] == "b" else ok

    with pytest.raises(RowsFailed, match="on_partial='fail'"):
        await job(on_partial="fail").run()
