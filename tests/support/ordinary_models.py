"""More than sixty ordinary pydantic models, as people hand them to `output_type`."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import pathlib
import uuid
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

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
