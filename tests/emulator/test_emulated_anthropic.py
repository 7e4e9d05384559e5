"""Anthropic's own SDK cannot tell the emulator from the service."""

from __future__ import annotations

import json
import re

import anthropic as sdk
import pytest


async def test_a_batch_runs_to_its_end(ask, anthropic):
    """All requests count as processing until the batch has ended, then each has its result."""
    batch = await ask.anthropic_batch({"a": "one", "b": "two"})
    running = await anthropic.messages.batches.retrieve(batch.id)
    assert running.request_counts.processing == 2
    assert running.results_url is None
    results = await ask.anthropic_results(batch.id)
    assert {key: row.message.content[0].text for key, row in results.items()} == {"a": "echo: one", "b": "echo: two"}
    assert results["a"].message.usage.service_tier == "batch"
    assert (await anthropic.messages.batches.retrieve(batch.id)).request_counts.succeeded == 2


async def test_results_come_in_another_order(ask):
    """Nothing about the order of results is promised, so the emulator changes it."""
    keys = [f"r-{number}" for number in range(30)]
    results = await ask.anthropic_results((await ask.anthropic_batch({key: key for key in keys})).id)
    assert list(results) != keys
    assert sorted(results) == sorted(keys)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("overloaded", "overloaded_error"), ("rate_limit", "rate_limit_error"), ("api", "api_error"), ("timeout", "timeout_error"),
        ("invalid_request", "invalid_request_error"), ("billing", "billing_error"), ("permission", "permission_error"),
        ("not_found", "not_found_error"), ("authentication", "authentication_error"),
    ],
)  # fmt: skip
async def test_every_kind_of_row_error_can_be_ordered(ask, word, kind):
    """A marker in the prompt makes its row fail; the error is nested twice, as it is at Anthropic."""
    results = await ask.anthropic_results((await ask.anthropic_batch({"a": f"x [[emulate:error={word}]]"})).id)
    assert results["a"].type == "errored"
    assert results["a"].error.error.type == kind


async def test_a_row_can_heal(ask):
    """With `times=1` the first asking fails and the second asking of the same prompt is answered."""
    prompt = "x [[emulate:error=overloaded,times=1]]"
    first = await ask.anthropic_results((await ask.anthropic_batch({"a": prompt})).id)
    second = await ask.anthropic_results((await ask.anthropic_batch({"w1-a": prompt})).id)
    assert (first["a"].type, second["w1-a"].type) == ("errored", "succeeded")


async def test_odd_answers(ask):
    """Refusal, truncation, emptiness, a tool call, cached and thinking tokens."""
    prompts = {
        word: f"a longer prompt [[emulate:{word}]]" for word in ("refusal", "truncated", "empty", "tool_use", "expired")
    }
    prompts["tokens"] = "a longer prompt [[emulate:cached=3,reasoning=7]]"
    results = await ask.anthropic_results((await ask.anthropic_batch(prompts)).id)
    stops = {key: row.message.stop_reason for key, row in results.items() if row.type == "succeeded"}
    assert stops == {
        "refusal": "refusal", "truncated": "max_tokens", "empty": "end_turn", "tool_use": "tool_use", "tokens": "end_turn",
    }  # fmt: skip
    assert results["expired"].type == "expired"
    usage = results["tokens"].message.usage
    assert usage.cache_read_input_tokens == 3
    assert usage.output_tokens_details.thinking_tokens == 7


async def test_lost_doubled_and_foreign_lines(ask, anthropic):
    """A result file may lack a row, repeat one, or hold one nobody asked for."""
    prompts = {"a": "[[emulate:missing]]", "b": "[[emulate:duplicate]]", "c": "[[emulate:stranger]]"}
    batch = await ask.anthropic_batch(prompts)
    await ask.anthropic_results(batch.id)
    keys = sorted([row.custom_id async for row in await anthropic.messages.batches.results(batch.id)])
    assert keys == ["b", "b", "c", "stranger-2"]


async def test_structured_output_by_format_and_by_tool(ask):
    """Both ways to demand a schema are obeyed, and the answer carries the prompt."""
    properties = {"label": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["label"], "additionalProperties": False}
    made = await ask.anthropic_batch({"a": "cat"}, output_config={"format": {"type": "json_schema", "schema": schema}})
    results = await ask.anthropic_results(made.id)
    assert json.loads(results["a"].message.content[0].text) == {"label": "cat"}
    tools = [{"name": "label", "input_schema": schema}]
    made = await ask.anthropic_batch({"a": "cat"}, tools=tools, tool_choice={"type": "tool", "name": "label"})
    results = await ask.anthropic_results(made.id)
    assert results["a"].message.content[0].input == {"label": "cat"}


async def test_bad_params_are_found_late(ask):
    """The envelope is checked at once, the params when the row runs."""
    results = await ask.anthropic_results((await ask.anthropic_batch({"a": "x"}, stream=True)).id)
    assert results["a"].error.error.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("keys", "text"),
    [(["a b"], "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"), (["a", "a"], "unique"), ([], "at least 1")],
)
async def test_a_bad_envelope_is_refused(anthropic, keys, text):
    """custom_id by its pattern, once each, and at least one."""
    params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(sdk.BadRequestError, match=re.escape(text)) as caught:
        await anthropic.messages.batches.create(requests=[{"custom_id": key, "params": params} for key in keys])
    assert caught.value.request_id


async def test_limits_can_be_lowered(batch_emulator, ask):
    """Requests and bytes per batch are limits of the settings."""
    batch_emulator.emulator.change({"limits": {"anthropic_requests": 1}})
    with pytest.raises(sdk.BadRequestError, match="at most 1 item"):
        await ask.anthropic_batch({"a": "x", "b": "y"})
    batch_emulator.emulator.change({"limits": {"anthropic_bytes": 50}})
    with pytest.raises(sdk.APIStatusError) as caught:
        await ask.anthropic_batch({"a": "x"})
    assert caught.value.status_code == 413


async def test_a_chunked_body_is_taken(anthropic):
    """An async generator goes out with Transfer-Encoding: chunked."""
    from anthropic.types.messages import MessageBatch

    row = {
        "custom_id": "a",
        "params": {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
    }

    async def body():
        yield b'{"requests": ['
        yield json.dumps(row).encode()
        yield b"]}"

    options = {"headers": {"Content-Type": "application/json"}}
    batch = await anthropic.post("/v1/messages/batches", content=body(), cast_to=MessageBatch, options=options)
    assert batch.request_counts.processing == 1


async def test_cancel_keeps_what_was_done(batch_emulator, ask, anthropic):
    """Finished rows stay, the others are canceled; the batch says canceling until it has settled."""
    batch_emulator.emulator.change({"progress": {"running": 2, "settle": 1}})
    batch = await ask.anthropic_batch({f"r{n}": f"{n}" for n in range(4)})
    for _ in range(3):
        await anthropic.messages.batches.retrieve(batch.id)
    cancelled = await anthropic.messages.batches.cancel(batch.id)
    assert cancelled.processing_status == "canceling"
    assert cancelled.cancel_initiated_at is not None
    results = await ask.anthropic_results(batch.id)
    assert sorted(row.type for row in results.values()) == ["canceled", "canceled", "succeeded", "succeeded"]
    assert batch_emulator.books()["rows_bought"] == 2


async def test_a_day_is_the_limit(batch_emulator, ask, anthropic):
    """What has not run after 24 hours has expired."""
    batch_emulator.faults.add("anthropic.create", "stuck")
    batch = await ask.anthropic_batch({"a": "x"})
    assert (await anthropic.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
    batch_emulator.clock.advance(86_400)
    results = await ask.anthropic_results(batch.id)
    assert results["a"].type == "expired"


async def test_results_go_after_29_days(batch_emulator, ask, anthropic):
    """An archived batch has no results any more."""
    batch = await ask.anthropic_batch({"a": "x"})
    await ask.anthropic_results(batch.id)
    batch_emulator.clock.advance(29 * 86_400)
    assert (await anthropic.messages.batches.retrieve(batch.id)).archived_at is not None
    with pytest.raises(sdk.AnthropicError, match="results_url"):
        await anthropic.messages.batches.results(batch.id)


async def test_delete_only_what_has_ended(ask, anthropic):
    """A running batch must be cancelled first."""
    batch = await ask.anthropic_batch({"a": "x"})
    with pytest.raises(sdk.APIStatusError, match="in progress"):
        await anthropic.messages.batches.delete(batch.id)
    await ask.anthropic_results(batch.id)
    assert (await anthropic.messages.batches.delete(batch.id)).type == "message_batch_deleted"
    with pytest.raises(sdk.NotFoundError):
        await anthropic.messages.batches.retrieve(batch.id)


async def test_lists_page_both_ways(ask, anthropic):
    """Newest first, by after_id and by before_id."""
    made = [(await ask.anthropic_batch({"a": f"{n}"})).id for n in range(5)]
    assert [batch.id async for batch in anthropic.messages.batches.list(limit=2)] == made[::-1]
    newer = [batch.id async for batch in anthropic.messages.batches.list(limit=2, before_id=made[0])]
    assert sorted(newer) == sorted(made[1:])


async def test_keys_are_checked(batch_emulator, http):
    """No key and the key `invalid` are 401, in Anthropic's own words; settings may name the good ones."""
    async with sdk.AsyncAnthropic(base_url=batch_emulator.url, api_key="invalid", max_retries=0) as client:
        with pytest.raises(sdk.AuthenticationError) as caught:
            await client.messages.batches.list()
    assert caught.value.body["error"]["type"] == "authentication_error"
    assert (await http.get("/anthropic/v1/models")).status_code == 401
    batch_emulator.emulator.change({"keys": ["good"]})
    answers = [await http.get("/anthropic/v1/models", headers={"x-api-key": key}) for key in ("good", "other")]
    assert [answer.status_code for answer in answers] == [200, 401]


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{", '{"requests": [}', '{"requests": [{}', '{"requests": "x"}', "{}", '{"requests": []}', '{"a": 1 "b"}', b'{"requests": ["\xff"]}',
     '{"requests": [NaN]}', '{"requests": ["\\ud800"]}', '{"requests": ' + "[" * 99_999, '{"requests": []} x', '{"requests": [1]}', '{"requests": [{"custom_id": "a"}]}', '{"requests": [{"params": {}}]}'],
)  # fmt: skip
async def test_a_body_that_is_not_a_batch_is_refused(http, body):
    """Broken JSON of every kind is a 400 in Anthropic's words, and no batch."""
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    answer = await http.post("/v1/messages/batches", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_large_rows_and_other_fields_are_read_through(http, batch_emulator):
    """Elements far larger than the reading window, blanks and unknown fields do no harm."""
    row = {
        "custom_id": "a",
        "params": {
            "model": "claude-haiku-4-5",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "é\u2028" * 200_000}],
        },
    }
    rows = [row, {**row, "custom_id": "b"}]
    body = '{ "later": [1, {"x": 2}],\n "requests" : ' + json.dumps(rows, ensure_ascii=False, indent=2) + ' , "n": 12 }'
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    made = (await http.post("/v1/messages/batches", content=body.encode(), headers=headers)).json()
    assert made["request_counts"]["processing"] == 2
    assert batch_emulator.books()["jobs"][0]["keys"] == ["a", "b"]


async def test_a_single_message_is_answered_at_once(anthropic, batch_emulator):
    """Outside any batch: no list shows it, the books do, and the SDK takes it for a message."""
    message = await anthropic.messages.create(
        model="claude-emulated-1", max_tokens=50, messages=[{"role": "user", "content": "one"}]
    )

    assert (message.content[0].text, message.usage.service_tier) == ("echo: one", "standard")
    assert (await anthropic.messages.batches.list()).data == []
    (job,) = batch_emulator.books()["jobs"]
    assert (job["single"], job["requests"], job["billed"], job["phase"]) == (True, 1, 1, "completed")


@pytest.mark.parametrize(
    ("order", "status"), [("error=overloaded", 529), ("error=billing", 402), ("missing", 504), ("error=nonsense", 400)]
)
async def test_an_order_for_a_row_holds_for_a_single_message(anthropic, order, status):
    """It fails as the whole call does then."""
    with pytest.raises(sdk.APIStatusError) as error:
        await anthropic.messages.create(
            model="claude-emulated-1",
            max_tokens=50,
            messages=[{"role": "user", "content": f"x [[emulate:{order}]]"}],
        )
    assert error.value.status_code == status
