"""The emulator refuses what Gemini refuses, in its words."""

from __future__ import annotations

import pytest
from google.genai import types
from strict_schemas import GOOD


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"max_tokens": 3}, 'Unknown name "max_tokens": Cannot find field.'),
        (
            {"generationConfig": {"maxTokens": 3}},
            "Unknown name \"maxTokens\" at 'generation_config': Cannot find field.",
        ),
    ],
)
async def test_an_unknown_parameter_fails_its_row_at_google(ask, request_, message):
    """At the top and in generationConfig."""
    error = await ask.google_error(request_)
    assert (error["code"], error["message"]) == (3, f"Invalid JSON payload received. {message}")


@pytest.mark.parametrize(("tokens", "taken"), [(65_536, True), (65_537, False)])
async def test_google_gives_no_more_room_than_the_model_has(ask, tokens, taken):
    """Of gemini-2.5-flash."""
    error = await ask.google_error({"generationConfig": {"maxOutputTokens": tokens}})
    assert (error is None) is taken
    assert taken or "a maxOutputTokens value of 65537 but the supported range" in error["message"]


async def test_google_takes_both_spellings(ask):
    """camelCase and snake_case mean the same field."""
    assert await ask.google_error({"generation_config": {"max_output_tokens": 9}, "safetySettings": []}) is None


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "additionalProperties": False}, "Unknown name \"additionalProperties\" at 'generation_config.response_schema'"),
        ({"type": "OBJECT", "properties": {"a": {"const": 1}}}, "Unknown name \"const\" at 'generation_config.response_schema.properties[0].value'"),
        ({"$ref": "#/$defs/A", "$defs": {}}, 'Unknown name "$ref"'),
        ({"type": ["string", "null"]}, "Invalid value at 'generation_config.response_schema.type'"),
        ({"type": "OBJECT"}, "* GenerateContentRequest.generation_config.response_schema.properties: should be non-empty for OBJECT type"),
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING", "format": "uri"}}},
         "response_schema.properties[a].format: only 'enum' and 'date-time' are supported for STRING type"),
        ({"type": "INTEGER", "enum": [1, 2]}, "response_schema.enum: only allowed for STRING type"),
        ({"type": "ARRAY"}, "response_schema.items: missing field."),
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["b"]}, "response_schema.required[0]: property is not defined"),
    ],
)  # fmt: skip
async def test_gemini_refuses_what_its_schema_has_no_field_for(ask, schema, message):
    """In responseSchema; responseJsonSchema takes JSON Schema as it is."""
    config = {"responseMimeType": "application/json"}
    error = await ask.google_error({"generationConfig": {**config, "responseSchema": schema}})
    assert error["code"] == 3
    assert message in error["message"]


async def test_gemini_takes_its_own_kind_of_schema(ask):
    """And any keyword in responseJsonSchema."""
    schema = {
        "type": "OBJECT",
        "properties": {
            "day": {"type": "STRING", "format": "date-time", "nullable": True},
            "kind": {"type": "STRING", "enum": ["a"]},
            "some": {"type": "ARRAY", "items": {"type": "number"}, "maxItems": "3"},
        },
        "property_ordering": ["kind", "day"],
    }
    assert await ask.google_error({"generationConfig": {"responseSchema": schema}}) is None
    assert await ask.google_error({"generationConfig": {"responseJsonSchema": {**GOOD, "title": "T"}}}) is None


async def test_gemini_vectors_have_most_dimensions(ask, google):
    """3,072 at the most."""
    rows = types.EmbedContentBatch(contents=["a"], config={"output_dimensionality": 3073})
    source = types.EmbeddingsBatchJobSource(inlined_requests=rows)
    with pytest.warns(match="experimental"):
        batch = await google.batches.create_embeddings(model="gemini-embedding-001", src=source)
    (row,) = (await ask.google_end(batch.name)).dest.inlined_responses
    assert "3072" in row.error.message
