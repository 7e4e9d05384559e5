"""JSON schemas as the providers' strict modes take them; the full schema is checked by us when the answers land."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.schema_limits import is_too_wide

_STRUCTURE = ("type", "enum", "const", "$ref", "description")
_HANDLED = {*_STRUCTURE, "properties", "required", "items", "anyOf", "oneOf", "allOf", "$defs", "definitions"}
_SILENT = {"title", "default", "examples", "additionalProperties", "discriminator", "$schema", "$id", "deprecated"}
_INEXPRESSIBLE = ("not", "if", "patternProperties", "prefixItems", "dependentSchemas", "unevaluatedProperties")


# Lookaround, which no provider's engine for patterns has: OpenAI answers with a 5xx (pydantic-ai#5508, 2026-11). The
# pattern that pydantic 2.12 writes for a Decimal begins with one.
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
# What to look for among the Python values of an enum, where the type is missing.
_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


@dataclass(frozen=True)
class Dialect:
    """The rules of a provider's strict mode.

    Attributes:
        constraints: keywords that it enforces; all others are told to the model in the description.
        formats: values of `format` that it knows; all others are told as well.
        every_property: True when it wants each property to be required.
        recursion: True when a definition may contain itself.
        most_optional: most properties that are not required, in the whole schema.
        most_unions: most nodes with a choice, in the whole schema.
        most_values: most values of all enums together.
        most_properties: most properties of all objects together.
        most_levels: most objects and lists within each other, below the top.
        most_characters: most characters of all names and values of enums together.
        most_in_long_enum: most characters of an enum with more than 250 texts.
    """

    provider: str
    constraints: frozenset[str]
    formats: frozenset[str]
    every_property: bool
    recursion: bool
    most_optional: int | None = None
    most_unions: int | None = None
    most_values: int | None = None
    most_properties: int | None = None
    most_levels: int | None = None
    most_characters: int | None = None
    most_in_long_enum: int | None = None


class _InexpressibleError(Exception):
    """Strict mode has no words for this schema."""


def strict(schema: dict[str, Any], dialect: Dialect) -> dict[str, Any] | None:
    """Return the schema in the provider's strict dialect; None if it cannot say it (open dictionaries, tuples, anything).

    The result is shared between calls: do not change it.

    Raises:
        UsageError: the provider does not take the schema: its top is not an object, a reference leads nowhere, or it
            is above a limit.
    """
    return _strict(msgspec.json.encode(schema), dialect)


@lru_cache(maxsize=64)
def _strict(encoded: bytes, dialect: Dialect) -> dict[str, Any] | None:
    root = msgspec.json.decode(encoded)
    top = at_top(root, dialect)
    writer = _Writer(root, dialect)
    try:
        names = ("$defs", "definitions")
        definitions = {name: {key: writer.node(d) for key, d in root[name].items()} for name in names if name in root}
        written = {**writer.node(top), **definitions}
        return None if is_too_wide(written, dialect) else written
    except (_InexpressibleError, RecursionError):
        return None


@dataclass(frozen=True)
class _Writer:
    root: dict[str, Any]
    dialect: Dialect
    within: tuple[str, ...] = ()

    def node(self, node: Any) -> dict[str, Any]:
        if not isinstance(node, dict) or any(word in node for word in _INEXPRESSIBLE):
            raise _InexpressibleError
        if "$ref" in node:
            return self._reference(node)
        if isinstance(node.get("allOf"), list):
            return self._intersection(node)
        if isinstance(node.get("type"), list) or ("type" not in node and node.keys() & {"enum", "const"}):
            return self.node(_one_type_each(node))
        if not _has_values_of_its_type(node):
            raise _InexpressibleError
        return self._plain(node)

    def _reference(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the reference alone, or what it leads to under the keywords beside it: strict modes want no neighbours."""
        reference = node["$ref"]
        target = _resolve(reference, self.root, self.dialect)
        if not self.dialect.recursion and self._loops(reference):
            raise _InexpressibleError
        beside = {key: value for key, value in node.items() if key != "$ref" and key not in _SILENT}
        if not beside or reference in self.within:
            return {"$ref": reference}
        return _Writer(self.root, self.dialect, (*self.within, reference)).node({**target, **beside})

    def _loops(self, reference: str) -> bool:
        """Return True if the definition leads back to itself."""
        seen: set[str] = set()
        open_ = [reference]
        while open_:
            for found in _references(_resolve(open_.pop(), self.root, self.dialect)):
                if found == reference:
                    return True
                if found not in seen:
                    seen.add(found)
                    open_.append(found)
        return False

    def _intersection(self, node: dict[str, Any]) -> dict[str, Any]:
        if len(node["allOf"]) != 1 or not isinstance(node["allOf"][0], dict):
            raise _InexpressibleError
        return self.node({**node["allOf"][0], **{key: value for key, value in node.items() if key != "allOf"}})

    def _plain(self, node: dict[str, Any]) -> dict[str, Any]:
        written = {key: node[key] for key in (*_STRUCTURE, *self.dialect.constraints) if key in node}
        if str(node.get("format")) not in self.dialect.formats:
            written.pop("format", None)
        if _LOOKAROUND.search(str(node.get("pattern", ""))):
            written.pop("pattern", None)
        choices = node.get("anyOf") or node.get("oneOf")
        if choices:
            written["anyOf"] = [self.node(choice) for choice in choices]
        if not written.keys() & {"type", "enum", "const", "anyOf"}:
            raise _InexpressibleError
        if node.get("type") == "object":
            written |= self._object(node)
        if node.get("type") == "array":
            written["items"] = self.node(node.get("items"))
        return self._told(written, node)

    def _object(self, node: dict[str, Any]) -> dict[str, Any]:
        if "properties" not in node or isinstance(node.get("additionalProperties"), dict):
            raise _InexpressibleError
        properties = {key: self.node(value) for key, value in node["properties"].items()}
        required = node.get("required", [])
        # Where only these properties are allowed, an answer can never have another one, or more.
        if not properties.keys() >= set(required) or node.get("minProperties", 0) > len(properties):
            raise _InexpressibleError
        required = list(properties) if self.dialect.every_property else required
        return {"properties": properties, "required": required, "additionalProperties": False}

    def _told(self, written: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        """Return the node, with the constraints that nothing enforces put into words that the model reads."""
        loose = {key: node[key] for key in node.keys() - written.keys() - _HANDLED - _SILENT}
        if not loose:
            return written
        words = ", ".join(f"{key}: {loose[key]}" for key in sorted(loose))
        return {**written, "description": f"{written.get('description', '')} ({words})".lstrip()}


def at_top(root: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the node at the top of the schema, which is an object.

    Raises:
        UsageError: it is not, or a reference leads nowhere.
    """
    top = _resolve(root["$ref"], root, dialect) if "$ref" in root else root
    if top.get("type") != "object":
        raise UsageError(
            f"{dialect.provider} takes a schema only if its top is an object, and this one has type={top.get('type')!r}. "
            "Wrap it in a model with one field."
        )
    return top


def with_object_at_top(schema: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the schema with what a reference at its top leads to in the place of the reference.

    Outside strict mode too providers want to read `type: object` at the top.

    Raises:
        UsageError: as `at_top`.
    """
    return {**at_top(schema, dialect), **{key: value for key, value in schema.items() if key != "$ref"}}


def _one_type_each(node: dict[str, Any]) -> dict[str, Any]:
    """Return `type: [string, null]`, or values of several types without a type, as a choice between nodes of one type."""
    values = node.get("enum", [node["const"]] if "const" in node else None)
    types = node.get("type") or list(dict.fromkeys(_TYPES[type(value)] for value in values or []))
    outer: dict[str, Any] = {key: node[key] for key in ("title", "description", "default") if key in node}
    inner = {key: value for key, value in node.items() if key not in {*outer, "enum", "const"}}
    choices = [{**inner, "type": word, **_values_of(word, values)} for word in types]
    choices = [choice for choice in choices if choice.get("enum") != []]
    if not choices:
        raise _InexpressibleError
    return {**outer, **choices[0]} if len(choices) == 1 else {**outer, "anyOf": choices}


def _values_of(word: str, values: list[Any] | None) -> dict[str, Any]:
    """Return the enum of those values that are of this type; null needs none."""
    mine = [
        value for value in values or [] if _TYPES[type(value)] in ({word, "integer"} if word == "number" else {word})
    ]
    return {} if values is None or (word == "null" and mine) else {"enum": mine}


def _has_values_of_its_type(node: dict[str, Any]) -> bool:
    """Return False when a node says one type and lists a value of another, which every provider refuses."""
    values = node.get("enum", [node["const"]] if "const" in node else [])
    return not values or len(_values_of(node.get("type", ""), values).get("enum", values)) == len(values)


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for key, value in node.items() if key != "$defs" for found in _references(value)]


def _resolve(reference: Any, root: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    target = referenced(reference, root)
    if target is None:
        raise UsageError(f"The reference {reference!r} in the schema leads nowhere, so {dialect.provider} refuses it.")
    return target


def referenced(reference: Any, root: dict[str, Any]) -> dict[str, Any] | None:
    """Return the node that a reference within the schema leads to; None if it leads nowhere."""
    target: Any = root if str(reference).startswith("#") else None
    for part in str(reference).removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        target = target.get(name) if isinstance(target, dict) else None
    return target if isinstance(target, dict) else None
