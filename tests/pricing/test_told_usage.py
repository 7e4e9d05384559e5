"""What each provider's documented usage object says, and what odd ones do not break."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.models import BatchRow, Reply, Usage
from airflow_batch_provider.providers.anthropic import replies as anthropic
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google import replies as google
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai import replies as openai
from airflow_batch_provider.providers.openai.codec import OpenAICodec


def claude(usage, *content):
    """A result line of Anthropic."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "ok"}, *content],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    line = {"custom_id": "a", "result": {"type": "succeeded", "message": message}}
    return AnthropicCodec().decode(json.dumps(line).encode(), "generate").usage.told()


def gpt(body):
    """A result line of OpenAI."""
    line = {
        "id": "b",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "r", "body": body},
        "error": None,
    }
    return OpenAICodec("chat").decode(json.dumps(line).encode(), "generate").usage.told()


def completion(usage, **fields):
    message = {"role": "assistant", "content": "ok", **fields.pop("message", {})}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return gpt({"object": "chat.completion", "model": "gpt-5.4", "choices": choices, "usage": usage, **fields})


def response(usage, *items, **fields):
    said = {"type": "message", "content": [{"type": "output_text", "text": "ok"}]}
    body = {"object": "response", "status": "completed", "model": "gpt-5.4", "output": [*items, said], "usage": usage}
    return gpt({**body, **fields})


def gemini(usage, model="gemini-2.5-flash", **candidate):
    """A result line of Gemini."""
    made = {"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP", **candidate}
    body = {"candidates": [made], "usageMetadata": usage, "modelVersion": model}
    return GoogleCodec().decode(json.dumps({"key": "a", "response": body}).encode(), "generate").usage.told()


def test_claudes_cache_writes_are_told_apart_by_their_life():
    """An hour costs 2 times the input, five minutes 1.25 times."""
    told = claude(
        {
            "input_tokens": 20,
            "cache_creation_input_tokens": 10_000,
            "cache_read_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 4000, "ephemeral_1h_input_tokens": 6000},
            "output_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 30},
            "service_tier": "batch",
            "inference_geo": "global",
        }
    )

    assert told == {
        "input_tokens": 10_320,
        "cached_tokens": 300,
        "cache_write_tokens": 10_000,
        "long_cache_write_tokens": 6000,
        "output_tokens": 40,
        "reasoning_tokens": 30,
    }


def test_cache_writes_of_which_only_the_parts_are_told_are_counted():
    """Some gateways leave the sum out."""
    told = claude({"cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}})

    assert told == {"input_tokens": 10, "cache_write_tokens": 10, "long_cache_write_tokens": 6}


def test_claudes_server_tools_are_counted():
    """Searches have a price, fetches have none, everything else is named."""
    code = {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    told = claude({"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 2}}, search, code, code)

    assert told == {"web_searches": 3, "other_tool_calls": 2}
    assert claude({"server_tool_use": {"brain_requests": 2}}) == {"other_tool_calls": 2}


@pytest.mark.parametrize("word", [{"service_tier": "priority"}, {"speed": "fast"}, {"inference_geo": "us"}])
def test_another_tier_than_a_batchs_is_told(word):
    """Its prices are not those of the list."""
    assert claude(word) == {"other_tier_requests": 1}


def test_audio_images_and_caches_of_a_completion_are_counted():
    """Inside the sums, as OpenAI counts them."""
    told = completion(
        {
            "prompt_tokens": 1000,
            "prompt_tokens_details": {"audio_tokens": 300, "image_tokens": 200, "cached_tokens": 128},
            "completion_tokens": 90,
            "completion_tokens_details": {"audio_tokens": 50, "reasoning_tokens": 7},
        },
        service_tier="default",
    )

    assert told == {
        "input_tokens": 1000,
        "cached_tokens": 128,
        "input_audio_tokens": 300,
        "input_image_tokens": 200,
        "output_tokens": 90,
        "reasoning_tokens": 7,
        "output_audio_tokens": 50,
    }


def test_calls_of_a_responses_tools_are_counted():
    """A search is charged, opening a page is not; what is charged by the container is named."""
    details = {"cached_tokens": 0, "cache_write_tokens": 9, "cache_write_tokens_details": {"ttl_12h_tokens": 4}}
    told = response(
        {"input_tokens": 10, "input_tokens_details": details, "output_tokens": 2},
        {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
        {"type": "web_search_call", "action": {"type": "open_page", "url": "x"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        {"type": "code_interpreter_call"},
        {"type": ["odd"]},
        service_tier="flex",
    )

    assert told == {
        "input_tokens": 10,
        "cache_write_tokens": 9,
        "long_cache_write_tokens": 4,
        "output_tokens": 2,
        "web_searches": 2,
        "file_searches": 1,
        "other_tool_calls": 1,
        "other_tier_requests": 1,
    }


def test_a_completion_that_cites_pages_has_searched():
    """A search model tells no number; it is charged once."""
    note = {"type": "url_citation", "url_citation": {"url": "x"}}

    assert completion({}, message={"annotations": [note, note]}) == {"web_searches": 1}


def test_geminis_modalities_are_counted():
    """Lists of counts by modality, in either spelling; numbers may be texts."""
    told = gemini(
        {
            "promptTokenCount": 900,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 100},
                {"modality": "AUDIO", "tokenCount": 500},
                {"modality": "IMAGE", "tokenCount": "258"},
            ],
            "cachedContentTokenCount": 400,
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 400}],
            "toolUsePromptTokenCount": 10,
            "toolUsePromptTokensDetails": [{"modality": "audio", "token_count": 10}],
            "candidatesTokenCount": 30,
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
            "thoughtsTokenCount": 5,
        }
    )

    assert told == {
        "input_tokens": 910,
        "cached_tokens": 400,
        "input_audio_tokens": 510,
        "input_image_tokens": 258,
        "cached_audio_tokens": 400,
        "output_tokens": 35,
        "reasoning_tokens": 5,
        "output_audio_tokens": 20,
    }


@pytest.mark.parametrize(
    ("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-flash-preview", 2), ("gemini-3.5-flash-lite", 2)]
)
def test_gemini_charges_queries_since_3_and_grounded_prompts_before(model, searches):
    """$14 per thousand queries, $35 per thousand prompts."""
    grounded = {"webSearchQueries": ["a", "b"], "groundingChunks": [{"web": {"uri": "x"}}]}

    assert gemini({}, model, groundingMetadata=grounded) == {"web_searches": searches}


def test_prompts_grounded_with_maps_and_other_tiers_are_named():
    """Both have prices that no list has."""
    maps = {"groundingChunks": [{"maps": {"uri": "x"}}]}

    assert gemini({"serviceTier": "SERVICE_TIER_PRIORITY"}, groundingMetadata=maps) == {
        "other_tool_calls": 1,
        "other_tier_requests": 1,
    }


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def of(*names):
    """Objects with these keys and anything in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, ODD))


CLAUDES = of(
    "input_tokens", "cache_creation", "cache_creation_input_tokens", "server_tool_use", "service_tier", "speed"
)
GPTS = of("prompt_tokens", "prompt_tokens_details", "input_tokens_details", "completion_tokens_details")
GEMINIS = of("promptTokenCount", "promptTokensDetails", "cacheTokensDetails", "serviceTier", "thoughtsTokenCount")


@given(CLAUDES, GPTS, GEMINIS, ODD)
def test_odd_usage_is_never_more_than_its_own_rows_problem(a, b, c, odd):
    """Whatever stands in a documented field."""
    for told in (
        claude(a, {"type": "server_tool_use", "name": odd}),
        completion(b, message={"annotations": [odd]}, service_tier=odd),
        response(b, {"type": odd}, {"type": "web_search_call", "action": odd}),
        gemini(c, groundingMetadata=odd),
        gemini(c, groundingMetadata={"webSearchQueries": odd, "groundingChunks": odd}),
    ):
        assert all(0 < count < 2**63 for count in told.values())


@pytest.mark.parametrize("count", [10**18, 2**63, 10**19, 10**4000, -1, True, "7", 1.5, None])
def test_a_count_that_nobody_can_believe_is_not_counted(count):
    """A number of 19 digits would not fit into Parquet, and a sum of such ones less so."""
    usage = {"input_tokens": count, "output_tokens": 2}

    assert anthropic.usage({"usage": usage}).told() == {"output_tokens": 2}
    assert openai.usage({"usage": usage}).told() == {"output_tokens": 2}
    told = google.usage({"usageMetadata": {"promptTokenCount": count, "candidatesTokenCount": 2}})
    assert told.input_tokens == (7 if count == "7" else 0)


def test_a_whole_count_that_is_written_as_a_float_is_counted():
    """Some servers write every number so, and their rows cost nothing then."""
    assert claude({"input_tokens": 12.0, "output_tokens": 2}) == {"input_tokens": 12, "output_tokens": 2}
    assert completion({"prompt_tokens": 12.0, "completion_tokens": 2.0}) == {"input_tokens": 12, "output_tokens": 2}
    assert gemini({"promptTokenCount": 12.0}) == {"input_tokens": 12}


def test_a_count_that_is_infinite_costs_the_row_no_other_count():
    """`Infinity` and `NaN` are not JSON, but some servers write them."""
    infinite, none = float("inf"), float("nan")

    assert claude({"input_tokens": infinite, "output_tokens": 2}) == {"output_tokens": 2}
    assert completion({"prompt_tokens": none, "completion_tokens": 2}) == {"output_tokens": 2}
    assert gemini({"promptTokenCount": infinite, "candidatesTokenCount": 2}) == {"output_tokens": 2}


def test_json_of_a_row_holds_only_the_counts_that_say_something():
    """Five always, the rest where they are not 0; a million rows are written so. What is written is read back."""
    plain = Usage(input_tokens=1)
    rich = Usage(input_tokens=1, web_searches=2)

    assert json.loads(msgspec.json.encode(plain)) == {
        "input_tokens": 1,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
    }
    assert rich.as_json()["web_searches"] == 2
    row = BatchRow(custom_id="a", index=0, status="succeeded", usage=rich)
    assert BatchRow.model_validate_json(row.model_dump_json()) == row
    assert Reply(key="a", status="succeeded", usage=rich).usage + plain == Usage(input_tokens=2, web_searches=2)
