"""Schemas in the providers' strict dialects."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.anthropic.codec import DIALECT as ANTHROPIC
from airflow_batch_provider.providers.openai.codec import DIALECT as OPENAI
from airflow_batch_provider.providers.schema import strict


class Place(BaseModel):
    city: str = Field(min_length=2)
    zip: str | None = None


class Report(BaseModel):
    kind: Literal["a", "b"]
    places: list[Place]
    home: Place = Field(description="where it began")
    score: int = Field(default=3, ge=0, le=9)


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


def objects(node: Any) -> list[dict]:
    """All nodes of a schema that describe objects."""
    if isinstance(node, list):
        return [found for item in node for found in objects(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for value in node.values() for found in objects(value)]


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=lambda dialect: dialect.provider)
def test_every_object_is_closed(dialect):
    """Strict modes refuse objects that may have other fields."""
    closed = objects(strict(Report.model_json_schema(), dialect))
    assert len(closed) >= 3
    assert all(node["additionalProperties"] is False for node in closed)


def test_openai_wants_every_property_and_anthropic_those_of_the_model():
    """A default is the reader's, not the model's, so it is dropped."""
    schema = Report.model_json_schema()
    assert strict(schema, OPENAI)["required"] == ["kind", "places", "home", "score"]
    assert strict(schema, ANTHROPIC)["required"] == ["kind", "places", "home"]
    assert "default" not in str(strict(schema, OPENAI))


def test_a_constraint_is_kept_or_told():
    """What strict mode cannot enforce, the model can read."""
    schema = Report.model_json_schema()
    assert strict(schema, OPENAI)["properties"]["score"] == {"type": "integer", "minimum": 0, "maximum": 9}
    told = {"type": "integer", "description": "(maximum: 9, minimum: 0)"}
    assert strict(schema, ANTHROPIC)["properties"]["score"] == told


def test_a_reference_has_no_neighbours():
    """A description beside it goes into a copy of what it leads to."""
    home = strict(Report.model_json_schema(), OPENAI)["properties"]["home"]
    assert home["description"] == "where it began"
    assert "$ref" not in home
    assert home["properties"].keys() == {"city", "zip"}


def test_recursion_is_for_those_who_take_it():
    """OpenAI does, Anthropic does not."""
    assert strict(Tree.model_json_schema(), OPENAI)["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert strict(Tree.model_json_schema(), ANTHROPIC) is None


def test_two_types_are_a_choice():
    """`type: [string, null]` as other tools write it."""
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"], "description": "d"}}}
    expected = {"description": "d", "anyOf": [{"type": "string"}, {"type": "null"}]}
    assert strict(schema, OPENAI)["properties"]["a"] == expected


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object"},
        {"type": "array"},
        {},
        True,
        {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}},
        {"not": {"type": "string"}},
        {"allOf": [{"type": "string"}, {"type": "string"}]},
    ],
    ids=str,
)
def test_what_strict_mode_has_no_words_for_is_left_to_the_landing(inner):
    """None, rather than a schema that means something else."""
    assert strict({"type": "object", "properties": {"a": inner}}, OPENAI) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "string"},
        {"anyOf": [{"type": "object", "properties": {}}]},
        {"$ref": "#/$defs/Gone"},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/schema"}}},
    ],
    ids=str,
)
def test_a_schema_that_no_provider_takes_is_refused(schema):
    """Before anything is paid, with the remedy."""
    with pytest.raises(UsageError):
        strict(schema, OPENAI)


def test_the_schema_of_the_user_is_not_changed():
    """It is used again to check the answers."""
    schema = Report.model_json_schema()
    strict(schema, OPENAI)
    assert schema == Report.model_json_schema()
