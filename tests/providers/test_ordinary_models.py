"""Sixty ordinary models: what each provider is sent is what it takes.

The rules below are written from the documentation and from measured refusals, apart from the code that they check.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ordinary_models import MODELS

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.output_types import OutputType, inner_schema
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec

FORMATS = {
    "openai": {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
    "anthropic": {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
    "google": {"date-time"},
}
GEMINI_TYPES = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"}


def nodes(node: Any):
    """Every schema node."""
    if not isinstance(node, dict):
        return
    yield node
    for name in ("properties", "$defs"):
        for inner in node.get(name, {}).values():
            yield from nodes(inner)
    for inner in (*node.get("anyOf", ()), node.get("items")):
        yield from nodes(inner)


def spec(model) -> Spec:
    return Spec(model="m", output_schema=model.model_json_schema())


def asked(codec, model) -> dict:
    return codec.encode(BatchRequest(prompt="?"), spec(model))


def check_node(node, provider) -> None:
    """What every provider wants of a node."""
    assert node.get("format") is None or node["format"] in FORMATS[provider]
    assert not re.search(r"\(\?<?[=!]", node.get("pattern", ""))
    assert not isinstance(node.get("type"), list)
    assert node.keys() & {"type", "anyOf", "$ref"}, node
    assert "$ref" not in node or len(node) == 1


everyone = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def test_there_are_more_than_sixty():
    """Else the corpus has shrunk."""
    assert len(MODELS) > 60


@everyone
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_takes_every_model(model, api):
    """In strict mode every node has one type and every object all its properties; else the schema is a hint."""
    body = asked(OpenAICodec(api), model)
    form = body["response_format"]["json_schema"] if api == "chat" else body["text"]["format"]
    if not form["strict"]:
        return
    for node in nodes(form["schema"]):
        check_node(node, "openai")
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])


@everyone
def test_anthropic_takes_every_model(model):
    """By its strict mode within its limits, by a forced tool, or by words."""
    body = asked(AnthropicCodec(), model)
    if "output_config" in body:
        found = list(nodes(body["output_config"]["format"]["schema"]))
        for node in found:
            check_node(node, "anthropic")
        assert sum(len(node["properties"]) - len(node["required"]) for node in found if "properties" in node) <= 24
        assert sum("anyOf" in node for node in found) <= 16
    elif "tools" in body:
        (tool,) = body["tools"]
        assert tool["input_schema"]["type"] == "object"
    else:
        assert "JSON schema" in json.dumps(body["system"])


@everyone
def test_gemini_takes_every_model(model):
    """In its own words, or told."""
    body = asked(GoogleCodec(), model)
    schema = body["generationConfig"].get("responseSchema")
    if schema is None:
        assert "JSON schema" in json.dumps(body["systemInstruction"])
        return
    for node in nodes(schema):
        assert node.get("format") is None or node["format"] in FORMATS["google"]
        assert not re.search(r"\(\?<?[=!]", node.get("pattern", ""))
        assert node.get("type", "STRING") in GEMINI_TYPES
        assert not node.keys() & {"$ref", "$defs", "const", "additionalProperties", "oneOf", "allOf", "default"}
        assert all(isinstance(value, str) and value for value in node.get("enum", ()))


@pytest.mark.parametrize(
    "name", ["http url", "decimal", "bytes", "lookahead", "int64", "raw type list", "mixed literal"]
)
def test_what_is_not_enforced_is_not_forgotten(name):
    """A format or a pattern that strict mode does not know is told to the model, and no strictness is lost for it."""
    form = asked(OpenAICodec("chat"), MODELS[name])["response_format"]["json_schema"]
    assert form["strict"]
    value = form["schema"]["properties"]["value"]
    source = json.dumps(MODELS[name].model_json_schema()["properties"]["value"])
    for keyword in ("format", "pattern"):
        assert (f'"{keyword}"' in source) <= (
            f"{keyword}: " in json.dumps(value) or f'"{keyword}"' in json.dumps(value)
        )


def test_a_type_list_with_an_enum_is_split():
    """Each type gets its own values (litellm#37881)."""
    schema = asked(AnthropicCodec(), MODELS["raw type list"])["output_config"]["format"]["schema"]
    choices = schema["properties"]["value"]["anyOf"]
    assert choices == [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]


def test_values_of_several_types_get_their_types():
    """OpenAI refuses a node without one (llumiverse#131)."""
    schema = asked(OpenAICodec("chat"), MODELS["mixed literal"])["response_format"]["json_schema"]["schema"]
    choices = schema["properties"]["value"]["anyOf"]
    assert choices == [{"type": "integer", "enum": [1, 2]}, {"type": "string", "enum": ["n/a"]}]


@pytest.mark.parametrize(
    ("schema", "numbers"),
    [
        ({"properties": {"a": {"type": "string", "enum": [f"v{number}" for number in range(1200)]}}}, "1000.*1200"),
        ({"properties": {f"p{number}": {"type": "string"} for number in range(5001)}}, "5000.*5001"),
        (
            {"properties": {"a": {"type": "string", "enum": [f"{number:04}" + "v" * 60 for number in range(251)]}}},
            "15000.*16064",
        ),
        ({"properties": {f"{number:04}" + "p" * 120: {"type": "string"} for number in range(1000)}}, "120000.*124000"),
    ],
    ids=["enum", "properties", "characters of an enum", "characters of names"],
)
def test_a_schema_above_openais_limits_is_refused_with_both_numbers(schema, numbers):
    """Before anything is sent, with the remedy."""
    with pytest.raises(UsageError, match=numbers):
        OpenAICodec("chat").encode(
            BatchRequest(prompt="?"), Spec(model="m", output_schema={"type": "object", **schema})
        )


@pytest.mark.parametrize("lists", [True, False])
def test_a_schema_nested_too_deeply_is_refused(lists):
    """OpenAI takes ten objects or lists within each other below the top."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(11):
        schema = {"type": "array", "items": schema} if lists else {"type": "object", "properties": {"a": schema}}
    schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(UsageError, match=r"10 .*11"):
        OpenAICodec("chat").encode(BatchRequest(prompt="?"), Spec(model="m", output_schema=schema))


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_reads_an_object_at_the_top_outside_strict_mode_too(api):
    """A recursive dictionary has a reference there, as pydantic writes it (opencodex#75)."""
    tree = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "integer"}]},
            }
        },
    }
    body = OpenAICodec(api).encode(BatchRequest(prompt="?"), Spec(model="m", output_schema=tree))
    form = body["response_format"]["json_schema"] if api == "chat" else body["text"]["format"]

    assert form["strict"] is False
    assert form["schema"] == {**tree["$defs"]["Tree"], "$defs": tree["$defs"]}


@pytest.mark.parametrize(
    "codec", [OpenAICodec("chat"), AnthropicCodec(), GoogleCodec()], ids=["openai", "anthropic", "google"]
)
@pytest.mark.parametrize(
    "given",
    [
        {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "string"}], "$defs": {"A": {"type": "object", "properties": {}}}},
        {"oneOf": [{"$ref": "#/definitions/A"}], "definitions": {"A": {"type": "object", "properties": {}}}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": ["object", "null"], "properties": {"a": {"type": "string"}}},
        {"enum": ["yes", "no"]},
        {"const": 1},
    ],
    ids=["anyOf", "oneOf", "array", "type list", "enum", "const"],
)
def test_a_schema_that_is_not_an_object_at_the_top_is_asked_for_within_one(codec, given):
    """No provider takes another (huly-mcp#66); a type is wrapped alike, and landing unwraps the answer."""
    schema = OutputType.of(given).schema

    codec.encode(BatchRequest(prompt="?", output_type=given), Spec(model="m"))
    assert (schema["type"], schema["required"]) == ("object", ["value"])
    assert OutputType.of(schema).schema == schema
    assert inner_schema(schema) == given


@pytest.mark.parametrize("given", [{}, {"title": "T"}, {"properties": {"a": {"type": "string"}}}])
def test_a_schema_that_does_not_say_what_it_is_is_refused(given):
    """With the fact and the remedy, before anything is sent."""
    with pytest.raises(UsageError, match=r"its top is an object, and this one has type=None\. Wrap it"):
        OpenAICodec("chat").encode(BatchRequest(prompt="?"), Spec(model="m", output_schema=OutputType.of(given).schema))
