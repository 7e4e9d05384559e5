"""Whatever a result line holds: with a key that can be read it is that row's line, and nothing but `Rejected` is raised."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec

CODECS = [AnthropicCodec(), OpenAICodec(), GoogleCodec()]
WORDS = [
    "result",
    "response",
    "body",
    "message",
    "content",
    "type",
    "text",
    "tool_use",
    "name",
    "input",
    "structured_answer",
    "succeeded",
    "errored",
    "error",
    "code",
    "status_code",
    "choices",
    "finish_reason",
    "tool_calls",
    "function",
    "arguments",
    "custom",
    "function_call",
    "audio",
    "output",
    "output_text",
    "status",
    "completed",
    "incomplete",
    "incomplete_details",
    "reason",
    "refusal",
    "call_id",
    "data",
    "embedding",
    "usage",
    "prompt_tokens",
    "input_tokens",
    "output_tokens_details",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "finishReason",
    "STOP",
    "MAX_TOKENS",
    "values",
    "metadata",
    "usageMetadata",
    "promptTokenCount",
    "embedding",
    "thought",
    "model",
    "modelVersion",
    "stop_reason",
    "end_turn",
    "max_tokens",
]

texts = st.text(st.characters(exclude_categories=[]), max_size=8)  # NUL and halves of surrogate pairs among them
numbers = st.integers() | st.floats() | st.integers(10**300, 10**310) | st.sampled_from([2**63, 2**64, -(2**63) - 1])
leaves = st.none() | st.booleans() | numbers | texts | st.sampled_from(WORDS)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | texts, inner, max_size=5),
    max_leaves=40,
)
depths = st.sampled_from([0, 1, 99, 100, 101, 255, 300, 900, 990, 1000, 5000])


@st.composite
def records(draw):
    """An object near to what providers send, with anything in any place."""
    body = draw(st.dictionaries(st.sampled_from(WORDS), values, max_size=8))
    shapes = [
        body,
        {"result": {"type": "succeeded", "message": {"content": [body], **body}}},
        {"response": {"status_code": 200, "body": {"choices": [{"message": body, **body}], **body}}},
        {"response": {"status_code": 200, "body": {"status": "completed", "output": [body], **body}}},
        {"response": {"status_code": 200, "body": {"data": [body], **body}}},
        {"response": {"candidates": [{"content": {"parts": [body]}, **body}], **body}},
        {"response": {"embedding": body, **body}},
    ]
    return draw(st.sampled_from(shapes))


def nested(text: str, depth: int) -> str:
    """The JSON with one of its values, or itself, put below so many levels."""
    deep = '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)
    return text.replace("null", deep, 1) if "null" in text else f'{text[:-1]}{"," if len(text) > 2 else ""}"z":{deep}}}'


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("kind", ["generate", "embed"])
@given(record=records(), depth=depths, ascii_only=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_line_with_a_key_is_that_rows_reply(codec, kind, record, depth, ascii_only):
    """Deep, wide, huge, half characters, NUL, NaN: the row is told, in values that JSON can hold."""
    text = json.dumps({codec.key_name: "the-key", **record}, ensure_ascii=ascii_only)
    line = nested(text, depth).encode("utf-8", "surrogatepass")

    reply = codec.decode(line, kind)

    assert isinstance(reply, Reply)
    assert reply.key == "the-key"
    assert (reply.error is None) is (reply.status == "succeeded")
    encoded = msgspec.json.encode(reply).decode()
    assert msgspec.json.decode(encoded) is not None
    assert msgspec.json.decode(encoded, type=Reply).key == "the-key"


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@given(line=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_other_line_is_rejected_at_most(codec, line):
    """Without its content in the message."""
    assert str(len(line)) in told(codec, line)


def told(codec, line):
    """What the refusal says, the length where there is none."""
    try:
        codec.decode(line, "generate")
    except Rejected as error:
        return str(error)
    return str(len(line))
