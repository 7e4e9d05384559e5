"""Anthropic: bodies and lines as documented, and what only this provider does."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from typing import get_args

import httpx2
import msgspec
import pytest
from pydantic import SecretStr

from airflow_batch_provider.exceptions import NotFound, Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.models import Account, BatchRequest, Reply, Spec, Usage
from airflow_batch_provider.providers.anthropic import replies
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.anthropic.provider import STATES, AnthropicProvider
from airflow_batch_provider.providers.base import BatchQuery

KEY = "sk-ant-0123456789"
CODEC = AnthropicCodec()
SPEC = Spec(model="claude-x", max_tokens=100)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OPEN = {"type": "object", "additionalProperties": {"type": "integer"}}


def provider(handler, **fields) -> AnthropicProvider:
    """The adapter over a function that answers."""
    account = Account(**{"provider": "anthropic", "api_key": SecretStr(KEY), **fields})
    return AnthropicProvider(account, httpx2.MockTransport(handler))


def encode(spec: Spec = SPEC, **fields) -> dict:
    return CODEC.encode(BatchRequest(**{"prompt": "hi", **fields}), spec)


def decode(line: bytes) -> Reply:
    return CODEC.decode(line, "generate")


# bodies


def test_a_prompt_is_a_message_of_the_user():
    """The smallest body."""
    user = [{"role": "user", "content": "hi"}]
    assert encode() == {"model": "claude-x", "max_tokens": 100, "messages": user}


def test_the_row_wins_over_the_task():
    """In every field that both have."""
    spec = Spec(model="claude-x", system="task", request_params={"temperature": 1, "top_k": 3})
    body = encode(spec, system="row", max_tokens=7, request_params={"temperature": 0})
    assert (body["system"], body["max_tokens"], body["temperature"], body["top_k"]) == ("row", 7, 0, 3)


def test_messages_pass_through():
    """They are the provider's own."""
    given = [{"role": "user", "content": [{"type": "image"}]}]
    assert CODEC.encode(BatchRequest(messages=given), SPEC)["messages"] == given


def test_a_schema_and_an_effort_share_their_place():
    """`output_config` holds both."""
    spec = Spec(model="claude-x", output_schema=SCHEMA, request_params={"output_config": {"effort": "low"}})
    config = encode(spec)["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["type"] == "json_schema"
    assert config["format"]["schema"]["additionalProperties"] is False


def test_a_schema_with_open_dictionaries_is_asked_by_a_tool():
    """The structured output of Anthropic would silently empty them."""
    body = encode(Spec(model="claude-x", output_schema=OPEN))
    assert "output_config" not in body
    assert body["tools"][0]["input_schema"] == OPEN
    assert body["tool_choice"] == {"type": "tool", "name": body["tools"][0]["name"]}


OPTIONAL = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(25)}}
UNIONS = {
    "type": "object",
    "properties": {f"p{number}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for number in range(17)},
    "required": [f"p{number}" for number in range(17)],
}
RECURSIVE = {
    "$ref": "#/$defs/T",
    "$defs": {"T": {"type": "object", "properties": {"t": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}}}},
}


@pytest.mark.parametrize("schema", [OPTIONAL, UNIONS, RECURSIVE], ids=["25 optional", "17 unions", "recursive"])
def test_a_schema_beyond_the_limits_of_strict_mode_is_asked_by_a_tool(schema):
    """24 optional properties and 16 unions are Anthropic's most (GoModel#963); a tool's input must be an object."""
    (tool,) = encode(Spec(model="claude-x", output_schema=schema))["tools"]
    assert tool["input_schema"]["type"] == "object"
    assert "$ref" not in tool["input_schema"]
    assert tool["input_schema"].get("$defs") == schema.get("$defs")


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-opus-5-5-20261001", "claude-fable-1", "claude-mythos-2"])
def test_a_model_that_always_thinks_is_told_the_schema_in_words(model):
    """It refuses a forced tool (pydantic-ai#8640); landing checks the answer."""
    body = encode(Spec(model=model, output_schema=OPEN, system="Be brief."))
    assert "tools" not in body
    brief, told = body["system"]
    assert brief == {"type": "text", "text": "Be brief."}
    assert json.dumps(OPEN, separators=(",", ":")) in told["text"]


@pytest.mark.parametrize(
    "params", [{"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}, {"tools": [{"name": "f"}]}]
)
def test_a_schema_that_needs_a_tool_is_told_in_words_where_none_can_be_forced(params):
    """Thinking and tools of the user leave no room for ours."""
    body = encode(Spec(model="claude-x", output_schema=OPEN, request_params=params))
    assert "tool_choice" not in body
    assert "JSON schema" in body["system"][0]["text"]


def test_a_property_that_no_tool_takes_is_told_in_words():
    """`amount (EUR)` is not a name that a tool's input may have."""
    schema = {"type": "object", "properties": {"amount (EUR)": {"type": "object", "additionalProperties": True}}}
    body = encode(Spec(model="claude-x", output_schema=schema))
    assert "amount (EUR)" in body["system"][0]["text"]
    assert "tools" not in body


@pytest.mark.parametrize(
    ("budget", "most"), [(1024, 1024), (4096, 1024), (1000, 4096), (0, 10), (None, 4096), ("2048", 4096)]
)
def test_a_thinking_budget_must_fit_below_max_tokens(budget, most):
    """Each row would be refused, hours later; both numbers are told (agent-afk#951)."""
    spec = Spec(
        model="claude-x", max_tokens=most, request_params={"thinking": {"type": "enabled", "budget_tokens": budget}}
    )
    with pytest.raises(UsageError, match=rf"\b{budget} and {most}\b"):
        encode(spec)


@pytest.mark.parametrize(
    ("params", "taken"),
    [
        ({"model": "claude-opus-5-5", "tool_choice": {"type": "any"}}, False),
        ({"tool_choice": {"type": "tool", "name": "f"}, "thinking": {"type": "enabled", "budget_tokens": 1024}}, False),
        ({"model": "claude-opus-5-5", "tool_choice": {"type": "auto"}}, True),
        ({"tool_choice": {"type": "any"}}, True),
    ],
)
def test_a_row_may_force_no_tool_on_a_model_that_thinks(params, taken):
    """By its own parameters, before it is paid."""
    params = {"tools": [{"name": "f", "input_schema": {"type": "object"}}], **params}
    if taken:
        assert encode(max_tokens=4096, request_params=params)["tool_choice"] == params["tool_choice"]
    else:
        with pytest.raises(UsageError, match=r"no tool_choice=.*Give \{'type': 'auto'\}"):
            encode(max_tokens=4096, request_params=params)


@pytest.mark.parametrize("params", [{"stream": True}, {"speed": "fast"}, {"max_tokens": 0}, {"max_tokens": "many"}])
def test_what_a_batch_refuses_is_refused_before(params):
    """Anthropic would say so per row and a day later."""
    with pytest.raises(UsageError, match="request_params"):
        encode(request_params=params)


def test_a_line_is_an_element_of_requests():
    """The body is put in as it is."""
    line = CODEC.line('k"1', b'{"model":"x"}', SPEC)
    assert json.loads(line) == {"custom_id": 'k"1', "params": {"model": "x"}}


@pytest.mark.parametrize(("answer", "length"), [("wrong", 3), ("", 2)])
def test_asking_again_leaves_out_an_empty_answer(answer, length):
    """Anthropic takes no empty message."""
    again = CODEC.reask(encode(), answer, "try again")
    assert [m["role"] for m in again["messages"]][-1] == "user"
    assert len(again["messages"]) == length


# lines


def line(result: dict, key: str = "k-1") -> bytes:
    return json.dumps({"custom_id": key, "result": result}).encode()


def message(**fields) -> bytes:
    base = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
    return line({"type": "succeeded", "message": {**base, **fields}})


def errored(kind: str) -> bytes:
    error = {"type": "error", "error": {"type": kind, "message": "because"}, "request_id": "req_1"}
    return line({"type": "errored", "error": error})


def test_a_text_is_an_output():
    """With its tokens, its model and its end."""
    reply = decode(message())
    assert (reply.key, reply.status, reply.output) == ("k-1", "succeeded", "hello")
    assert (reply.finish_reason, reply.model) == ("stop", "claude-x-1")
    assert reply.usage == Usage(input_tokens=10, output_tokens=5)


def test_thinking_is_not_a_part_of_the_text():
    """Nor are the blocks of server tools."""
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert decode(message(content=content)).output == "ab"


def test_cache_reads_and_writes_are_input():
    """Anthropic counts them beside it."""
    told = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 1000,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    usage = decode(message(usage=told)).usage
    assert usage == Usage(
        input_tokens=1110, cached_tokens=100, cache_write_tokens=1000, output_tokens=7, reasoning_tokens=4
    )


def test_an_answer_given_by_our_tool_is_a_text():
    """The reader asked for JSON and gets it, whichever way it came."""
    content = [{"type": "tool_use", "id": "t", "name": replies.ANSWER_TOOL, "input": {"a": 1}}]
    reply = decode(message(content=content, stop_reason="tool_use"))
    assert (json.loads(reply.output), reply.finish_reason) == ({"a": 1}, "stop")


@pytest.mark.parametrize(
    ("word", "status", "finish"),
    [
        ("end_turn", "succeeded", "stop"),
        ("stop_sequence", "succeeded", "stop"),
        ("max_tokens", "succeeded", "max_tokens"),
        ("model_context_window_exceeded", "succeeded", "max_tokens"),
        ("refusal", "failed", "refusal"),
        ("pause_turn", "failed", "pause_turn"),
        ("something_new", "succeeded", "something_new"),
        (None, "succeeded", None),
    ],
)
def test_how_a_message_ended_decides_what_it_is(word, status, finish):
    """A refusal is for good, a pause is not, and both were paid."""
    reply = decode(message(stop_reason=word))
    assert (reply.status, reply.finish_reason) == (status, finish)
    assert reply.usage.output_tokens == 5
    if status == "failed":
        assert reply.error.retryable is (word == "pause_turn")


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        ("overloaded_error", True),
        ("api_error", True),
        ("rate_limit_error", True),
        ("timeout_error", True),
        ("billing_error", True),
        ("brand_new_error", True),
        ("invalid_request_error", False),
        ("not_found_error", False),
        ("permission_error", False),
    ],
)
def test_an_errored_row_tells_its_reason(kind, retryable):
    """The reason stands in two envelopes."""
    error = decode(errored(kind)).error
    assert (error.code, error.message, error.retryable) == (kind, "because", retryable)


@pytest.mark.parametrize(
    "raw",
    [
        message(content=None),
        message(content="text"),
        message(content=[None, 3, {"type": "text", "text": None}]),
        message(usage="many"),
        message(usage={"input_tokens": -1, "output_tokens": "x"}),
        message(stop_reason=7),
        line({"type": "succeeded", "message": None}),
        line({"type": "errored", "error": "boom"}),
        line({"type": "something_new"}),
        line({"type": None}),
    ],
)
def test_a_line_of_any_shape_still_says_something(raw):
    """A row with a key is never lost, and nothing but `Rejected` is raised."""
    assert decode(raw).key == "k-1"


@pytest.mark.parametrize("raw", [b"{}", b'{"custom_id":1,"result":{}}', b"not json"])
def test_a_line_without_key_is_rejected(raw):
    """Its content stays out of the message."""
    with pytest.raises(Rejected, match="bytes"):
        decode(raw)


# vocabulary


def test_every_word_of_the_sdk_has_a_meaning():
    """What a later SDK adds shows here before it shows in production."""
    from anthropic.types import StopReason
    from anthropic.types.messages import MessageBatch
    from anthropic.types.messages.message_batch_result import MessageBatchResult
    from anthropic.types.shared.error_type import ErrorType

    assert set(get_args(MessageBatch.model_fields["processing_status"].annotation)) == STATES.keys()
    assert set(get_args(StopReason)) == replies.FINISH.keys()
    assert set(get_args(ErrorType)) == replies.RETRYABLE.keys()
    results = {get_args(one.model_fields["type"].annotation)[0] for one in get_args(get_args(MessageBatchResult)[0])}
    assert results == {"succeeded", "errored", "canceled", "expired"}


# batches


def batch(**fields) -> dict:
    counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "created_at": "2026-11-20T18:37:24.100435Z",
        "expires_at": "2026-11-21T18:37:24.100435Z",
        "ended_at": None,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
        **fields,
        "request_counts": {**counts, **fields.get("request_counts", {})},
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"processing_status": "in_progress", "request_counts": {"processing": 3}}, "processing"),
        ({"processing_status": "canceling", "request_counts": {"processing": 3}}, "processing"),
        ({"request_counts": {"succeeded": 2, "errored": 1}}, "completed"),
        ({"request_counts": {"errored": 3}}, "completed"),
        ({"request_counts": {"succeeded": 1, "expired": 2}}, "completed"),
        ({"request_counts": {"expired": 3}}, "expired"),
        ({"cancel_initiated_at": "2026-11-20T19:00:00Z", "request_counts": {"canceled": 3}}, "cancelled"),
    ],
)
async def test_an_ended_batch_is_told_apart_by_its_rows(fields, status):
    """`ended` alone says nothing about success."""
    told = await provider(lambda _: httpx2.Response(200, json=batch(**fields))).status("msgbatch_1")
    assert told.status == status
    assert told.counts.total == 3


@pytest.mark.parametrize(
    "reply",
    [
        httpx2.Response(200, html="<html>login</html>"),
        httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}),
        httpx2.Response(200, json=[1]),
        httpx2.Response(200, json=None),
    ],
)
async def test_the_page_of_a_proxy_is_not_a_status(reply):
    """It is a passing fault, and of a create an ambiguous one."""
    with pytest.raises(Unavailable) as caught:
        await provider(lambda _: reply).status("msgbatch_1")
    assert caught.value.ambiguous


async def test_a_status_of_any_shape_is_read():
    """Missing and mistyped fields count as not told."""
    odd = {"id": "msgbatch_1", "created_at": "yesterday", "request_counts": None, "processing_status": 7}
    told = await provider(lambda _: httpx2.Response(200, json=odd)).status("msgbatch_1")
    assert (told.status, told.created_at, told.counts.total) == ("processing", None, 0)


async def test_results_are_asked_of_our_own_host():
    """The key goes to nobody whom `results_url` names."""
    hosts = []

    def answer(request):
        hosts.append(request.url.host)
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content=message() + b"\n")
        return httpx2.Response(200, json=batch(results_url="https://evil.example/steal"))

    adapter = provider(answer, base_url="https://own.example")
    assert [reply.output async for reply in adapter.results("msgbatch_1", "generate")] == ["hello"]
    assert set(hosts) == {"own.example"}


async def test_a_candidate_whose_results_are_gone_stays_a_candidate():
    """Whose it was can no longer be read, so neither yes nor no is certain."""

    def answer(request):
        if request.url.path.endswith("/results"):
            return httpx2.Response(404, json={"type": "error", "error": {"type": "not_found_error", "message": "gone"}})
        one = batch(results_url="https://x", request_counts={"succeeded": 2})
        many = {"data": [one], "has_more": False, "first_id": None, "last_id": None}
        return httpx2.Response(200, json=many if request.url.path.endswith("batches") else one)

    claim = BatchQuery("t-1", datetime(2026, 11, 20, 18, 37, tzinfo=UTC), 2, "k-")
    assert [found.certain for found in await provider(answer).find(claim)] == [False]


async def test_whose_an_ended_batch_is_is_read_once():
    """Nine batches of equal size took 1,632 calls for results, because every poll read them all again."""
    calls = []

    def answer(request):
        calls.append(request.url.path)
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content=message() + b"\n")
        one = batch(results_url="https://x", request_counts={"succeeded": 2})
        return httpx2.Response(
            200, json={"data": [one], "has_more": False} if request.url.path.endswith("batches") else one
        )

    adapter = provider(answer)
    since = datetime(2026, 11, 20, 18, 37, tzinfo=UTC)
    for number in range(5):
        ours, theirs = BatchQuery(f"t-{number}", since, 2, "k-"), BatchQuery(f"t-{number}", since, 2, "other-")
        assert [found.certain for found in await adapter.find(ours)] == [True]
        assert await adapter.find(theirs) == []
    assert sum(path.endswith("/results") for path in calls) == 1


async def test_a_search_among_many_batches_of_equal_size_reads_each_once():
    """Whoever lost a wave of forty creates makes forty searches: forty calls for results, not 1,600."""
    count, calls = 40, []
    batches = {
        f"msgbatch_{number}": batch(id=f"msgbatch_{number}", results_url="https://x", request_counts={"succeeded": 2})
        for number in range(count)
    }

    def answer(request):
        *_, last = path = request.url.path.split("/")
        calls.append(last)
        if last == "results":
            return httpx2.Response(200, content=message().replace(b"k-1", f"k{path[-2]}-1".encode()) + b"\n")
        return httpx2.Response(200, json=batches.get(last, {"data": [*batches.values()], "has_more": False}))

    adapter = provider(answer)
    for batch_id in batches:
        claim = BatchQuery("t", datetime(2026, 11, 20, 18, 37, tzinfo=UTC), 2, f"k{batch_id}-")
        assert [found.batch_id for found in await adapter.find(claim)] == [batch_id]
    assert calls.count("results") == count


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (batch(id="msgbatch_2"), "'msgbatch_2'"),
        ({"busy": True}, "None"),
    ],
)
async def test_a_reply_about_something_else_is_not_a_batch_without_results(record, message):
    """Its rows would count as missing, and would be bought again."""
    adapter = provider(lambda _: httpx2.Response(200, json=record))
    with pytest.raises(Unavailable, match=message):
        _ = [reply async for reply in adapter.results("msgbatch_1", "generate")]


async def test_archived_results_say_when_they_went():
    """Anthropic keeps them 29 days."""
    archived = batch(archived_at="2026-12-20T00:00:00Z")
    with pytest.raises(NotFound, match="29 days"):
        _ = [r async for r in provider(lambda _: httpx2.Response(200, json=archived)).results("msgbatch_1", "generate")]


async def test_lines_that_cannot_be_read_are_ignored_and_told_once(caplog):
    """However many: one warning tells how many, and nothing of their content; the answer behind them is read."""

    def answer(request):
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content=b"secret answer, no json\n" * 50_000 + message() + b"\n")
        return httpx2.Response(200, json=batch(results_url="https://x"))

    with caplog.at_level(logging.WARNING):
        replies = [reply async for reply in provider(answer).results("msgbatch_1", "generate")]
    assert len(replies) == 1
    assert len(caplog.records) == 1
    assert "50000 result lines" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("enforced_spend_limit_reached", Paused),
        ("contract_spend_limit_reached", Paused),
        ("ramp_limit_exceeded", Unavailable),
        (None, Unavailable),
    ],
)
async def test_money_pauses_and_pace_waits(code, kind):
    """Both are a 429."""
    error = {"type": "rate_limit_error", "message": "slow", **({"details": {"error_code": code}} if code else {})}
    reply = httpx2.Response(429, json={"type": "error", "error": error}, headers={"retry-after": "4"})
    with pytest.raises(kind):
        await provider(lambda _: reply).status("msgbatch_1")


async def test_the_environment_of_the_sdk_has_no_say(monkeypatch):
    """Keys and addresses come from the connection alone."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://evil.example")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-env")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-env")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Injected: 1\nAuthorization: Bearer env")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "somebody")
    seen = []

    def answer(request):
        seen.append(request)
        return httpx2.Response(200, json={"data": [], "has_more": False, "first_id": None, "last_id": None})

    await provider(answer).check()
    (request,) = seen
    assert request.url.host == "api.anthropic.com"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-injected" not in request.headers


async def test_an_echoed_key_is_not_repeated():
    """Some proxies quote what they refuse."""
    error = {"type": "error", "error": {"type": "authentication_error", "message": f"bad key {KEY}"}}
    with pytest.raises(Rejected) as caught:
        await provider(lambda _: httpx2.Response(401, json=error)).check()
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)


def test_the_sdk_is_imported_when_it_is_used():
    """And Anthropic's only by Anthropic's file."""
    code = (
        "import sys, airflow_batch_provider.providers, airflow_batch_provider.providers.http,"
        " airflow_batch_provider.providers.anthropic, airflow_batch_provider.providers.openai;"
        "sys.exit(bool({'anthropic', 'openai', 'google.genai', 'airflow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_lines_with_any_text_stay_one_element_each(server, tmp_path):
    """Newlines in prompts are escaped in JSON, so joining by commas is safe whatever the text."""
    from provider_backends import BACKENDS, Bench

    backend = BACKENDS["anthropic"]
    adapter = AnthropicProvider(backend.account(server.url))
    bench = Bench(backend, adapter, server.emulator, tmp_path, server.url)
    prompts = ["a\nb", "c\r\n", "\u2028", '"],[{"', "\\n", "é" * 700_000]
    batch_id = await adapter.create(await adapter.prepare(bench.payload(*prompts)))
    job = server.emulator.jobs.all[batch_id]
    sent = [msgspec.json.decode(text) for text in job.path.read_bytes().splitlines()]
    assert [one["params"]["messages"][0]["content"] for one in sent] == prompts
    await adapter.aclose()
