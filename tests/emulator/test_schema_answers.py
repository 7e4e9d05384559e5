"""Whatever schema is demanded, the emulated answer fits it."""

from __future__ import annotations

import json

import jsonschema
import pytest

from airflow_batch_provider.emulator.answers import Ask, answer
from airflow_batch_provider.emulator.outcomes import Outcome
from airflow_batch_provider.emulator.schemas import instance

NODE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            },
            "required": ["name", "children", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/Node",
}
SCHEMAS = {
    "string": {"type": "string"},
    "short string": {"type": "string", "maxLength": 5},
    "long string": {"type": "string", "minLength": 80},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "decimal pattern": {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
    "lookahead pattern": {"type": "string", "pattern": r"^(?=.*[0-9])[a-z0-9]{6,8}$"},
    "class pattern": {"type": "string", "pattern": r"^[^a-z\s](foo|bar)+\.\w{2,}(?:-x)?$", "maxLength": 30},
    "long pattern": {"type": "string", "pattern": "^[a-z]+$", "minLength": 12},
    "enum": {"enum": ["a", "b", 3, None]},
    "const": {"const": {"a": 1}},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "integer": {"type": "integer"},
    "bounded integer": {"type": "integer", "minimum": 3, "maximum": 4},
    "exclusive integer": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    "negative integer": {"type": "integer", "maximum": -7},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 20},
    "number": {"type": "number", "minimum": 0, "maximum": 1},
    "exclusive number": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    "fractional bound integer": {"type": "integer", "minimum": 0.5, "maximum": 1.5},
    "nullable": {"type": ["string", "null"]},
    "anyOf": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "allOf": {
        "allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"]}]
    },
    "array": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 4, "uniqueItems": True},
    "no items": {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    "tuple": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
    "unique enum": {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
    "free object": {"type": "object"},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "least": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
    "undeclared": {"type": "object", "properties": {}, "required": ["a"]},
    "nested": {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"b": {"type": "array", "items": {"type": "number"}}},
                "required": ["b"],
            }
        },
        "required": ["a"],
        "additionalProperties": False,
    },
    "recursive": NODE,
    "escaped reference": {
        "$defs": {"a/b": {"type": "integer"}},
        "properties": {"x": {"$ref": "#/$defs/a~1b"}},
        "required": ["x"],
    },
    "true": {"type": "object", "properties": {"a": True}, "required": ["a"]},
    **{
        form: {"type": "string", "format": form}
        for form in ("date-time", "date", "time", "duration", "email", "uri", "uuid", "ipv4", "ipv6", "hostname")
    },
}


@pytest.mark.parametrize("prompt", ["cat", "", 'a "quoted"\n\u2028 prompt ' * 40])
@pytest.mark.parametrize("name", SCHEMAS)
def test_an_answer_fits_its_schema(name, prompt):
    """Validated by another's validator, formats included."""
    schema = SCHEMAS[name]
    made = answer(Ask(model="m", prompt=prompt, schema=schema), Outcome())
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    checker.validate(json.loads(made.text))
    assert made == answer(Ask(model="m", prompt=prompt, schema=schema), Outcome())


def test_strings_prove_their_prompt():
    """A string field carries the prompt, or its digest where it is too short."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "maxLength": 8}}}
    one, two = (instance(schema, text) for text in ("prompt one", "prompt two"))
    assert (one["a"], two["a"]) == ("prompt one", "prompt two")
    assert one["b"] != two["b"]


@pytest.mark.parametrize(
    "name", ["string", "integer", "nested", "recursive", "array", "enum", "boolean", "map", "undeclared"]
)
def test_a_misfit_does_not_fit(name):
    """`bad_schema` answers in JSON that the schema forbids."""
    made = answer(Ask(model="m", prompt="cat", schema=SCHEMAS[name]), Outcome(kind="bad_schema"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(made.text), SCHEMAS[name])


def test_broken_json_is_broken():
    """`bad_json` answers what no parser takes."""
    made = answer(Ask(model="m", prompt='a "cat"', schema=SCHEMAS["nested"]), Outcome(kind="bad_json"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(made.text)


def test_googles_own_kind_of_schema():
    """Types in capitals, bounds as strings, nullable: as `responseSchema` has them."""
    schema = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "2"},
            "b": {"type": "STRING", "nullable": True},
        },
        "required": ["a", "b"],
        "propertyOrdering": ["a", "b"],
    }
    made = instance(schema, "cat")
    assert [type(item) for item in made["a"]] == [int, int]
    assert made["b"] == "cat"


def test_a_schema_that_cannot_be_met_says_so():
    """An endless reference and an unknown type are errors, not hangs."""
    with pytest.raises(ValueError, match="back to itself"):
        instance({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "x")
    with pytest.raises(ValueError, match="No JSON schema type"):
        instance({"type": "colour"}, "x")
    with pytest.raises(ValueError, match="no text for the pattern"):
        instance({"type": "string", "pattern": "^a$", "minLength": 5}, "x")


@pytest.mark.parametrize("schema", [{"type": "colour"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}])
async def test_a_row_with_an_impossible_schema_is_refused(ask, schema):
    """Its own row fails as an invalid request; the batch and its other rows do not."""
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    bodies = {"bad": ask.chat("x", response_format=form), "good": ask.chat("y")}
    ended = await ask.openai_end((await ask.openai_batch(bodies)).id)
    assert (ended.request_counts.completed, ended.request_counts.failed) == (1, 1)
    assert (await ask.openai_lines(ended.error_file_id))["bad"]["response"]["status_code"] == 400
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    results = await ask.anthropic_results((await ask.anthropic_batch({"bad": "x"}, output_config=wanted)).id)
    assert "schema" in results["bad"].error.error.message
