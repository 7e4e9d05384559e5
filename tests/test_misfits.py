"""What is told of an answer that does not fit: where and why, and no word of it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, field_validator, model_validator

from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.schemas import AnswerSchema


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Visit(BaseModel, extra="forbid"):
    """Any way in which pydantic can refuse."""

    animal: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    either: Cat | Dog | None = None
    counts: dict[str, int] = {}
    steps: list[int] = []
    label: str = ""
    parts: dict[str, Any] = {}

    @field_validator("label")
    @classmethod
    def known(cls, label: str) -> str:
        """As people write it: the message repeats the value, quoted and bare."""
        if label:
            raise ValueError(f"{label!r} is unknown, and {label} was never seen")
        return label

    @model_validator(mode="after")
    def whole(self) -> Visit:
        """With all that the model holds."""
        if self.parts:
            raise AssertionError(f"these are odd: {self.parts}")
        return self


SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "word": {"enum": ["a", "b"]},
        "short": {"type": "string", "maxLength": 3, "pattern": "^a", "format": "date"},
        "inner": {"properties": {"x": {"const": 1}}, "unevaluatedProperties": False},
        "names": {"propertyNames": {"maxLength": 2}},
        "map": {"additionalProperties": {"type": "integer"}},
        "list": {"items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "uniqueItems": True},
        "no": {"not": {"type": "string"}},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"n": "SECRET"}, 'at n: the value is not of type "integer"'),
        ({"n": {"a": "SECRET"}}, 'at n: the value is not of type "integer"'),
        ({"word": "SECRET"}, 'at word: the value is not one of "a" or "b"'),
        ({"SECRET": 1}, "at the top: it has a property that the schema does not allow"),
        ({"inner": {"SECRET": 1}}, "at inner: it has a property that the schema does not allow"),
        ({"names": {"SECRET": 1}}, "at names: it has a property that the schema does not allow"),
        ({"map": {"SECRET": "x"}}, 'at map/…: the value is not of type "integer"'),
        ({"list": [1, "SECRET"]}, "at list/1: the value is not valid under any of the schemas listed"),
    ],
)
def test_a_schema_tells_the_place_and_the_rule(answer, told):
    """By the names of its own properties."""
    found = AnswerSchema(SCHEMA).read(json.dumps(answer))

    assert isinstance(found, Misfit)
    assert told in found.problem


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"steps": [1, "SECRET"]}, "at steps/1: Input should be a valid integer, unable to parse string"),
        ({"counts": {"SECRET": "x"}}, "at counts/…: Input should be a valid integer"),
        ({"SECRET": 1}, "at …: Extra inputs are not permitted (extra_forbidden)"),
        ({"animal": {"kind": "SECRET"}}, "at animal: Input tag '…' found using 'kind' does not match"),
        ({"either": {"kind": "SECRET"}}, "at either/Cat/kind: Input should be 'cat' (literal_error)"),
        ({"label": "SECRET"}, "at label: Value error, '…' is unknown, and … was never seen (value_error)"),
        ({"parts": {"SECRET": ["SECRET", 4711]}}, "at the top: Assertion failed, these are odd: {'…': ['…', …]}"),
    ],
)
def test_a_type_tells_the_place_and_the_rule(answer, told):
    """A validator's author keeps the words that are the author's."""
    found = AnswerSchema(Visit.model_json_schema(), TypeAdapter(Visit)).read(json.dumps(answer))

    assert isinstance(found, Misfit)
    assert told in found.problem


LEAVES = st.sampled_from(["SECRET", "a SECRET b", "SECRET\n'\"", "SECRET.*"]) | st.none() | st.integers(0, 9)
NAMES = st.sampled_from(["SECRET", *SCHEMA["properties"], "x", *Visit.model_fields, "kind"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_no_word_of_any_answer_is_told(answer):
    """Neither of its values nor of the names that it made up."""
    text = json.dumps(answer)
    schema, visit = AnswerSchema(SCHEMA), AnswerSchema(Visit.model_json_schema(), TypeAdapter(Visit))

    for found in (schema.read(text), visit.read(text)):
        assert not isinstance(found, Misfit) or "SECRET" not in found.problem
