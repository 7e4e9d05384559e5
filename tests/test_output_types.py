"""`output_type` is any type that pydantic knows; that type decides what a good answer is, wherever it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    RootModel,
    TypeAdapter,
    computed_field,
)
from pydantic import field_validator as validator
from typing_extensions import TypedDict

from airflow_batch_provider.models import BatchRequest, Reply
from airflow_batch_provider.output_types import OutputType, inner_schema
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.config import BatchConfig


class Model(BaseModel):
    n: int
    note: str | None = "none"


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total: int = Field(alias="theTotal")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    n: int

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.n


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date
    n: int


class Formats(BaseModel):
    url: HttpUrl
    at: time


class Node(BaseModel):
    n: int
    next: Node | None = None


class Trimmed(BaseModel):
    name: str

    @validator("name")
    @classmethod
    def _trim(cls, value):
        return value.strip()


@dataclass
class Point:
    x: float
    y: float


class Pair(TypedDict):
    a: int
    b: str


class Colour(Enum):
    RED = "red"
    ONE = 1


GOOD = {
    "model": (Model, '{"n": 1}'),
    "null for a default": (Model, '{"n": 1, "note": null}'),
    "alias": (Aliased, '{"theTotal": 3}'),
    "forbids, frozen, computed": (Closed, '{"n": 2}'),
    "extra": (Open, '{"n": 2, "more": [1, "x"]}'),
    "strict, from JSON": (Strict, '{"day": "2026-02-28", "n": 1}'),
    "lax number": (Model, '{"n": "12"}'),
    "formats of pydantic": (Formats, '{"url": "https://example.org", "at": "10:00:00"}'),
    "recursion": (Node, '{"n": 1, "next": {"n": 2, "next": null}}'),
    "validator that changes": (Trimmed, '{"name": " x "}'),
    "dataclass": (Point, '{"x": 1, "y": 2.5}'),
    "TypedDict": (Pair, '{"a": 1, "b": "x"}'),
    "list of models": (list[Model], '{"value": [{"n": 1}, {"n": 2}]}'),
    "list, unwrapped by the model": (list[int], "[1, 2]"),
    "literal": (Literal["yes", "no"], '{"value": "yes"}'),
    "enum": (Colour, '{"value": 1}'),
    "union": (Model | Point, '{"value": {"x": 1, "y": 2}}'),
    "optional": (Model | None, '{"value": null}'),
    "root model": (RootModel[list[str]], '{"value": ["a"]}'),
    "scalar": (Annotated[int, Field(gt=2)], '{"value": 3}'),
    "adapter": (TypeAdapter(dict[str, int]), '{"a": 1}'),
    "a large number": (Model, '{"n": 123456789012345678901234567890}'),
}
BAD = {
    "extra field": (Closed, '{"n": 2, "x": 1}'),
    "computed field is not input": (Closed, '{"n": 2, "twice": 4}'),
    "name instead of alias": (Strict, '{"day": "2026-02-28", "n": "1"}'),
    "date in words": (Strict, '{"day": "3 March 2024", "n": 1}'),
    "no URL": (Formats, '{"url": "N/A", "at": "10:00:00"}'),
    "outside": (Literal["yes", "no"], '{"value": "perhaps"}'),
    "too small": (Annotated[int, Field(gt=2)], '{"value": 1}'),
    "no list": (list[Model], '{"n": 1}'),
}


async def read(job, provider, given, answer, format_, typed):
    """The one row of a task that asked for such answers, as it is read back."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output=answer)
    task = job(["a"], output_type=given, result_format=format_, on_partial="succeed")
    try:
        await task.run()
    except Exception:  # noqa: BLE001 — the only row is bad, which the manifest tells
        manifest = task.stage_run().files.directory.read("manifest.unmet.json")
        return next(iter(BatchResults(json.loads(manifest), typed)))
    manifest = task.stage_run().files.directory.read("manifest.json")
    return next(iter(BatchResults(json.loads(manifest), typed)))


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize(("given", "answer"), GOOD.values(), ids=list(GOOD))
async def test_a_good_answer_is_read_as_its_type_from_both_formats(job, provider, given, answer, format_):
    """As pydantic itself reads the answer; without the type it is the answer as it was."""
    value = json.loads(answer)
    plain = value["value"] if isinstance(value, dict) and value.keys() == {"value"} else value
    adapter = given if isinstance(given, TypeAdapter) else TypeAdapter(given)

    row = await read(job, provider, given, answer, format_, given)
    untyped = await read(job, provider, given, answer, format_, None)

    assert (row.status, untyped.status) == ("succeeded", "succeeded")
    assert row.output == adapter.validate_json(json.dumps(plain))
    assert untyped.output == plain


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize(("given", "answer"), BAD.values(), ids=list(BAD))
async def test_an_answer_that_its_type_refuses_is_invalid_when_it_lands(job, provider, given, answer, format_):
    """So it is told, counted and asked again; the row keeps the text."""
    row = await read(job, provider, given, answer, format_, given)

    assert (row.status, row.output, row.error.code) == ("invalid", answer, "invalid_output")


def test_what_is_not_an_object_is_asked_for_within_one():
    """Providers take no other schema at the top; definitions stay where references find them."""
    asked = OutputType.of(list[Node])

    assert asked.schema["type"] == "object"
    assert "#/$defs/Node" in json.dumps(asked.schema["properties"])
    assert asked.schema["$defs"].keys() == inner_schema(asked.schema)["$defs"].keys() == {"Node"}
    assert inner_schema(asked.schema)["type"] == "array"
    assert OutputType.of(Node).schema == Node.model_json_schema()


@pytest.mark.parametrize("given", ["Model", 3, [Model], object()])
def test_what_is_not_a_type_is_refused_in_words(given):
    """While the DAG is parsed."""
    with pytest.raises(ValueError, match="has no JSON schema"):
        OutputType.of(given)
    with pytest.raises(ValueError, match="output_type"):
        BatchRequest(prompt="x", output_type=given)


class Within(BaseModel):
    n: int = Field(validation_alias=AliasPath("a", "n"))


class First(BaseModel):
    n: int = Field(validation_alias=AliasChoices(AliasPath("a", 0), "n"))


class Second(BaseModel):
    n: int = Field(validation_alias=AliasChoices("n", AliasPath("a", "n")))


@pytest.mark.parametrize("given", [Within, list[Within], First, dict[str, First]])
def test_a_field_that_the_schema_puts_elsewhere_is_refused(given):
    """Each answer would be bought, fit the schema, and be `invalid`."""
    with pytest.raises(ValueError, match=r"output_type=.* has no JSON schema: a field is read by AliasPath\('a', "):
        OutputType.of(given)


def test_a_field_with_a_name_of_its_own_beside_a_path_is_asked_for_under_it():
    """The schema tells the first of several."""
    assert OutputType.of(Second).schema["properties"].keys() == {"n"}


def test_a_configuration_is_saved_with_the_schema_and_equals_itself_when_it_is_read():
    """A type cannot be saved; the operator gives it again."""
    settings = {"model": "openai:m", "connection": {"conn_id": "c"}, "output_type": list[Model]}
    config = BatchConfig.model_validate(settings)
    again = BatchConfig.model_validate_json(config.model_dump_json())

    assert again == config
    assert (again.output_type.adapter, config.output_type.adapter is None) == (None, False)


class Hostile(BaseModel):
    n: int

    @validator("n")
    @classmethod
    def _raises(cls, value):
        raise KeyError(value)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_a_schema_of_a_choice_is_answered_within_an_object_and_read_without_it(job, provider, format_):
    """A JSON schema is treated as the type that it is of."""
    schema = {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"a": {"type": "integer"}}}]}

    row = await read(job, provider, schema, '{"value": {"a": 1}}', format_, None)
    bad = await read(job, provider, schema | {"title": "T"}, '{"value": "x"}', format_, None)

    assert (row.status, row.output) == ("succeeded", {"a": 1})
    assert bad.status == "invalid"


async def test_a_validator_that_raises_anything_ends_only_its_row(job, provider):
    """Not the rows beside it, which are paid as well."""
    row = await read(job, provider, Hostile, '{"n": 1}', "jsonl", None)

    assert (row.status, row.error.message) == ("invalid", "KeyError: the type of the answer cannot read it")
