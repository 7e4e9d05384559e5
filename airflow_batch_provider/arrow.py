"""JSON schemas as Arrow types, and which answers such a column gives back exactly as they were."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # noqa: TID253 — an extra; only writers and readers of Parquet import this module

from airflow_batch_provider.output_types import resolved

# A schema that nests deeper has no column, which also ends recursive ones.
_MOST_LEVELS = 16
# The largest whole number up to which every one is a float64 of its own.
_EXACT = 2**53


class Column(ABC):
    """The column of one place in a schema.

    Attributes:
        arrow: its type.
        is_nullable: True when the schema allows null there.
    """

    arrow: pa.DataType
    is_nullable: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether the column gives this value back as it is; `restored` reads it."""
        return self.is_nullable if value is None else self._holds(value)

    @abstractmethod
    def _holds(self, value: Any) -> bool:
        """Tell the same of a value that is not null."""

    def restored(self, value: Any) -> Any:
        """Return a value of the column as JSON has it."""
        return value


@dataclass
class _Scalar(Column):
    arrow: pa.DataType
    kind: type

    def _holds(self, value: Any) -> bool:
        if self.kind is int:
            return type(value) is int and -(2**63) <= value < 2**63
        if self.kind is float:
            return math.isfinite(value) if type(value) is float else type(value) is int and -_EXACT <= value <= _EXACT
        return type(value) is self.kind


@dataclass
class _List(Column):
    arrow: pa.DataType
    item: Column

    def _holds(self, value: Any) -> bool:
        return isinstance(value, list) and all(map(self.item.holds, value))

    def restored(self, value: Any) -> Any:
        return value if value is None else [self.item.restored(one) for one in value]


@dataclass
class _Struct(Column):
    """Arrow gives every field of a struct a value, so a null stands for a field that is absent where null is not allowed."""

    arrow: pa.DataType
    fields: dict[str, Column]
    required: frozenset[str]

    def _holds(self, value: Any) -> bool:
        if not isinstance(value, dict) or not value.keys() <= self.fields.keys():
            return False
        for name, column in self.fields.items():
            held = column.holds(value[name]) if name in value else not self._is_told(name, column)
            if not held:
                return False
        return True

    def restored(self, value: Any) -> Any:
        if value is None:
            return None
        return {
            name: column.restored(value[name])
            for name, column in self.fields.items()
            if value[name] is not None or self._is_told(name, column)
        }

    def _is_told(self, name: str, column: Column) -> bool:
        return column.is_nullable or name in self.required


def column_of(schema: dict[str, Any]) -> Column | None:
    """Return the column for answers of a JSON schema; None where there is none (open dictionaries, unions, anything)."""
    return _column(schema, schema.get("$defs", {}), 0)


def field_columns(schema: dict[str, Any]) -> tuple[dict[str, Column | None], frozenset[str]]:
    """Return the column of each property of an object, None where its schema maps to none, and the required properties."""
    defs, node = schema.get("$defs", {}), resolved(schema)
    columns = {name: _column(inner, defs, 1) for name, inner in node.get("properties", {}).items()}
    return columns, frozenset(node.get("required", ()))


def _column(schema: Any, defs: dict[str, Any], level: int) -> Column | None:
    if level > _MOST_LEVELS or not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        return _column(defs.get(str(schema["$ref"]).removeprefix("#/$defs/")), defs, level + 1)
    if "anyOf" in schema:
        return _choice(schema["anyOf"], defs, level)
    if "enum" in schema or "const" in schema:
        values = [value for value in schema.get("enum", [schema.get("const")]) if value is not None]
        made = _Scalar(pa.string(), str) if values and all(isinstance(value, str) for value in values) else None
        return _nullable(made) if None in schema.get("enum", []) else made
    kind = schema.get("type")
    if isinstance(kind, list):
        return _choice([{**schema, "type": word} for word in kind], defs, level)
    if kind == "array":
        item = _column(schema.get("items"), defs, level + 1)
        return _List(pa.list_(item.arrow), item) if item else None
    if kind == "object":
        return _struct(schema, defs, level)
    return _SCALARS[kind]() if kind in _SCALARS else None


_SCALARS = {
    "string": lambda: _Scalar(pa.string(), str),
    "integer": lambda: _Scalar(pa.int64(), int),
    "number": lambda: _Scalar(pa.float64(), float),
    "boolean": lambda: _Scalar(pa.bool_(), bool),
}


def _choice(options: list[Any], defs: dict[str, Any], level: int) -> Column | None:
    """Return the column of the one option besides null."""
    kinds = [option for option in options if not (isinstance(option, dict) and option.get("type") == "null")]
    made = _column(kinds[0], defs, level + 1) if len(kinds) == 1 else None
    return _nullable(made) if len(kinds) < len(options) else made


def _nullable(column: Column | None) -> Column | None:
    if column is not None:
        column.is_nullable = True
    return column


def _struct(schema: dict[str, Any], defs: dict[str, Any], level: int) -> Column | None:
    fields: dict[str, Column] = {}
    for name, inner in schema.get("properties", {}).items():
        column = _column(inner, defs, level + 1)
        if column is None:
            return None
        fields[name] = column
    if not fields:
        return None
    arrow = pa.struct([pa.field(name, column.arrow) for name, column in fields.items()])
    return _Struct(arrow, fields, frozenset(schema.get("required", ())))
