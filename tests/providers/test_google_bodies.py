"""Gemini's bodies, schemas and result lines as documented; no network."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Literal

import pytest
from google.genai import types
from pydantic import BaseModel, Field

from airflow_batch_provider.exceptions import Rejected, UsageError
from airflow_batch_provider.models import BatchRequest, Spec, Usage
from airflow_batch_provider.providers.google import codec as bodies
from airflow_batch_provider.providers.google import replies
from airflow_batch_provider.providers.google.schema import response_schema

CODEC = bodies.GoogleCodec()
SPEC = Spec(model="gemini-x", max_tokens=100)
EMBED = Spec(kind="embed", model="gemini-embedding-x")
USER = [{"role": "user", "parts": [{"text": "hi"}]}]
OPEN = {"type": "object", "properties": {"n": {"type": "object", "additionalProperties": {"type": "integer"}}}}


def encode(spec: Spec = SPEC, **fields) -> dict:
    given = fields if "messages" in fields else {"prompt": "hi", **fields}
    return CODEC.encode(BatchRequest(**given), spec)


def decode(kind="generate", **record):
    return CODEC.decode(json.dumps({"key": "k", **record}).encode(), kind)


def answer(*parts: dict, finish: str | None = "STOP", **response):
    candidate = {"content": {"role": "model", "parts": list(parts)}}
    candidate |= {"finishReason": finish} if finish else {}
    return decode(response={"candidates": [candidate], "modelVersion": "gemini-x-001", **response})


# bodies


def test_a_prompt_is_a_content_of_the_user():
    """The smallest body of each kind."""
    assert encode() == {"contents": USER, "generationConfig": {"maxOutputTokens": 100}}
    assert encode(EMBED) == {"content": {"parts": [{"text": "hi"}]}}


def test_contents_pass_through_as_they_are():
    """Images, files and earlier turns are the user's own matter."""
    given = [*USER, {"role": "model", "parts": [{"text": "yes"}]}, {"parts": [{"fileData": {"fileUri": "gs://x"}}]}]
    assert encode(messages=given)["contents"] == given
    assert encode(EMBED, messages=[{"parts": [{"text": "a"}, {"text": "b"}]}]) == {
        "content": {"parts": [{"text": "a"}, {"text": "b"}]}
    }


def test_the_row_wins_over_the_task():
    """System text, tokens and parameters, field by field."""
    spec = Spec(model="gemini-x", system="task", request_params={"temperature": 0, "generationConfig": {"topP": 0.5}})
    body = encode(spec, system="row", max_tokens=7, request_params={"temperature": 1})
    assert body["systemInstruction"] == {"parts": [{"text": "row"}]}
    assert body["generationConfig"] == {"maxOutputTokens": 7, "temperature": 1, "topP": 0.5}


@pytest.mark.parametrize(
    "params",
    [
        {"thinkingConfig": {"thinkingBudget": 0}, "safetySettings": []},
        {"thinking_config": {"thinkingBudget": 0}, "safety_settings": []},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}, "safetySettings": []},
        {"generation_config": {"thinking_config": {"thinkingBudget": 0}}, "safetySettings": []},
    ],
)
def test_parameters_may_be_flat_or_nested_in_either_spelling(params):
    """They all end in the same place, so that two spellings of one field never meet."""
    body = encode(request_params=params)
    assert body["safetySettings"] == []
    assert body["generationConfig"] == {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 0}}


def test_parameters_of_an_embedding_are_its_fields():
    """Gemini has no generationConfig there."""
    spec = Spec(kind="embed", model="m", request_params={"output_dimensionality": 3, "taskType": "CLUSTERING"})
    assert encode(spec) == {"content": {"parts": [{"text": "hi"}]}, "outputDimensionality": 3, "taskType": "CLUSTERING"}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"request_params": {"contents": []}}, "messages"),
        ({"request_params": {"model": "other"}}, "model"),
        ({"request_params": {"system_instruction": {}}}, "system"),
        ({"request_params": {"generationConfig": 1}}, "dictionary"),
        ({"request_params": {"candidateCount": 2}}, "one answer"),
        ({"request_params": {"responseModalities": ["TEXT", "IMAGE"]}}, "IMAGE"),
        ({"request_params": {"cachedContent": "c"}, "system": "s"}, "systemInstruction"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "parts"),
        ({"messages": [{"role": "assistant", "parts": [{"text": "hi"}]}]}, "assistant"),
    ],
)
def test_what_would_fail_row_by_row_hours_later_is_refused_now(fields, word):
    """Before anything is paid, with the remedy."""
    with pytest.raises(UsageError, match=word):
        encode(**fields)


def test_an_embedding_takes_one_content():
    """Several would be one vector of a sum."""
    with pytest.raises(UsageError, match="not 2"):
        encode(EMBED, messages=[*USER, *USER])


def test_a_line_has_the_key_beside_the_request():
    """Keys are the user's, so they are escaped; the body is taken as it is."""
    assert CODEC.line('a"\n', b'{"x":1}', SPEC) == b'{"key":"a\\"\\n","request":{"x":1}}'


def test_asking_again_adds_the_answer_and_the_problem():
    """As turns of the model and the user; an empty answer is not a turn."""
    body = encode()
    again = CODEC.reask(body, "no", "wrong")
    assert [(turn["role"], turn["parts"][0]["text"]) for turn in again["contents"]] == [
        ("user", "hi"),
        ("model", "no"),
        ("user", "wrong"),
    ]
    assert len(CODEC.reask(body, "", "wrong")["contents"]) == 2
    assert body["contents"] == USER


# schemas


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str = Field(min_length=1, description="what it is called")


class Basket(BaseModel):
    colour: Colour
    parts: list[Part] = Field(max_length=3)
    note: str | None = None
    price: int | str = 0
    size: Literal[1, 2] = 1
    mail: str = Field(json_schema_extra={"format": "email"})


def test_a_schema_is_said_in_openapi():
    """No references, no additionalProperties, null as a flag, properties in the order written."""
    native = response_schema(Basket.model_json_schema())
    assert native == {
        "type": "OBJECT",
        "required": ["colour", "parts", "mail"],
        "propertyOrdering": ["colour", "parts", "note", "price", "size", "mail"],
        "properties": {
            "colour": {"type": "STRING", "enum": ["red", "blue"]},
            "parts": {
                "type": "ARRAY",
                "maxItems": 3,
                "items": {
                    "type": "OBJECT",
                    "required": ["name"],
                    "propertyOrdering": ["name"],
                    "properties": {"name": {"type": "STRING", "minLength": 1, "description": "what it is called"}},
                },
            },
            "note": {"type": "STRING", "nullable": True},
            "price": {"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}]},
            "size": {"type": "INTEGER", "description": "(one of: 1, 2)"},
            "mail": {"type": "STRING", "description": "(format: email)"},
        },
    }


def test_the_sdk_takes_the_schema():
    """Every field we write is one of its `Schema`."""
    native = response_schema(Basket.model_json_schema())
    assert types.Schema.model_validate(native).model_dump(exclude_none=True, by_alias=True, mode="json")


class Tree(BaseModel):
    children: list[Tree]


@pytest.mark.parametrize(
    "schema",
    [
        OPEN,
        Tree.model_json_schema(),
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"enum": [None]}}},
        {"type": "object", "properties": {"a": {"type": "array", "prefixItems": [{"type": "string"}]}}},
    ],
)
def test_a_schema_without_words_in_openapi_is_told_to_the_model(schema):
    """`responseJsonSchema` spoils answers in batches; landing checks them against the full schema."""
    assert response_schema(schema) is None
    body = encode(output_type=schema, system="be brief")
    brief, told = body["systemInstruction"]["parts"]
    assert brief == {"text": "be brief"}
    assert json.loads(told["text"].partition(": ")[2]) == schema
    assert body["generationConfig"] == {"maxOutputTokens": 100, "responseMimeType": "application/json"}


def test_a_schema_of_ones_own_is_left_alone():
    """Whoever writes responseSchema knows what they want."""
    given = {"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}}
    body = encode(output_type=OPEN, request_params=given)
    assert body["generationConfig"] == {"maxOutputTokens": 100, **given}
    assert "systemInstruction" not in body


def test_nullable_enums_and_constants_keep_their_values():
    """Null becomes the flag; an empty text, which Gemini refuses in enums, is told."""
    properties = {
        "a": {"enum": ["x", None]},
        "b": {"const": "y", "type": "string", "description": "always"},
        "c": {"enum": ["", "z"], "type": "string"},
        "d": {"type": "string", "format": "date-time"},
        "e": {"$ref": "#/$defs/E", "description": "outer"},
    }
    schema = {"type": "object", "properties": properties, "$defs": {"E": {"type": ["integer", "null"]}}}
    native = response_schema(schema)
    assert native["properties"] == {
        "a": {"type": "STRING", "enum": ["x"], "nullable": True},
        "b": {"type": "STRING", "enum": ["y"], "description": "always"},
        "c": {"type": "STRING", "description": "(one of: '', 'z')"},
        "d": {"type": "STRING", "format": "date-time"},
        "e": {"type": "INTEGER", "nullable": True, "description": "outer"},
    }


# result lines


def test_an_answer_is_its_text_without_thoughts():
    """Parts are joined; what the model thought is not the answer."""
    reply = answer({"text": "mm", "thought": True}, {"text": "a"}, {"text": "b"})
    assert (reply.key, reply.status, reply.output, reply.finish_reason) == ("k", "succeeded", "ab", "stop")
    assert reply.model == "gemini-x-001"


def test_calls_of_functions_are_an_answer():
    """With an id where Gemini gives one."""
    call = {"functionCall": {"name": "f", "args": {"x": 1}}}
    reply = answer({"text": "so"}, call, {"function_call": {"id": "7", "name": "g"}})
    assert reply.finish_reason == "tool_use"
    assert reply.output == {
        "tool_calls": [
            {"id": None, "name": "f", "arguments": {"x": 1}},
            {"id": "7", "name": "g", "arguments": {}},
        ],
        "text": "so",
    }


@pytest.mark.parametrize("word", list(types.FinishReason))
def test_every_reason_to_finish_has_a_meaning(word):
    """A reason that the SDK may see is one we know, and means one thing."""
    assert (word.value in replies.FINISH) is not (word.value in replies.BROKEN)


@pytest.mark.parametrize("word", [*(w for w, ours in replies.FINISH.items() if ours == "refusal")])
def test_a_refused_answer_is_not_asked_again(word):
    """Even if a part of it was written."""
    reply = answer({"text": "I will"}, finish=word)
    assert (reply.status, reply.finish_reason, reply.output) == ("failed", "refusal", None)
    assert (reply.error.code, reply.error.retryable) == ("refusal", False)
    assert word in reply.error.message


@pytest.mark.parametrize("word", list(types.BlockedReason))
def test_a_refused_prompt_is_not_asked_again(word):
    """It was paid, though."""
    usage = {"promptTokenCount": 5}
    reply = decode(response={"promptFeedback": {"blockReason": word.value}, "usageMetadata": usage})
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "refusal", False)
    assert reply.usage.input_tokens == 5


@pytest.mark.parametrize("word", sorted(replies.BROKEN))
def test_a_broken_answer_may_be_asked_again(word):
    """Under Gemini's own word."""
    reply = answer({"text": "{"}, finish=word)
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", word, True)


def test_an_empty_answer_may_be_asked_again():
    """Whatever is missing."""
    for reply in (answer(), answer(finish=None), decode(response={}), decode(response={"candidates": "x"})):
        assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "empty_answer", True)


def test_an_answer_that_is_not_a_text_says_so_and_is_not_bought_again():
    """An image model answers with images each time."""
    reply = answer({"inlineData": {"data": "AAAA"}})
    assert (reply.error.code, reply.error.retryable) == ("unsupported_output", False)
    assert "inlineData" in reply.error.message


def test_a_reason_nobody_knows_spoils_no_answer():
    """It is handed on as it is."""
    reply = answer({"text": "a"}, finish="BORED")
    assert (reply.status, reply.output, reply.finish_reason) == ("succeeded", "a", "BORED")


@pytest.mark.parametrize("code", sorted(replies.CODES))
def test_a_failed_row_says_whether_asking_again_helps(code):
    """By its google.rpc code; both fields that Gemini uses for it are read."""
    expected = code in {1, 2, 4, 8, 10, 13, 14, 15}
    for field in ("error", "status"):
        reply = decode(**{field: {"code": code, "message": "m" * 1000}})
        assert (reply.error.code, reply.error.retryable) == (replies.CODES[code], expected)
        assert reply.status == {1: "cancelled", 4: "expired"}.get(code, "failed")
        assert len(reply.error.message) == 300


@pytest.mark.parametrize(
    ("error", "retryable"),
    [({"code": 429}, True), ({"code": 400}, False), ({"code": 503}, True), ({"code": "odd"}, True), ({}, True)],
)
def test_odd_codes_are_read_on_purpose(error, retryable):
    """Those of HTTP by their meaning; what says nothing cost nothing and may be asked again."""
    reply = decode(error=error)
    assert (reply.status, reply.error.retryable) == ("failed", retryable)


@pytest.mark.parametrize(
    "told",
    [
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 2,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3,
        },
        {
            "prompt_token_count": "10",
            "tool_use_prompt_token_count": 2,
            "cached_content_token_count": 4,
            "candidates_token_count": "5",
            "thoughts_token_count": 3,
        },
    ],
)
def test_thoughts_are_counted_beside_the_answer(told):
    """In either spelling, as number or as text."""
    expected = Usage(input_tokens=12, cached_tokens=4, output_tokens=8, reasoning_tokens=3)
    assert replies.usage({"usageMetadata": told}) == expected
    assert replies.usage({"usage_metadata": told}) == expected


@pytest.mark.parametrize("value", [None, -1, "-1", "x", True, 1.5, "9" * 30, [], "٣"])
def test_a_count_that_is_none_counts_nothing(value):
    """Replies are hostile; a sum must not break on them."""
    assert replies.int64(value) == 0


def test_an_embedding_is_a_list_of_floats():
    """Its tokens stand beside it as text, or in usageMetadata."""
    reply = decode("embed", response={"embedding": {"values": [0, 0.5]}, "tokenCount": "3"})
    assert (reply.status, reply.output, reply.usage.input_tokens) == ("succeeded", [0.0, 0.5], 3)
    assert all(type(value) is float for value in reply.output)
    reply = decode("embed", response={"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 4}})
    assert reply.usage.input_tokens == 4


@pytest.mark.parametrize("values", [[], None, {}])
def test_an_empty_vector_is_an_empty_answer(values):
    """Which may be asked again."""
    reply = decode("embed", response={"embedding": {"values": values}})
    assert (reply.status, reply.error.code) == ("failed", "empty_answer")


@pytest.mark.parametrize("raw", [b"[]", b"{", b"null", b'{"response":{}}', b'{"key":7,"response":{}}', b"\xff"])
def test_a_line_nobody_documents_is_refused_without_its_content(raw):
    """Without a key nobody can tell whose answer it is."""
    with pytest.raises(Rejected) as caught:
        CODEC.decode(raw, "generate")
    assert "response" not in str(caught.value)
