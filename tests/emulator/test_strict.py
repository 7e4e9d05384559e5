"""The emulator refuses what the real services refuse, in their words; `lenient` switches it off."""

from __future__ import annotations

import pytest
from google.genai import errors, types

GOOD = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}


def chat_format(schema, **more):
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": schema, "strict": True, **more},
        }
    }


def closed(properties, **more):
    """An object as OpenAI and Anthropic want it, around these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
        **more,
    }


async def openai_errors(ask, body, url="/v1/chat/completions"):
    """The error of the one row with this body; None when it was answered."""
    asked = {"messages": [{"role": "user", "content": "x"}]} if url.endswith("completions") else {"input": "x"}
    ended = await ask.openai_end((await ask.openai_batch({"a": asked | body}, url)).id)
    line = (await ask.openai_lines(ended.error_file_id)).get("a")
    return line and line["response"]["body"]["error"]


async def anthropic_errors(ask, **params):
    """The error of the one row with these params; None when it was answered."""
    result = (await ask.anthropic_results((await ask.anthropic_batch({"a": "x"}, **params)).id))["a"]
    return result.error.error if result.type == "errored" else None


async def google_errors(ask, request):
    """The error of the one row of a file; None when it was answered."""
    import json

    line = {"key": "a", "request": {"contents": [{"parts": [{"text": "x"}]}], **request}}
    file = await ask.google_file(json.dumps(line).encode())
    batch = await ask.google.batches.create(model="gemini-2.5-flash", src=file.name)
    raw = await ask.google.files.download(file=(await ask.google_end(batch.name)).dest.file_name)
    return json.loads(raw).get("error")


async def test_a_misspelt_model_fails_where_each_service_finds_it(ask):
    """Anthropic in the row, OpenAI while it validates the file, Gemini at once."""
    error = await anthropic_errors(ask, model="claude-hiaku-4-5")
    assert (error.type, error.message) == ("not_found_error", "model: claude-hiaku-4-5")
    failed = await ask.openai_end((await ask.openai_batch({"a": {"model": "gpt-4.1-mni", **ask.chat("x")}})).id)
    assert (failed.status, failed.errors.data[0].code) == ("failed", "model_not_found")
    with pytest.raises(errors.ClientError, match="models/gemini-2\\.5-flsh is not found for API version") as caught:
        await ask.google.batches.create(model="gemini-2.5-flsh", src=[types.InlinedRequest(contents="x")])
    assert caught.value.code == 404


async def test_a_model_serves_its_own_endpoints(ask):
    """An embedding model answers no chat."""
    body = {"model": "text-embedding-3-small", **ask.chat("x")}
    failed = await ask.openai_end((await ask.openai_batch({"a": body})).id)
    assert failed.errors.data[0].code == "model_not_found"
    with pytest.raises(errors.ClientError, match="not supported for batchGenerateContent"):
        await ask.google.batches.create(model="gemini-embedding-001", src=[types.InlinedRequest(contents="x")])


@pytest.mark.parametrize(
    "model",
    [
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-5-5",
        "claude-sonnet-4-20250514",
        "claude-emulated-1",
    ],
)
async def test_real_names_are_known(ask, model):
    """Aliases, snapshots and the name that the emulator lists."""
    assert await anthropic_errors(ask, model=model) is None


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
    assert await openai_errors(ask, {"model": model}) is None


async def test_further_models_can_be_named(batch_emulator, ask):
    """As patterns in the settings; without them everything else still counts."""
    batch_emulator.emulator.change({"models": ["claude-next-*"]})
    assert await anthropic_errors(ask, model="claude-next-1") is None
    assert (await anthropic_errors(ask, model="claude-last-1")).type == "not_found_error"


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
    error = await openai_errors(ask, {"top_k": 3}, url)
    assert (error["message"], error["type"]) == (message, "invalid_request_error")


async def test_an_unknown_parameter_fails_its_row_at_anthropic(ask):
    """Sampling parameters are known, others of other services are not."""
    error = await anthropic_errors(ask, response_format={"type": "json_object"})
    assert (error.type, error.message) == ("invalid_request_error", "response_format: Extra inputs are not permitted")
    assert await anthropic_errors(ask, temperature=0, top_k=3) is None


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
    error = await google_errors(ask, request_)
    assert (error["code"], error["message"]) == (3, f"Invalid JSON payload received. {message}")


async def test_google_takes_both_spellings(ask):
    """camelCase and snake_case mean the same field."""
    assert await google_errors(ask, {"generation_config": {"max_output_tokens": 9}, "safetySettings": []}) is None


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
    error = await openai_errors(ask, chat_format(schema))
    assert error["message"].startswith("Invalid schema for response_format 's': ")
    assert message in error["message"]
    assert error["param"] == "response_format"
    assert await openai_errors(ask, chat_format(schema, strict=False)) is None


@pytest.mark.parametrize("pattern", ["^(?!0)[0-9]+$", "(?<=a)b", "(?=.*x)", r"\\(?!a)"])
async def test_openai_has_no_lookaround(ask, pattern):
    """Pydantic writes one for a Decimal."""
    error = await openai_errors(ask, chat_format(closed({"a": {"type": "string", "pattern": pattern}})))
    assert error["code"] == "invalid_json_schema"
    assert (
        error["message"] == "Invalid JSON schema: regex lookaround is not supported. Found at $.properties.a.pattern."
    )


def nested(depth):
    schema = GOOD
    for _ in range(depth):
        schema = closed({"a": schema})
    return schema


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
    assert message in (await openai_errors(ask, chat_format(beyond)))["message"]
    assert await openai_errors(ask, chat_format(fits)) is None


async def test_openai_takes_a_schema_of_its_subset(ask):
    """Recursion, choices, constraints and the nine formats are fine, for both endpoints."""
    formats = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
    properties = {name: {"type": "string", "format": name} for name in formats}
    properties |= {"kind": {"type": ["string", "null"], "enum": ["a", None]}, "n": {"type": "number", "minimum": 0}}
    properties["next"] = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    node = closed({"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}})
    schema = closed(properties, **{"$defs": {"Node": node}})
    assert await openai_errors(ask, chat_format(schema)) is None
    text = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}}
    assert await openai_errors(ask, {"text": text}, "/v1/responses") is None


async def test_openai_checks_responses_and_strict_functions_alike(ask):
    """With the field that is wrong."""
    text = {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}}
    error = await openai_errors(ask, {"text": text}, "/v1/responses")
    assert (error["param"], error["code"]) == ("text.format.schema", "invalid_json_schema")
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}
    error = await openai_errors(ask, {"tools": [tool]})
    assert (error["param"], error["code"]) == ("tools[0].function.parameters", "invalid_function_parameters")
    assert error["message"].startswith("Invalid schema for function 'f': In context=()")


async def test_openai_wants_a_name_for_a_format(ask):
    """Letters, digits, dashes and underscores."""
    assert (
        "response_format.json_schema.name" in (await openai_errors(ask, chat_format(GOOD, name="an answer")))["message"]
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
    assert message in (await openai_errors(ask, body, url))["message"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({**GOOD, "additionalProperties": True}, "For 'object' type, 'additionalProperties: true' is not supported."),
        ({"type": "object", "properties": {}}, "For 'object' type, 'additionalProperties' must be explicitly set to false"),
        (closed({"a": {"type": "integer", "minimum": 0, "maximum": 9}}), "For 'integer' type, properties maximum, minimum are not supported"),
        (closed({"a": {"type": "string", "maxLength": 9}}), "For 'string' type, property 'maxLength' is not supported"),
        (closed({"a": {"type": "array", "items": GOOD, "maxItems": 9}}), "For 'array' type, property 'maxItems' is not supported"),
        (closed({"a": {"type": "array", "items": GOOD, "minItems": 2}}), "'minItems' values other than 0 or 1 are not supported (got: [2])"),
        (closed({"a": {"type": "string", "format": "binary"}}), "For 'string' type, format 'binary' is not supported"),
        (closed({"a": {"oneOf": [{"type": "string"}]}}), "Schema type 'oneOf' is not supported"),
        (closed({"a": {"type": ["string", "null"], "enum": ["low", None]}}),
         "Invalid schema: Enum value 'low' does not match declared type '['string', 'null']'"),
        (closed({"a": {"type": "string", "enum": ["low", 1]}}), "Enum value 1 does not match declared type 'string'"),
        (closed({"a": {"type": "string", "enum": []}}), "Invalid schema: Enum must be a non-empty array"),
        (closed({"a": {"type": "string", "pattern": "^(?!a)"}}), "pattern '^(?!a)'"),
        (closed({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": closed({"b": {"$ref": "#/$defs/A"}})}}),
         "Circular reference detected in schema definitions: A -> A"),
    ],
)  # fmt: skip
async def test_anthropic_refuses_a_format_outside_its_subset(ask, schema, message):
    """Of the output as of a strict tool; a tool that is not strict may say what it likes."""
    error = await anthropic_errors(ask, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert error.message.startswith("output_config.format.schema: ")
    assert message in error.message
    tool = {"name": "t", "input_schema": schema}
    assert message in (await anthropic_errors(ask, tools=[{**tool, "strict": True}])).message
    assert await anthropic_errors(ask, tools=[tool]) is None


async def test_anthropic_limits_optional_parameters_and_unions(ask):
    """24 and 16, over the whole request."""

    async def refused(properties, required):
        schema = {**closed(properties), "required": required}
        error = await anthropic_errors(ask, output_config={"format": {"type": "json_schema", "schema": schema}})
        return error and error.message

    plain = {f"p{n}": {"type": "string"} for n in range(25)}
    assert "too many optional parameters (25)" in await refused(plain, [])
    assert await refused(plain, ["p0"]) is None
    unions = {f"p{n}": {"type": ["string", "null"]} for n in range(8)}
    unions |= {f"q{n}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for n in range(9)}
    assert "too many parameters with union types (17 parameters" in await refused(unions, [*unions])
    unions.pop("q0")
    assert await refused(unions, [*unions]) is None


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/A", "$defs": {"A": GOOD}}, "tools.0.custom.input_schema.type: Field required"),
        ({"type": "array", "items": GOOD}, "tools.0.custom.input_schema.type: Input should be 'object'"),
        ({"anyOf": [GOOD, GOOD]}, "input_schema does not support oneOf, allOf, or anyOf at the top level"),
        (closed({"amount (EUR)": {"type": "number"}}), "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"),
    ],
)
async def test_anthropic_wants_an_object_for_a_tool(ask, schema, message):
    """With keys that it can spell."""
    assert message in (await anthropic_errors(ask, tools=[{"name": "t", "input_schema": schema}])).message


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "t"}])
@pytest.mark.parametrize(
    ("model", "takes"), [("claude-opus-5-5", False), ("claude-fable-5-1", False), ("claude-opus-5", True)]
)
async def test_models_that_always_think_take_no_forced_tool(ask, model, takes, choice):
    """They may be offered one."""
    tools = [{"name": "t", "input_schema": GOOD}]
    error = await anthropic_errors(ask, model=model, tools=tools, tool_choice=choice)
    assert (error is None) is takes
    assert takes or error.message == 'tool_choice: type "tool" and "any" are not supported for this model.'
    assert await anthropic_errors(ask, model=model, tools=tools, tool_choice={"type": "auto"}) is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}, "max_tokens": 4096}, "`max_tokens` must be greater than"),
        ({"thinking": {"type": "enabled", "budget_tokens": 512}}, "Input should be greater than or equal to 1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048, "tools": [{"name": "t", "input_schema": GOOD}],
          "tool_choice": {"type": "any"}}, "Thinking may not be enabled when tool_choice forces tool use."),
        ({"max_tokens": 64_001}, "max_tokens: 64001 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5"),
    ],
)  # fmt: skip
async def test_anthropic_wants_room_for_thoughts(ask, params, message):
    """The budget below max_tokens, and max_tokens below the model's own limit."""
    assert message in (await anthropic_errors(ask, **params)).message


async def test_the_beta_of_long_output_raises_the_limit(ask, anthropic):
    """Up to 300,000 tokens, in batches."""
    params = {"model": "claude-opus-5", "max_tokens": 300_000, "messages": [{"role": "user", "content": "x"}]}
    batch = await anthropic.beta.messages.batches.create(
        requests=[{"custom_id": "a", "params": params}], betas=["output-300k-2026-03-24"]
    )
    assert (await ask.anthropic_results(batch.id))["a"].type == "succeeded"
    assert "128000" in (await anthropic_errors(ask, model="claude-opus-5", max_tokens=300_000)).message


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
    error = await google_errors(ask, {"generationConfig": {**config, "responseSchema": schema}})
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
    assert await google_errors(ask, {"generationConfig": {"responseSchema": schema}}) is None
    assert await google_errors(ask, {"generationConfig": {"responseJsonSchema": {**GOOD, "title": "T"}}}) is None


async def test_gemini_vectors_have_most_dimensions(ask, google):
    """3,072 at the most."""
    rows = types.EmbedContentBatch(contents=["a"], config={"output_dimensionality": 3073})
    source = types.EmbeddingsBatchJobSource(inlined_requests=rows)
    with pytest.warns(match="experimental"):
        batch = await google.batches.create_embeddings(model="gemini-embedding-001", src=source)
    (row,) = (await ask.google_end(batch.name)).dest.inlined_responses
    assert "3072" in row.error.message


async def test_a_refused_row_leaves_the_others_alone_and_costs_nothing(batch_emulator, ask):
    """One bad row is one error."""
    bodies = {"bad": ask.chat("x", top_k=1), "good": ask.chat("y")}
    ended = await ask.openai_end((await ask.openai_batch(bodies)).id)
    assert (ended.request_counts.completed, ended.request_counts.failed) == (1, 1)
    assert batch_emulator.books()["rows_bought"] == 1


async def test_lenient_settings_take_everything(batch_emulator, ask):
    """Models, parameters and schemas."""
    batch_emulator.emulator.change({"lenient": True})
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}}
    assert await openai_errors(ask, {"model": "gpt-x", "top_k": 3, **chat_format(schema)}) is None
    assert (
        await anthropic_errors(
            ask, model="x", top_j=3, output_config={"format": {"type": "json_schema", "schema": schema}}
        )
        is None
    )
    batch = await ask.google.batches.create(model="x", src=[types.InlinedRequest(contents="x")])
    assert (await ask.google_end(batch.name)).state.name == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("field", ["tools", "thinking", "output_config", "tool_choice"])
async def test_a_parameter_of_the_wrong_shape_fails_its_row(ask, field):
    """It is not the emulator that fails."""
    assert (await anthropic_errors(ask, **{field: "nonsense"})).type == "invalid_request_error"
    assert "cannot be read" in (await openai_errors(ask, {"response_format": "json", "tools": 3}))["message"]
