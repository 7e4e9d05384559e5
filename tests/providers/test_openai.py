"""OpenAI: bodies and lines as documented, and what only this provider does."""

from __future__ import annotations

import base64
import json
import struct
from typing import get_args

import httpx2
import pytest
from provider_backends import BACKENDS, KEY, Bench
from pydantic import SecretStr

from airflow_batch_provider.exceptions import Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.models import Account, BatchRequest, Spec, Usage
from airflow_batch_provider.providers.base import Payload
from airflow_batch_provider.providers.openai import codec, replies
from airflow_batch_provider.providers.openai.provider import STATES, OpenAIProvider

SPEC = Spec(model="gpt-x", max_tokens=100)
EMBED = Spec(kind="embed", model="text-embedding-x")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OPEN = {"type": "object", "additionalProperties": {"type": "integer"}}

CHAT, RESPONSES = codec.OpenAICodec("chat"), codec.OpenAICodec("responses")


def provider(handler, **fields) -> OpenAIProvider:
    """The adapter over a function that answers."""
    account = Account(**{"provider": "openai", "api_key": SecretStr(KEY), **fields})
    return OpenAIProvider(account, httpx2.MockTransport(handler))


def chat(spec: Spec = SPEC, **fields) -> dict:
    return CHAT.encode(BatchRequest(**{"prompt": "hi", **fields}), spec)


def responses(spec: Spec = SPEC, **fields) -> dict:
    return RESPONSES.encode(BatchRequest(**{"prompt": "hi", **fields}), spec)


# bodies


def test_a_prompt_is_a_message_of_the_user():
    """The smallest body of each endpoint."""
    user = [{"role": "user", "content": "hi"}]
    assert chat() == {"model": "gpt-x", "messages": user, "max_completion_tokens": 100}
    assert responses() == {"model": "gpt-x", "input": user, "max_output_tokens": 100}
    embedded = CHAT.encode(BatchRequest(prompt="hi"), EMBED)
    assert embedded == {"model": "text-embedding-x", "input": "hi"}


def test_a_system_text_goes_where_the_endpoint_wants_it():
    """Also beside messages of the user's own."""
    spec = Spec(model="gpt-x", system="be brief")
    assert chat(spec)["messages"][0] == {"role": "system", "content": "be brief"}
    assert responses(spec)["instructions"] == "be brief"
    given = [{"role": "user", "content": "mine"}]
    body = CHAT.encode(BatchRequest(messages=given, system="row"), spec)
    assert body["messages"] == [{"role": "system", "content": "row"}, *given]


def test_backends_that_know_only_max_tokens_can_have_it():
    """Newer models of OpenAI refuse the old name, older services the new one."""
    body = chat(request_params={"max_tokens": 5})
    assert body["max_tokens"] == 5
    assert "max_completion_tokens" not in body


def test_the_row_wins_over_the_task():
    """In every field that both have."""
    spec = Spec(model="gpt-x", request_params={"temperature": 1, "seed": 3})
    body = chat(spec, max_tokens=7, request_params={"temperature": 0})
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0, 3, 7)


@pytest.mark.parametrize(("schema", "strictly"), [(SCHEMA, True), (OPEN, False)])
def test_a_schema_is_strict_where_it_can_be(schema, strictly):
    """Open dictionaries go as a hint, and the landing checks the answers."""
    spec = Spec(model="gpt-x", output_schema=schema)
    for told in (chat(spec)["response_format"]["json_schema"], responses(spec)["text"]["format"]):
        assert told["strict"] is strictly
        assert told["name"] == "answer"
        assert (told["schema"] == schema) is not strictly


def test_a_schema_and_a_verbosity_share_their_place():
    """`text` holds both."""
    spec = Spec(model="gpt-x", output_schema=SCHEMA, request_params={"text": {"verbosity": "low"}})
    assert responses(spec)["text"].keys() == {"format", "verbosity"}


@pytest.mark.parametrize("params", [{"stream": True}, {"n": 2}, {"background": True}, {"model": "other"}])
def test_what_a_batch_refuses_is_refused_before(params):
    """OpenAI would fail the whole file, or pay for answers that nobody reads."""
    with pytest.raises(UsageError, match="request_params"):
        chat(request_params=params)


@pytest.mark.parametrize(
    "request_", [{"messages": [{"role": "user"}]}, {"prompt": "a", "request_params": {"input": []}}]
)
def test_only_a_prompt_is_embedded(request_):
    """One row, one vector."""
    with pytest.raises(UsageError):
        CHAT.encode(BatchRequest(**request_), EMBED)


def test_a_line_names_its_endpoint():
    """The body is put in as it is."""
    line = json.loads(provider(None).codec.line('k"1', b'{"model":"x"}', EMBED))
    assert line == {"custom_id": 'k"1', "method": "POST", "url": "/v1/embeddings", "body": {"model": "x"}}
    adapter = provider(None, options={"api": "responses"})
    assert json.loads(adapter.codec.line("k", b"{}", SPEC))["url"] == "/v1/responses"
    with pytest.raises(UsageError, match="'assistants'"):
        provider(None, options={"api": "assistants"})


@pytest.mark.parametrize(("body", "field"), [(chat(), "messages"), (responses(), "input")])
def test_asking_again_appends_to_the_conversation(body, field):
    """And leaves the first body alone."""
    again = CHAT.reask(body, "wrong", "try again")
    assert [turn["role"] for turn in again[field]] == ["user", "assistant", "user"]
    assert len(body[field]) == 1


# lines


def ran(body: dict, status: int = 200) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": "k-1", "response": response, "error": None}).encode()


def unrun(code: str | None) -> bytes:
    error = None if code is None else {"code": code, "message": "because"}
    return json.dumps({"id": "batch_req_1", "custom_id": "k-1", "response": None, "error": error}).encode()


def completion(finish="stop", usage=None, **message) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "hello", **message}}
    told = {"prompt_tokens": 10, "completion_tokens": 5} if usage is None else usage
    return ran({"object": "chat.completion", "model": "gpt-x-1", "choices": [choice], "usage": told})


def response(*output: dict, **fields) -> bytes:
    told = {"input_tokens": 10, "output_tokens": 5}
    body = {"object": "response", "status": "completed", "model": "gpt-x-1", "output": list(output), "usage": told}
    return ran({**body, **fields})


def said(text: str) -> dict:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


@pytest.mark.parametrize("raw", [completion(), response({"type": "reasoning"}, said("hel"), said("lo"))])
def test_a_text_is_an_output(raw):
    """With its tokens, its model and its end, from either endpoint."""
    reply = CHAT.decode(raw, "generate")
    assert (reply.key, reply.status, reply.output) == ("k-1", "succeeded", "hello")
    assert (reply.finish_reason, reply.model) == ("stop", "gpt-x-1")
    assert reply.usage == Usage(input_tokens=10, output_tokens=5)


def test_cached_and_reasoning_tokens_have_two_names_each():
    """Chat calls them prompt and completion, responses input and output."""
    chats = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    other = {
        "input_tokens": 10,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    expected = Usage(input_tokens=10, cached_tokens=4, cache_write_tokens=2, output_tokens=5, reasoning_tokens=3)
    assert CHAT.decode(completion(usage=chats), "generate").usage == expected
    assert CHAT.decode(response(said("x"), usage=other), "generate").usage == expected


def test_a_call_has_its_arguments_as_an_object():
    """Text that is not valid JSON stays text."""
    function = {"name": "f", "arguments": '{"a":1}'}
    calls = [{"id": "c1", "function": function}, {"id": "c2", "function": {"name": "g", "arguments": "{"}}]
    reply = CHAT.decode(completion("tool_calls", content=None, tool_calls=calls), "generate")
    assert reply.finish_reason == "tool_use"
    assert reply.output["tool_calls"] == [
        {"id": "c1", "name": "f", "arguments": {"a": 1}},
        {"id": "c2", "name": "g", "arguments": "{"},
    ]
    item = {"type": "function_call", "id": "fc", "call_id": "c1", **function}
    reply = CHAT.decode(response(item), "generate")
    assert reply.output == {"tool_calls": [{"id": "c1", "name": "f", "arguments": {"a": 1}}], "text": None}
    assert reply.finish_reason == "tool_use"


@pytest.mark.parametrize(
    "raw",
    [
        completion(content=None, refusal="no"),
        completion("content_filter", content=""),
        response({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}),
        response(status="incomplete", incomplete_details={"reason": "content_filter"}),
    ],
)
def test_a_refusal_is_for_good(raw):
    """Whichever way it is said."""
    reply = CHAT.decode(raw, "generate")
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "refusal", False)
    assert reply.finish_reason == "refusal"
    assert reply.usage.output_tokens == 5


@pytest.mark.parametrize(
    "raw",
    [
        completion("length"),
        response(said("hello"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
    ],
)
def test_a_truncated_answer_is_told_by_its_finish_reason(raw):
    """The text so far is there."""
    reply = CHAT.decode(raw, "generate")
    assert (reply.status, reply.output, reply.finish_reason) == ("succeeded", "hello", "max_tokens")


@pytest.mark.parametrize(
    ("raw", "status", "retryable"),
    [
        (unrun("batch_expired"), "expired", True),
        (unrun("batch_cancelled"), "cancelled", True),
        (unrun("something_new"), "failed", True),
        (unrun(None), "failed", True),
        (ran({"error": {"message": "m", "code": "invalid_prompt"}}, 400), "failed", False),
        (ran({"error": {"message": "m", "type": "server_error", "code": None}}, 500), "failed", True),
        (ran({"error": {"code": "rate_limit_exceeded"}}, 429), "failed", True),
        (ran({"error": {"code": "insufficient_quota"}}, 429), "failed", True),
        (ran({"error": "text"}, 404), "failed", False),
        (ran({}, 503), "failed", True),
        (response(status="failed", error={"code": "server_error", "message": "m"}), "failed", True),
        (response(status="failed", error={"code": "invalid_prompt", "message": "m"}), "failed", False),
        (response(status="cancelled"), "cancelled", True),
        (response(status="queued"), "failed", True),
    ],
)
def test_a_row_without_answer_tells_whether_asking_again_helps(raw, status, retryable):
    """A code that we do not know means that the row did not run, which costs nothing to repeat."""
    reply = CHAT.decode(raw, "generate")
    assert (reply.status, reply.error.retryable) == (status, retryable)
    assert reply.error.code


def test_a_vector_may_come_packed():
    """`encoding_format: base64` halves the file."""
    packed = base64.b64encode(struct.pack("<3f", 0.5, -1.0, 2.0)).decode()
    for given in (packed, [0.5, -1.0, 2.0]):
        body = {"object": "list", "data": [{"embedding": given}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}
        reply = CHAT.decode(ran(body), "embed")
        assert (reply.output, reply.usage.input_tokens) == ([0.5, -1.0, 2.0], 4)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (completion(content=5), "generate"),
        (completion(usage=[]), "generate"),
        (completion(finish=[], tool_calls="x"), "generate"),
        (ran({"choices": "none"}), "generate"),
        (ran({"choices": [None]}), "generate"),
        (ran({"output": None}), "generate"),
        (ran({"output": [{"type": "message", "content": "x"}], "status": "completed"}), "generate"),
        (ran({"data": []}), "embed"),
        (ran({"data": [{"embedding": "%%%"}]}), "embed"),
        (ran({"data": [{"embedding": "YWJj"}]}), "embed"),
        (ran({"data": [{"embedding": [1, "x"]}]}), "embed"),
        (b'{"custom_id":"k-1"}', "generate"),
        (b'{"custom_id":"k-1","response":[],"error":3}', "generate"),
    ],
)
def test_a_line_of_any_shape_still_says_something(raw, kind):
    """A row with a key is never lost, and nothing but `Rejected` is raised."""
    assert CHAT.decode(raw, kind).key == "k-1"


@pytest.mark.parametrize("raw", [b"{}", b'{"custom_id":1}', b"not json"])
def test_a_line_without_key_is_rejected(raw):
    """Its content stays out of the message."""
    with pytest.raises(Rejected, match="bytes"):
        CHAT.decode(raw, "generate")


# vocabulary


def test_every_word_of_the_sdk_has_a_meaning():
    """What a later SDK adds shows here before it shows in production."""
    from openai.types import Batch
    from openai.types.chat.chat_completion import Choice

    assert set(get_args(Batch.model_fields["status"].annotation)) == STATES.keys()
    assert set(get_args(Choice.model_fields["finish_reason"].annotation)) <= replies.FINISH.keys()


def test_every_endpoint_is_one_that_batches_take():
    """As the SDK types them."""
    from openai.types.batch_create_params import BatchCreateParams

    allowed = str(BatchCreateParams.__annotations__["endpoint"])
    assert all(f'"{endpoint}"' in allowed or f"'{endpoint}'" in allowed for endpoint in codec.ENDPOINTS.values())


# batches


def batch(**fields) -> dict:
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": "completed",
        "created_at": 1_790_000_000,
        "output_file_id": None,
        "error_file_id": None,
        "request_counts": {"total": 3, "completed": 2, "failed": 1},
        **fields,
    }


def failed(*codes: str) -> dict:
    faults = [{"code": code, "message": f"about {code}", "line": number} for number, code in enumerate(codes)]
    return batch(status="failed", failed_at=1_790_000_060, errors={"object": "list", "data": faults})


@pytest.mark.parametrize(
    ("codes", "retryable"),
    [
        (("token_limit_exceeded",), True),
        (("token_limit_exceeded", "token_limit_exceeded"), True),
        (("token_limit_exceeded", "invalid_json_line"), False),
        (("model_not_found",), False),
        ((), False),
    ],
)
async def test_a_failed_batch_may_be_sent_again_when_the_queue_was_full(codes, retryable):
    """And for no other reason."""
    told = await provider(lambda _: httpx2.Response(200, json=failed(*codes))).status("batch_1")
    assert (told.status, told.retryable) == ("failed", retryable)
    assert all(code in (told.error or "") for code in codes)


async def test_fifty_thousand_faults_are_told_in_one_bounded_text():
    """One per line of the file."""
    told = await provider(lambda _: httpx2.Response(200, json=failed(*["invalid_json_line"] * 50_000))).status(
        "batch_1"
    )
    assert len(told.error) <= 600
    assert "49997 more" in told.error


@pytest.mark.parametrize("absent", [None, ""])
async def test_an_absent_file_may_be_null_or_empty(absent):
    """Both mean that there is none."""
    record = batch(
        output_file_id=absent, error_file_id=absent, request_counts={"total": 3, "completed": 0, "failed": 3}
    )
    adapter = provider(lambda _: httpx2.Response(200, json=record))
    assert [reply async for reply in adapter.results("batch_1", "generate")] == []


@pytest.mark.parametrize(("record", "message"), [({"id": "batch_2"}, "'batch_2'"), ({"busy": True}, "None")])
async def test_a_reply_about_something_else_is_not_a_batch_without_results(record, message):
    """Its rows would count as missing, and would be bought again."""
    adapter = provider(lambda _: httpx2.Response(200, json=record))
    with pytest.raises(Unavailable, match=message):
        _ = [reply async for reply in adapter.results("batch_1", "generate")]


async def test_a_hostile_file_id_is_sent_nowhere():
    """Ids from the provider go into URLs as well."""
    paths = []

    def answer(request):
        paths.append(request.url.path)
        return httpx2.Response(200, json=batch(output_file_id="../../../admin"))

    with pytest.raises(Rejected):
        _ = [reply async for reply in provider(answer).results("batch_1", "generate")]
    with pytest.raises(Rejected):
        await provider(answer).clean_up("batch_1")
    assert set(paths) == {"/v1/batches/batch_1"}


async def test_quota_pauses_and_pace_waits():
    """Both are a 429."""

    def refuse(code):
        error = {"error": {"message": "m", "type": code, "code": code, "param": None}}
        return provider(lambda _: httpx2.Response(429, json=error))

    with pytest.raises(Paused):
        await refuse("insufficient_quota").status("batch_1")
    with pytest.raises(Unavailable):
        await refuse("rate_limit_exceeded").status("batch_1")


async def test_the_environment_of_the_sdk_has_no_say(monkeypatch):
    """Keys, addresses and accounts come from the connection alone."""
    for name in ("BASE_URL", "API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "https://evil.example" if name == "BASE_URL" else "env")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Injected: 1\nAuthorization: Bearer env")
    seen = []

    def answer(request):
        seen.append(request)
        return httpx2.Response(200, json={"object": "list", "data": [], "has_more": False})

    await provider(answer).check()
    await provider(answer, options={"organization": "org-1", "project": "proj_1"}).check()
    first, second = seen
    assert str(first.url) == "https://api.openai.com/v1/batches?limit=1"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert not {"x-injected", "openai-organization", "openai-project"} & first.headers.keys()
    assert (second.headers["openai-organization"], second.headers["openai-project"]) == ("org-1", "proj_1")


# sending


@pytest.fixture
async def bench(server, tmp_path):
    adapter = OpenAIProvider(BACKENDS["openai-chat"].account(server.url))
    yield Bench(BACKENDS["openai-chat"], adapter, server.emulator, tmp_path, server.url)
    await adapter.aclose()


async def test_a_failed_upload_bought_nothing(bench):
    """However it failed, no batch was created."""
    bench.emulator.faults.add("openai.files.create", "cut", when="after")
    with pytest.raises(Unavailable):
        await bench.provider.prepare(bench.payload("one"))
    assert bench.emulator.calls["openai.batches.create"] == 0


async def test_an_earlier_upload_is_used_again(bench):
    """A resumed payload is looked for by name and size before it is sent again."""
    payload = bench.payload("one", resumed=True)
    bench.emulator.faults.add("openai.batches.create", "status", status=503)
    with pytest.raises(Unavailable):
        await bench.submit(payload)
    await bench.submit(payload)
    assert bench.emulator.calls["openai.files.create"] == 1
    await bench.submit(bench.payload("one", "two", resumed=True))
    assert bench.emulator.calls["openai.files.create"] == 2


async def test_cleaning_up_leaves_no_file(bench):
    """Input, output and error file go."""
    batch_id = await bench.submit(bench.payload("one", "[[emulate:error=invalid_request]]"))
    bench.finish()
    assert len(await bench.replies(batch_id)) == 2
    assert len(bench.emulator.files) == 3
    await bench.provider.clean_up(batch_id)
    assert not bench.emulator.files


async def test_a_batch_carries_our_tag_and_whose_it_is(bench):
    """Metadata values have at most 512 characters."""
    batch_id = await bench.submit(bench.payload("one", label="dag/" * 400))
    metadata = bench.emulator.jobs.all[batch_id].metadata
    assert metadata["tag"] == "abp-test-1"
    assert len(metadata["label"]) == 512


class CountingTransport(httpx2.AsyncBaseTransport):
    """Takes uploads, and counts the bytes of each piece in which they come."""

    def __init__(self):
        self.pieces = []

    async def handle_async_request(self, request):
        async for piece in request.stream:
            self.pieces.append(len(piece))
        return httpx2.Response(200, json={"id": "file-1"}, request=request)


async def test_a_file_is_uploaded_a_megabyte_at_a_time(tmp_path):
    """Each piece goes through all layers of the HTTP client, which costs as much for a small one as for a large one."""
    path = tmp_path / "batch.jsonl"
    path.write_bytes(bytes(5 << 20))
    transport = CountingTransport()
    provider = OpenAIProvider(Account(provider="openai", api_key="k"), transport)

    prepared = await provider.prepare(Payload("t-1", "d/r/t", path, 1, 5 << 20, Spec(model="m")))

    assert prepared.file == "file-1"
    assert sum(transport.pieces) > 5 << 20
    assert max(transport.pieces) == 1 << 20
    assert sum(piece >= 1 << 16 for piece in transport.pieces) == 5
    await provider.aclose()
