"""OpenAI's own SDK cannot tell the emulator from the service."""

from __future__ import annotations

import base64
import json
import struct

import openai as sdk
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response


async def test_a_batch_runs_to_its_end(batch_emulator, ask, openai):
    """validating, in_progress, finalizing, completed, with live counts and a time for each."""
    batch_emulator.emulator.change({"progress": {"running": 2, "finalizing": 1}})
    batch = await ask.openai_chat({"a": "one", "b": "two"}, metadata={"tag": "t"})
    seen = [batch]
    while seen[-1].status != "completed":
        seen.append(await openai.batches.retrieve(batch.id))
    assert [item.status for item in seen] == [
        "validating", "validating", "in_progress", "in_progress", "finalizing", "completed",
    ]  # fmt: skip
    assert [item.request_counts.completed for item in seen] == [0, 0, 0, 1, 2, 2]
    assert seen[0].request_counts.total == 0
    last = seen[-1]
    assert last.error_file_id is None
    assert last.metadata == {"tag": "t"}
    assert last.completed_at >= last.finalizing_at >= last.in_progress_at
    lines = await ask.openai_lines(last.output_file_id)
    answer = ChatCompletion.model_validate(lines["b"]["response"]["body"], strict=True)
    assert answer.choices[0].message.content == "echo: two"
    assert last.usage.output_tokens == 2 * answer.usage.completion_tokens


async def test_errors_have_their_own_file(ask):
    """A row that failed is in the error file; when all failed there is no output file."""
    mixed = await ask.openai_end((await ask.openai_chat({"a": "x", "b": "[[emulate:error=overloaded]]"})).id)
    assert (mixed.request_counts.completed, mixed.request_counts.failed) == (1, 1)
    assert list(await ask.openai_lines(mixed.output_file_id)) == ["a"]
    lines = await ask.openai_lines(mixed.error_file_id)
    assert lines["b"]["response"]["status_code"] == 503
    bad = await ask.openai_end((await ask.openai_chat({"a": "[[emulate:error=rate_limit]]"})).id)
    assert (bad.status, bad.output_file_id) == ("completed", None)


async def test_responses_and_embeddings(ask):
    """The other two endpoints answer in their own shape."""
    batch = await ask.openai_end((await ask.openai_batch({"a": {"input": "one"}}, "/v1/responses")).id)
    lines = await ask.openai_lines(batch.output_file_id)
    assert Response.model_validate(lines["a"]["response"]["body"]).output_text == "echo: one"
    bodies = {
        "a": {"input": ["x", "y"], "dimensions": 3},
        "b": {"input": "x", "dimensions": 3, "encoding_format": "base64"},
    }
    batch = await ask.openai_end((await ask.openai_batch(bodies, "/v1/embeddings")).id)
    lines = await ask.openai_lines(batch.output_file_id)
    floats = CreateEmbeddingResponse.model_validate(lines["a"]["response"]["body"]).data
    packed = base64.b64decode(lines["b"]["response"]["body"]["data"][0]["embedding"])
    assert struct.unpack("<3f", packed) == pytest.approx(floats[0].embedding)
    assert sum(value * value for value in floats[1].embedding) == pytest.approx(1)


async def test_odd_answers(ask):
    """Refusal, truncation, emptiness, a tool call, cached and reasoning tokens, on both endpoints."""
    words = ("refusal", "truncated", "empty", "tool_use", "cached=2,reasoning=5")
    prompts = {word: f"a longer prompt [[emulate:{word}]]" for word in words}
    batch = await ask.openai_end((await ask.openai_chat(prompts)).id)
    lines = await ask.openai_lines(batch.output_file_id)
    chats = {key: ChatCompletion.model_validate(line["response"]["body"]) for key, line in lines.items()}
    assert chats["refusal"].choices[0].message.refusal
    assert chats["truncated"].choices[0].finish_reason == "length"
    assert chats["tool_use"].choices[0].message.tool_calls
    assert chats[words[-1]].usage.completion_tokens_details.reasoning_tokens == 5
    batch = await ask.openai_end(
        (await ask.openai_batch({key: {"input": text} for key, text in prompts.items()}, "/v1/responses")).id
    )
    lines = await ask.openai_lines(batch.output_file_id)
    said = {key: Response.model_validate(line["response"]["body"]) for key, line in lines.items()}
    assert said["refusal"].output[0].content[0].type == "refusal"
    assert said["truncated"].incomplete_details.reason == "max_output_tokens"
    assert said["tool_use"].output[0].type == "function_call"
    assert said["empty"].output_text == ""


@pytest.mark.parametrize("strict", [True, False])
async def test_structured_output(ask, strict):
    """Chat's response_format and the responses' text.format are obeyed."""
    properties = {"n": {"type": "integer", "minimum": 5, "maximum": 5}}
    schema = {"type": "object", "properties": properties, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": strict}}
    batch = await ask.openai_end((await ask.openai_batch({"a": ask.chat("x", response_format=form)})).id)
    lines = await ask.openai_lines(batch.output_file_id)
    assert json.loads(lines["a"]["response"]["body"]["choices"][0]["message"]["content"]) == {"n": 5}
    text = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": strict}}
    batch = await ask.openai_end((await ask.openai_batch({"a": {"input": "x", "text": text}}, "/v1/responses")).id)
    lines = await ask.openai_lines(batch.output_file_id)
    assert json.loads(lines["a"]["response"]["body"]["output"][0]["content"][0]["text"]) == {"n": 5}


X = {"messages": [{"role": "user", "content": "x"}]}


def _line(**changes):
    return json.dumps(
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4.1-mini", **X},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_file"),
        ("nonsense", "invalid_json_line"),
        (_line(custom_id=None), "missing_required_parameter"),
        (_line(url="/v1/responses"), "invalid_url"),
        (_line(body={"model": "gpt-4.1-mini", "stream": True, **X}), "streaming_unsupported"),
        (_line(body={"model": "no-batch-1", **X}), "model_not_found"),
        (_line() + "\n" + _line(), "duplicate_custom_id"),
        (_line() + "\n" + _line(custom_id="b", body={"model": "gpt-4.1", **X}), "mismatched_model"),
    ],
)
async def test_a_bad_file_fails_the_batch_later(ask, openai, text, code):
    """The batch is created, and then fails with what is wrong with which line."""
    file = await openai.files.create(file=("x.jsonl", text.encode()), purpose="batch")
    made = await openai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert made.status == "validating"
    failed = await ask.openai_end(made.id)
    assert failed.status == "failed"
    assert failed.errors.data[0].code == code
    assert failed.request_counts.total == 0


async def test_a_missing_file_fails_the_batch_later(ask, openai):
    """Even a file that does not exist is only noticed after the create."""
    made = await openai.batches.create(input_file_id="file-no", endpoint="/v1/responses", completion_window="24h")
    assert (await ask.openai_end(made.id)).errors.data[0].message.startswith("Cannot find file")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"endpoint": "/v1/nope"}, "invalid_value"),
        ({"metadata": {"a": ["b"]}}, "invalid_type"),
        ({"completion_window": "1h"}, "invalid_value"),
        ({"input_file_id": ""}, "missing_required_parameter"),
    ],
)
async def test_a_bad_create_is_refused_at_once(openai, change, code):
    """What the create itself says wrong is a 400."""
    good = {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h"}
    with pytest.raises(sdk.BadRequestError) as caught:
        await openai.batches.create(**{**good, **change})
    assert caught.value.code == code
    assert caught.value.request_id


async def test_the_queue_of_tokens_is_limited(batch_emulator, ask):
    """Beyond the enqueued tokens a batch fails for a passing reason; after the others ended it would run."""
    batch_emulator.emulator.change({"limits": {"openai_enqueued_tokens": 10}})
    first = await ask.openai_chat({"a": "x" * 32})
    failed = await ask.openai_end((await ask.openai_chat({"b": "y" * 32})).id)
    assert failed.errors.data[0].code == "token_limit_exceeded"
    await ask.openai_end(first.id)
    assert (await ask.openai_end((await ask.openai_chat({"b": "y" * 32})).id)).status == "completed"


async def test_cancel_keeps_what_was_done(batch_emulator, ask, openai):
    """cancelling, then cancelled with a partial output; rows not run are in the error file."""
    batch_emulator.emulator.change({"progress": {"running": 2, "settle": 1}})
    batch = await ask.openai_chat({f"r{n}": f"{n}" for n in range(4)})
    for _ in range(3):
        await openai.batches.retrieve(batch.id)
    assert (await openai.batches.cancel(batch.id)).status == "cancelling"
    assert (await openai.batches.cancel(batch.id)).status == "cancelling"
    ended = await ask.openai_end(batch.id)
    assert ended.status == "cancelled"
    assert len(await ask.openai_lines(ended.output_file_id)) == 2
    rest = await ask.openai_lines(ended.error_file_id)
    assert {line["error"]["code"] for line in rest.values()} == {"batch_cancelled"}
    done = await ask.openai_end((await ask.openai_chat({"z": "z"})).id)
    with pytest.raises(sdk.ConflictError, match=r"Cannot cancel a batch with status 'completed'"):
        await openai.batches.cancel(done.id)


async def test_a_day_is_the_limit(batch_emulator, ask):
    """An expired batch keeps what was done; the rest is batch_expired."""
    batch_emulator.faults.add("openai.batches.create", "expire", fraction=0.5)
    ended = await ask.openai_end((await ask.openai_chat({"a": "1", "b": "2"})).id)
    assert ended.status == "expired"
    assert list(await ask.openai_lines(ended.output_file_id)) == ["a"]
    assert (await ask.openai_lines(ended.error_file_id))["b"]["error"]["code"] == "batch_expired"


async def test_files_live_and_die(batch_emulator, openai):
    """Filter, page, expiry, deletion, and the suffix that batches want."""
    with pytest.raises(sdk.BadRequestError, match=r"Must be \.jsonl"):
        await openai.files.create(file=("x.csv", b"a"), purpose="batch")
    expiry = {"anchor": "created_at", "seconds": 3600}
    made = [
        await openai.files.create(file=(f"{n}.jsonl", b"{}\n"), purpose="batch", expires_after=expiry) for n in range(3)
    ]
    assert made[0].expires_at == made[0].created_at + 3600
    assert [file.id async for file in openai.files.list(limit=2, order="asc")] == [file.id for file in made]
    assert [file.id async for file in openai.files.list(purpose="batch_output")] == []
    assert (await openai.files.delete(made[0].id)).deleted
    with pytest.raises(sdk.NotFoundError):
        await openai.files.retrieve(made[0].id)
    batch_emulator.clock.advance(3600)
    assert [file.id async for file in openai.files.list()] == []


async def test_uploads_in_parts(openai):
    """The Uploads API makes a file of its parts."""
    raw = b'{"a": 1}\n' * 50
    upload = await openai.uploads.upload_file_chunked(
        file=raw, filename="u.jsonl", bytes=len(raw), mime_type="application/jsonl", purpose="batch", part_size=100
    )
    assert upload.status == "completed"
    assert (await openai.files.content(upload.file.id)).content == raw
    pending = await openai.uploads.create(bytes=5, filename="u.jsonl", mime_type="application/jsonl", purpose="batch")
    assert (await openai.uploads.cancel(pending.id)).status == "cancelled"
    with pytest.raises(sdk.BadRequestError, match="is cancelled"):
        await openai.uploads.complete(pending.id, part_ids=["x"])


async def test_keys_are_checked(batch_emulator):
    """The key `invalid` is 401, in OpenAI's own words."""
    async with sdk.AsyncOpenAI(base_url=batch_emulator.openai_url, api_key="invalid", max_retries=0) as client:
        with pytest.raises(sdk.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "x"},
        {"messages": []},
        {**X, "response_format": "json"},
        {**X, "tools": 3, "tool_choice": "required"},
        {},
    ],
)
async def test_a_body_of_the_wrong_shape_fails_its_own_row(ask, body):
    """A request that cannot be read is a 400 in the error file; the batch completes."""
    ended = await ask.openai_end((await ask.openai_batch({"bad": body or {"n": 1}, "good": X})).id)
    assert (ended.status, ended.request_counts.failed) == ("completed", 1)
    assert (await ask.openai_lines(ended.error_file_id))["bad"]["response"]["status_code"] == 400


@pytest.mark.parametrize(
    ("limit", "code"), [("openai_requests", "too_many_requests"), ("openai_bytes", "invalid_request")]
)
async def test_limits_can_be_lowered(batch_emulator, ask, limit, code):
    """Too many or too large: the batch is taken, and fails."""
    batch_emulator.emulator.change({"limits": {limit: 1}})
    failed = await ask.openai_end((await ask.openai_chat({"a": "x", "b": "y"})).id)
    assert (failed.status, failed.errors.data[0].code) == ("failed", code)


async def test_embedding_inputs_are_limited(batch_emulator, ask):
    """All inputs of all rows count."""
    batch_emulator.emulator.change({"limits": {"openai_embedding_inputs": 2}})
    failed = await ask.openai_end((await ask.openai_batch({"a": {"input": ["x", "y", "z"]}}, "/v1/embeddings")).id)
    assert failed.errors.data[0].code == "too_many_inputs"


async def test_forced_tools_are_called(ask):
    """By name or by `required`, on both endpoints."""
    schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    function = {"name": "label", "parameters": schema}
    choice = {"type": "function", "function": {"name": "label"}}
    bodies = {"a": ask.chat("cat", tools=[{"type": "function", "function": function}], tool_choice=choice)}
    ended = await ask.openai_end((await ask.openai_batch(bodies)).id)
    message = (await ask.openai_lines(ended.output_file_id))["a"]["response"]["body"]["choices"][0]["message"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"x": "cat"}
    body = {"input": "cat", "tools": [{"type": "function", **function}], "tool_choice": "required"}
    ended = await ask.openai_end((await ask.openai_batch({"a": body}, "/v1/responses")).id)
    output = (await ask.openai_lines(ended.output_file_id))["a"]["response"]["body"]["output"]
    assert json.loads(output[0]["arguments"]) == {"x": "cat"}


async def test_single_calls_are_answered_at_once(openai, batch_emulator):
    """Chat, responses and embeddings, outside any batch: no list shows them, the books do."""
    chat = await openai.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "one"}])
    response = await openai.responses.create(model="gpt-4.1-mini", input="two")
    vector = await openai.embeddings.create(model="text-embedding-3-small", input="three", encoding_format="float")

    assert (chat.choices[0].message.content, response.output_text) == ("echo: one", "echo: two")
    assert len(vector.data[0].embedding) == 8
    assert (await openai.batches.list()).data == []
    assert [(job["single"], job["billed"]) for job in batch_emulator.books()["jobs"]] == [(True, 1)] * 3


@pytest.mark.parametrize(
    ("order", "status"), [("error=overloaded", 503), ("error=quota", 429), ("missing", 504), ("error=nonsense", 400)]
)
async def test_an_order_for_a_row_holds_for_a_single_call(openai, order, status):
    """It fails as the whole call does then."""
    with pytest.raises(sdk.APIStatusError) as error:
        await openai.chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": f"x [[emulate:{order}]]"}]
        )
    assert error.value.status_code == status


async def test_a_single_call_for_a_model_that_does_not_exist_is_refused(openai):
    """By its name, and nothing runs."""
    with pytest.raises(sdk.NotFoundError, match="gpt-9"):
        await openai.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
