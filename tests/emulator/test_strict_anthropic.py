"""The emulator refuses what Anthropic refuses, in its words."""

from __future__ import annotations

import pytest
from strict_schemas import GOOD, closed


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
    assert await ask.anthropic_error(model=model) is None


async def test_an_unknown_parameter_fails_its_row_at_anthropic(ask):
    """Sampling parameters are known, others of other services are not."""
    error = await ask.anthropic_error(response_format={"type": "json_object"})
    assert (error.type, error.message) == ("invalid_request_error", "response_format: Extra inputs are not permitted")
    assert await ask.anthropic_error(temperature=0, top_k=3) is None


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
    error = await ask.anthropic_error(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert error.message.startswith("output_config.format.schema: ")
    assert message in error.message
    tool = {"name": "t", "input_schema": schema}
    assert message in (await ask.anthropic_error(tools=[{**tool, "strict": True}])).message
    assert await ask.anthropic_error(tools=[tool]) is None


async def test_anthropic_limits_optional_parameters_and_unions(ask):
    """24 and 16, over the whole request."""

    async def refused(properties, required):
        schema = {**closed(properties), "required": required}
        error = await ask.anthropic_error(output_config={"format": {"type": "json_schema", "schema": schema}})
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
    assert message in (await ask.anthropic_error(tools=[{"name": "t", "input_schema": schema}])).message


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "t"}])
@pytest.mark.parametrize(
    ("model", "takes"), [("claude-opus-5-5", False), ("claude-fable-5-1", False), ("claude-opus-5", True)]
)
async def test_models_that_always_think_take_no_forced_tool(ask, model, takes, choice):
    """They may be offered one."""
    tools = [{"name": "t", "input_schema": GOOD}]
    error = await ask.anthropic_error(model=model, tools=tools, tool_choice=choice)
    assert (error is None) is takes
    assert takes or error.message == 'tool_choice: type "tool" and "any" are not supported for this model.'
    assert await ask.anthropic_error(model=model, tools=tools, tool_choice={"type": "auto"}) is None


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
    assert message in (await ask.anthropic_error(**params)).message


async def test_the_beta_of_long_output_raises_the_limit(ask, anthropic):
    """Up to 300,000 tokens, in batches."""
    params = {"model": "claude-opus-5", "max_tokens": 300_000, "messages": [{"role": "user", "content": "x"}]}
    batch = await anthropic.beta.messages.batches.create(
        requests=[{"custom_id": "a", "params": params}], betas=["output-300k-2026-03-24"]
    )
    assert (await ask.anthropic_results(batch.id))["a"].type == "succeeded"
    assert "128000" in (await ask.anthropic_error(model="claude-opus-5", max_tokens=300_000)).message
