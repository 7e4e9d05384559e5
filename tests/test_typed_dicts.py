"""A TypedDict is an answer's type whichever module it is from, on every Python."""

from __future__ import annotations

import sys
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Optional, Required, TypeVar, Union

import pytest
import typing_extensions
from pydantic import BaseModel, Field, TypeAdapter, with_config

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.typed_dicts import readable

V = TypeVar("V")


class Place(typing.TypedDict):
    """Where it is."""

    town: str


class Trip(typing.TypedDict, total=False):
    title: Required[str]
    stops: list[Place]
    note: Annotated[NotRequired[str], Field(description="for us")]


class Journey(Trip):
    kind: Literal["work", "fun"]
    begin: Place | None
    parts: dict[str, Journey]


class Strict(typing.TypedDict):
    n: int


class Box(typing.TypedDict, typing.Generic[V]):
    value: V


class Lost(typing.TypedDict):
    of: Nowhere  # noqa: F821 — no such name, as where it is imported for type checkers only


class LostModel(BaseModel):
    of: Nowhere  # noqa: F821


@dataclass
class LostRow:
    of: Nowhere  # noqa: F821


with_config({"extra": "forbid"})(Strict)


def schema_of(given):
    return OutputType.of(given).schema


def test_a_typed_dict_of_typing_says_what_is_required_and_what_it_holds():
    """By `total`, `Required`, `NotRequired`, bases, and text annotations; as that of `typing_extensions` does."""
    place = {
        "title": "Place",
        "description": "Where it is.",
        "type": "object",
        "properties": {"town": {"title": "Town", "type": "string"}},
        "required": ["town"],
    }
    assert schema_of(Place) == place
    trip = schema_of(Trip)
    assert (trip["title"], trip["required"], trip["$defs"]) == ("Trip", ["title"], {"Place": place})
    assert trip["properties"]["note"] == {"title": "Note", "description": "for us", "type": "string"}
    journey = schema_of(Journey)["$defs"]["Journey"]
    assert journey["required"] == ["title", "kind", "begin", "parts"]
    assert journey["properties"]["parts"]["additionalProperties"] == {"$ref": "#/$defs/Journey"}


def test_its_configuration_is_kept():
    """`with_config` of pydantic."""
    assert schema_of(Strict)["additionalProperties"] is False


@pytest.mark.parametrize(
    "given",
    [
        list[Place],
        tuple[Place, ...],
        dict[str, list[Place]],
        Union[Place, None],  # noqa: UP007 — as older code writes it
        Optional[Place],  # noqa: UP045 — the same
        Place | None,
        Annotated[Place, Field(description="x")],
        typing.List[Place],  # noqa: UP006 — the same
    ],
)
def test_it_may_stand_in_any_other_type(given):
    """Wherever pydantic takes a type."""
    assert "town" in str(schema_of(given))


def test_an_answer_is_read_as_it():
    """A missing key that is required makes the row invalid; an optional one may be missing."""
    adapter = OutputType.of(Trip).adapter
    assert adapter.validate_json('{"title": "x", "stops": [{"town": "y"}]}') == {"title": "x", "stops": [{"town": "y"}]}
    with pytest.raises(ValueError, match="title"):
        adapter.validate_json('{"stops": []}')


@pytest.mark.parametrize(
    "given", [int, list[int], Literal["a", "b"], dict[str, Any], None, typing_extensions.TypedDict]
)
def test_other_types_stay_as_they_are(given):
    """Nothing of theirs is made again."""
    assert readable(given) is given


@pytest.mark.parametrize("given", [Lost, LostModel, LostRow, list[Lost], dict[str, LostModel], TypeAdapter(LostRow)])
def test_a_field_of_an_unknown_type_is_refused_while_the_dag_is_parsed(given):
    """With the name that is not known, whatever kind of type has the field."""
    with pytest.raises(UsageError, match=r"name 'Nowhere' is not defined.*Give a model class"):
        BatchGenerateOperator(task_id="t", conn_id="c", model="gpt-5-mini", requests=["a"], output_type=given)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads it there")
def test_a_generic_one_is_refused_with_the_remedy_while_the_dag_is_parsed():
    """Its parameters are not to be had from the class."""
    with pytest.raises(UsageError, match=r"use `typing_extensions\.TypedDict`"):
        BatchGenerateOperator(task_id="t", conn_id="c", model="gpt-5-mini", requests=["a"], output_type=Box[int])
