"""The emulator refuses what OpenAI refuses, in its words."""

from __future__ import annotations

import pytest
from strict_schemas import GOOD, chat_format, closed, nested


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4o-mini-2024-07-18",
        "gpt-5-mini",
        "o4-mini",
        "ft:gpt-4o-mini-2024-07-18:acme::7p4lURel",
        "gpt-6-sol",
    ],
)
async def test_real_names_are_known_to_openai(ask, model):
    """Snapshots and fine-tuned models too."""
    assert await ask.openai_error({"model": model}) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/v1/chat/completions", "Unrecognized request argument supplied: top_k"),
        ("/v1/responses", "Unknown parameter: 'top_k'."),
        ("/v1/embeddings", "Unrecognized request argument supplied: top_k"),
    ],
)
async def test_an_unknown_parameter_fails_its_row_at_openai(ask, url, message):
    """In the words of the endpoint."""
    error = await ask.openai_error({"top_k": 3}, url)
    assert (error["message"], error["type"]) == (message, "invalid_request_error")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({**GOOD, "additionalProperties": True}, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (closed({"a": {"type": "object", "properties": {}}}), "In context=('properties', 'a'), 'additionalProperties'"),
        ({**GOOD, "required": []}, "to be an array including every key in properties. Missing 'x'."),
        ({**GOOD, "required": ["x", "y"]}, "Extra required key 'y' supplied."),
        (closed({"a": {"type": "string", "format": "uri"}}), "In context=('properties', 'a'), 'uri' is not a valid format."),
        (closed({"a": {"type": "string", "format": "binary"}}), "'binary' is not a valid format."),
        (closed({"a": {"enum": [1, 2]}}), "In context=('properties', 'a'), schema must have a 'type' key."),
        (closed({"a": {"const": "b"}}), "schema must have a 'type' key."),
        (closed({"a": {}}), "schema must have a 'type' key."),
        (closed({"a": {"anyOf": [{"type": "null"}, {}]}}), "In context=('properties', 'a', 'anyOf', '1'), schema must have"),
        (closed({"a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}}), "'uniqueItems' is not permitted."),
        (closed({"a": {"oneOf": [{"type": "string"}]}}), "'oneOf' is not permitted."),
        (closed({"a": {"type": "string", "minLength": 1}}), "'minLength' is not permitted."),
        (closed({"a": {"type": "array"}}), "array schema missing items."),
        (closed({"a": {"$ref": "#/$defs/A", "description": "d"}}, **{"$defs": {"A": GOOD}}), "$ref cannot have keywords"),
        (closed({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"type": "object"}}}), "In context=('$defs', 'A')"),
        ({"anyOf": [GOOD, GOOD]}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
        ({"$ref": "#/$defs/A", "$defs": {"A": GOOD}}, "got 'type: \"None\"'."),
        ({"type": "array", "items": GOOD}, "got 'type: \"array\"'."),
    ],
)  # fmt: skip
async def test_openai_refuses_a_strict_schema_outside_its_subset(ask, schema, message):
    """Each with the place in the schema; without strict it is a hint, and taken."""
    error = await ask.openai_error(chat_format(schema))
    assert error["message"].startswith("Invalid schema for response_format 's': ")
    assert message in error["message"]
    assert error["param"] == "response_format"
    assert await ask.openai_error(chat_format(schema, strict=False)) is None


@pytest.mark.parametrize("pattern", ["^(?!0)[0-9]+$", "(?<=a)b", "(?=.*x)", r"\\(?!a)"])
async def test_openai_has_no_lookaround(ask, pattern):
    """Pydantic writes one for a Decimal."""
    error = await ask.openai_error(chat_format(closed({"a": {"type": "string", "pattern": pattern}})))
    assert error["code"] == "invalid_json_schema"
    assert (
        error["message"] == "Invalid JSON schema: regex lookaround is not supported. Found at $.properties.a.pattern."
    )


@pytest.mark.parametrize(
    ("fits", "beyond", "message"),
    [
        (nested(10), nested(11), "11 levels of nesting exceeds limit of 10."),
        *(
            (closed({name: {"type": "boolean"} for name in map(str, range(most))}),
             closed({name: {"type": "boolean"} for name in map(str, range(most + 1))}), f"{most + 1} parameters exceeds limit of {most}.")
            for most in (5000,)
        ),
        *(
            (closed({"a": {"type": "integer", "enum": [*range(most)]}}), closed({"a": {"type": "integer", "enum": [*range(most + 1)]}}),
             f"{most + 1} enum values exceeds limit of {most}.")
            for most in (1000,)
        ),
        (closed({"a": {"type": "string", "enum": [f"{n:050}" for n in range(300)]}}),
         closed({"a": {"type": "string", "enum": [f"{n:051}" for n in range(300)]}}), "15300 characters in one enum"),
        (closed({"x" * 119_999: {"type": "string"}}), closed({"x" * 120_001: {"type": "string"}}), "characters in names and values"),
    ],
)  # fmt: skip
async def test_openai_limits_the_size_of_a_schema(ask, fits, beyond, message):
    """Levels, properties, values and characters, each up to its limit."""
    assert message in (await ask.openai_error(chat_format(beyond)))["message"]
    assert await ask.openai_error(chat_format(fits)) is None


async def test_openai_takes_a_schema_of_its_subset(ask):
    """Recursion, choices, constraints and the nine formats are fine, for both endpoints."""
    formats = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
    properties = {name: {"type": "string", "format": name} for name in formats}
    properties |= {"kind": {"type": ["string", "null"], "enum": ["a", None]}, "n": {"type": "number", "minimum": 0}}
    properties["next"] = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    node = closed({"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}})
    schema = closed(properties, **{"$defs": {"Node": node}})
    assert await ask.openai_error(chat_format(schema)) is None
    text = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}}
    assert await ask.openai_error({"text": text}, "/v1/responses") is None


async def test_openai_checks_responses_and_strict_functions_alike(ask):
    """With the field that is wrong."""
    text = {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}}
    error = await ask.openai_error({"text": text}, "/v1/responses")
    assert (error["param"], error["code"]) == ("text.format.schema", "invalid_json_schema")
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}
    error = await ask.openai_error({"tools": [tool]})
    assert (error["param"], error["code"]) == ("tools[0].function.parameters", "invalid_function_parameters")
    assert error["message"].startswith("Invalid schema for function 'f': In context=()")


async def test_openai_wants_a_name_for_a_format(ask):
    """Letters, digits, dashes and underscores."""
    assert (
        "response_format.json_schema.name" in (await ask.openai_error(chat_format(GOOD, name="an answer")))["message"]
    )


@pytest.mark.parametrize(
    ("url", "body", "message"),
    [
        (
            "/v1/chat/completions",
            {"max_completion_tokens": 99_999},
            "This model supports at most 32768 completion tokens",
        ),
        ("/v1/chat/completions", {"model": "gpt-5-mini", "max_tokens": 9}, "Use 'max_completion_tokens' instead."),
        ("/v1/embeddings", {"dimensions": 1537}, "Must be less than or equal to 1536."),
        (
            "/v1/embeddings",
            {"model": "text-embedding-ada-002", "dimensions": 3},
            "does not support specifying dimensions.",
        ),
    ],
)
async def test_openai_knows_what_a_model_can_do(ask, url, body, message):
    """Its most tokens and dimensions."""
    assert message in (await ask.openai_error(body, url))["message"]
