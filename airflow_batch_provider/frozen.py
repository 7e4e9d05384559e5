"""What the package's values are made of: frozen, and strict about their fields."""

from __future__ import annotations

from typing import Any, Self

import msgspec
from pydantic import BaseModel, ConfigDict
from pydantic_core import core_schema


class FrozenModel(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FrozenStruct(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen value that a million rows have one of: made, written and read many times quicker than a pydantic model.

    Fields of pydantic models may be of such a type. Fields that this version does not know are ignored.
    """

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    @classmethod
    def _of(cls, value: Any) -> Self:
        return value if isinstance(value, cls) else msgspec.convert(value, cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Return how pydantic reads and writes a field of this type."""
        shown = core_schema.plain_serializer_function_ser_schema(cls.as_json, return_schema=core_schema.dict_schema())
        return core_schema.no_info_plain_validator_function(cls._of, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """Return the JSON schema of a field of this type."""
        _, components = msgspec.json.schema_components([cls])
        schema: dict[str, Any] = components[cls.__name__]
        return schema
