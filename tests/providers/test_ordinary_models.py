"""Sixty ordinary models: what each provider is sent is what it takes (field reports 3).

The rules below are written from the documentation and from measured refusals, apart from the code that they check.
"""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import json
import pathlib
import re
import uuid
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import pytest
from pydantic import (
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    IPvAnyAddress,
    NonNegativeInt,
    PastDate,
    SecretStr,
    StringConstraints,
    conlist,
    create_model,
)
from typing_extensions import TypedDict

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    WORD = "word"
    NOTHING = None


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    city: str = "Berlin"
    zip: Annotated[str, StringConstraints(pattern=r"^\d{5}$")] | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Employee(BaseModel):
    name: str
    boss: Employee | None = None


class Point(NamedTuple):
    x: int
    y: int


class Movie(TypedDict, total=False):
    title: str
    year: int


FIELDS: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "optional": Optional[str],  # noqa: UP045 — as people write it
    "union of scalars": Union[int, str],  # noqa: UP007
    "union with null": int | str | None,
    "list": list[str],
    "nested list": list[list[int]],
    "set": set[str],
    "constrained list": conlist(int, min_length=1, max_length=5),
    "dict": dict[str, int],
    "dict of models": dict[str, Address],
    "any": Any,
    "tuple": tuple[int, str],
    "tuple of any length": tuple[int, ...],
    "literal": Literal["a", "b"],
    "literal of one": Literal["only"],
    "literal of ints": Literal[1, 2, 3],
    "literal of bools": Literal[True, False],
    "mixed literal": Literal[1, 2, "n/a"],
    "literal with null": Literal["a", None],  # noqa: PYI061 — as people write it
    "str enum": Mood,
    "int enum": Level,
    "mixed enum": Mixed,
    "list of enums": list[Mood],
    "model": Address,
    "optional model": Address | None,
    "list of models": list[Address],
    "described model": Annotated[Address, Field(description="of the firm")],
    "union of models": Cat | Dog,
    "discriminated union": Annotated[Cat | Dog, Field(discriminator="kind")],
    "recursive model": Tree,
    "recursive by optional": Employee,
    "named tuple": Point,
    "typed dict": Movie,
    "date": dt.date,
    "datetime": dt.datetime,
    "aware datetime": AwareDatetime,
    "past date": PastDate,
    "time": dt.time,
    "duration": dt.timedelta,
    "decimal": decimal.Decimal,
    "constrained decimal": Annotated[decimal.Decimal, Field(max_digits=8, decimal_places=2)],
    "uuid": uuid.UUID,
    "http url": HttpUrl,
    "any url": AnyUrl,
    "bytes": bytes,
    "base64": Base64Bytes,
    "ip": IPvAnyAddress,
    "ipv4": ipaddress.IPv4Address,
    "ipv6 network": ipaddress.IPv6Network,
    "path": pathlib.Path,
    "secret": SecretStr,
    "byte size": ByteSize,
    "pattern": Annotated[str, Field(pattern=r"^[A-Z]{3}$")],
    "lookahead": Annotated[str, Field(json_schema_extra={"pattern": r"^(?=.*\d)[a-z\d]+$"})],
    "lookbehind": Annotated[str, Field(json_schema_extra={"pattern": r"(?<!x)y"})],
    "bounded int": Annotated[int, Field(ge=0, lt=10, multiple_of=2)],
    "positive": NonNegativeInt,
    "bounded text": Annotated[str, Field(min_length=2, max_length=20)],
    "default": Annotated[int, Field(default=3)],
    "examples": Annotated[str, Field(examples=["x"], title="T", description="what it is")],
    "int64": Annotated[int, Field(json_schema_extra={"format": "int64"})],
    "raw type list": Annotated[str, Field(json_schema_extra={"type": ["string", "null"], "enum": ["a", "b", None]})],
}
MODELS = {name: create_model("Row", value=(annotation, ...)) for name, annotation in FIELDS.items()}
MODELS |= {
    "extra allowed": create_model("Row", __config__=ConfigDict(extra="allow"), a=(str, ...)),
    "extra forbidden": create_model("Row", __config__=ConfigDict(extra="forbid"), a=(str, ...)),
    "aliases": create_model("Row", a=(str, Field(alias="amount (EUR)"))),
    "a described tree": Tree,
    "twenty optional": create_model("Row", **{f"p{number}": (str, "") for number in range(20)}),
    "thirty optional": create_model("Row", **{f"p{number}": (str | None, None) for number in range(30)}),
}

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
def test_3_openai_takes_every_model(model, api):
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
def test_3_anthropic_takes_every_model(model):
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
def test_3_gemini_takes_every_model(model):
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
def test_3_what_is_not_enforced_is_not_forgotten(name):
    """A format or a pattern that strict mode does not know is told to the model, and no strictness is lost for it."""
    form = asked(OpenAICodec("chat"), MODELS[name])["response_format"]["json_schema"]
    assert form["strict"]
    value = form["schema"]["properties"]["value"]
    source = json.dumps(MODELS[name].model_json_schema()["properties"]["value"])
    for keyword in ("format", "pattern"):
        assert (f'"{keyword}"' in source) <= (
            f"{keyword}: " in json.dumps(value) or f'"{keyword}"' in json.dumps(value)
        )


def test_3_a_type_list_with_an_enum_is_split():
    """Each type gets its own values (litellm#37881)."""
    schema = asked(AnthropicCodec(), MODELS["raw type list"])["output_config"]["format"]["schema"]
    choices = schema["properties"]["value"]["anyOf"]
    assert choices == [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]


def test_3_values_of_several_types_get_their_types():
    """OpenAI refuses a node without one (llumiverse#131)."""
    schema = asked(OpenAICodec("chat"), MODELS["mixed literal"])["response_format"]["json_schema"]["schema"]
    choices = schema["properties"]["value"]["anyOf"]
    assert choices == [{"type": "integer", "enum": [1, 2]}, {"type": "string", "enum": ["n/a"]}]


@pytest.mark.parametrize(
    ("schema", "numbers"),
    [
        ({"properties": {"a": {"type": "string", "enum": [f"v{number}" for number in range(1200)]}}}, "1000.*1200"),
        ({"properties": {f"p{number}": {"type": "string"} for number in range(5001)}}, "5000.*5001"),
    ],
    ids=["enum", "properties"],
)
def test_3_a_schema_above_openais_limits_is_refused_with_both_numbers(schema, numbers):
    """Before anything is sent, with the remedy."""
    with pytest.raises(UsageError, match=numbers):
        OpenAICodec("chat").encode(
            BatchRequest(prompt="?"), Spec(model="m", output_schema={"type": "object", **schema})
        )


def test_3_a_schema_nested_too_deeply_is_refused():
    """OpenAI takes ten objects within each other."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(11):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(UsageError, match=r"10 .*11"):
        OpenAICodec("chat").encode(BatchRequest(prompt="?"), Spec(model="m", output_schema=schema))
