"""Lines of the usual shape are read quickly; what they say is what the reader of all shapes says, or they are left to it."""

from __future__ import annotations

import copy

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec

CHAT = {
    "id": "r",
    "custom_id": "k-1",
    "response": {
        "status_code": 200,
        "body": {
            "model": "gpt-x-1",
            "service_tier": "default",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": None,
                    "message": {"role": "assistant", "content": "fine", "refusal": None, "annotations": []},
                }
            ],
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
            },
        },
    },
    "error": None,
}
VECTOR = {
    "custom_id": "k-1",
    "response": {
        "status_code": 200,
        "body": {
            "model": "embed-1",
            "data": [{"index": 0, "embedding": [0.25, -1, 1e-9]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        },
    },
}
MESSAGE = {
    "custom_id": "k-1",
    "result": {
        "type": "succeeded",
        "message": {
            "model": "claude-x-1",
            "content": [{"type": "text", "text": "fi"}, {"type": "text", "text": "ne", "citations": []}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 12,
                "output_tokens": 5,
                "cache_creation_input_tokens": 7,
                "cache_read_input_tokens": 3,
                "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 3},
                "service_tier": "batch",
                "server_tool_use": None,
            },
        },
    },
}
LINES = {
    "chat": (OpenAICodec("chat"), CHAT, "generate"),
    "vector": (OpenAICodec("chat"), VECTOR, "embed"),
    "message": (AnthropicCodec(), MESSAGE, "generate"),
}
ODD = st.sampled_from(
    [
        None,
        0,
        -1,
        7,
        1.5,
        10**13,
        True,
        "",
        " ",
        "text",
        "stop",
        "length",
        "batch",
        [],
        {},
        [{}],
        [[]],
        {"type": "text"},
    ]
)


def slowly(codec, line, kind):
    """As the reader of all shapes has it."""
    record = msgspec.json.decode(line)
    return codec.reply(record["custom_id"], record, kind)


@pytest.mark.parametrize(("codec", "record", "kind"), LINES.values(), ids=list(LINES))
def test_a_usual_line_is_read_quickly(codec, record, kind):
    """With every count that it tells."""
    line = msgspec.json.encode(record)

    assert codec.plain_reply(line, kind) == slowly(codec, line, kind)


def places(record, path=()):
    """Yield where every value of a record stands."""
    inner = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for name, value in inner:
        yield (*path, name)
        yield from places(value, (*path, name))


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(("codec", "record", "kind"), LINES.values(), ids=list(LINES))
def test_an_odd_line_says_the_same_however_it_is_read(codec, record, kind, data):
    """Any value of the line replaced or gone, and any field more that replies may have."""
    changed = copy.deepcopy(record)
    for _ in range(data.draw(st.integers(1, 3))):
        found = [place for place in places(changed) if place != ("custom_id",)]
        if not found:
            break
        *path, name = data.draw(st.sampled_from(found))
        holder = changed
        for step in path:
            holder = holder[step]
        if isinstance(holder, dict) and data.draw(st.booleans()):
            more = data.draw(
                st.sampled_from(["tool_calls", "refusal", "audio", "output", "type", "speed", "function_call"])
            )
            holder[more] = copy.deepcopy(data.draw(ODD))
        elif isinstance(holder, dict) and data.draw(st.booleans()):
            del holder[name]
        else:
            holder[name] = copy.deepcopy(data.draw(ODD))
    line = msgspec.json.encode(changed)

    quick = codec.plain_reply(line, kind)

    assert quick is None or quick == slowly(codec, line, kind)


def test_a_line_that_is_not_a_json_as_a_whole_is_left_to_the_other_reader():
    """`NaN` in a logprob, half a character, a broken tail: the key is read there."""
    line = msgspec.json.encode(CHAT)
    for broken in (line.replace(b"null", b"NaN"), line.replace(b"fine", b"\\ud800"), line[:-3], b"", b"[]"):
        assert OpenAICodec("chat").plain_reply(broken, "generate") is None
