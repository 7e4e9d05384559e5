"""JSON schemas as the providers' strict modes take them; the full schema is checked by us when the answers land."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from airflow_batch_provider.exceptions import UsageError

_STRUCTURE = ("type", "enum", "const", "$ref", "description")
_HANDLED = {*_STRUCTURE, "properties", "required", "items", "anyOf", "oneOf", "allOf", "$defs", "definitions"}
_SILENT = {"title", "default", "examples", "additionalProperties", "discriminator", "$schema", "$id", "deprecated"}
_INEXPRESSIBLE = ("not", "if", "patternProperties", "prefixItems", "dependentSchemas", "unevaluatedProperties")


@dataclass(frozen=True)
class Dialect:
    """What a provider's strict mode takes.

    Attributes:
        constraints: keywords that it enforces; all others are told to the model in the description.
        every_property: True when it wants each property to be required.
        recursion: True when a definition may contain itself.
    """

    provider: str
    constraints: frozenset[str]
    every_property: bool
    recursion: bool


class _InexpressibleError(Exception):
    """Strict mode has no words for this schema."""


def strict(schema: dict[str, Any], dialect: Dialect) -> dict[str, Any] | None:
    """The schema in the provider's strict dialect; None when it cannot say it (open dictionaries, tuples, anything).

    The result is shared between calls: do not change it.

    Raises:
        UsageError: no provider takes the schema, because its top is no object or a reference leads nowhere.
    """
    return _strict(msgspec.json.encode(schema), dialect)


@lru_cache(maxsize=64)
def _strict(encoded: bytes, dialect: Dialect) -> dict[str, Any] | None:
    root = msgspec.json.decode(encoded)
    top = _resolve(root["$ref"], root, dialect) if "$ref" in root else root
    if top.get("type") != "object":
        raise UsageError(
            f"{dialect.provider} takes a schema only if its top is an object, and this one is {top.get('type')!r}. "
            "Wrap it in a model with one field."
        )
    writer = _Writer(root, dialect)
    try:
        names = ("$defs", "definitions")
        definitions = {name: {key: writer.node(d) for key, d in root[name].items()} for name in names if name in root}
        return {**writer.node(top), **definitions}
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
        if isinstance(node.get("type"), list) and "enum" not in node:
            return self.node(_one_type_each(node))
        return self._plain(node)

    def _reference(self, node: dict[str, Any]) -> dict[str, Any]:
        """The reference alone, or what it leads to under the keywords beside it: strict modes want no neighbours."""
        reference = node["$ref"]
        target = _resolve(reference, self.root, self.dialect)
        if not self.dialect.recursion and self._loops(reference):
            raise _InexpressibleError
        beside = {key: value for key, value in node.items() if key != "$ref" and key not in _SILENT}
        if not beside or reference in self.within:
            return {"$ref": reference}
        return _Writer(self.root, self.dialect, (*self.within, reference)).node({**target, **beside})

    def _loops(self, reference: str) -> bool:
        """True when the definition leads back to itself."""
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
        if len(node["allOf"]) != 1:
            raise _InexpressibleError
        return self.node({**node["allOf"][0], **{key: value for key, value in node.items() if key != "allOf"}})

    def _plain(self, node: dict[str, Any]) -> dict[str, Any]:
        written = {key: node[key] for key in (*_STRUCTURE, *self.dialect.constraints) if key in node}
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
        required = list(properties) if self.dialect.every_property else node.get("required", [])
        return {"properties": properties, "required": required, "additionalProperties": False}

    def _told(self, written: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        """The node, with the constraints that nothing enforces put into words that the model reads."""
        loose = {key: node[key] for key in node.keys() - written.keys() - _HANDLED - _SILENT}
        if not loose:
            return written
        words = ", ".join(f"{key}: {loose[key]}" for key in sorted(loose))
        return {**written, "description": f"{written.get('description', '')} ({words})".lstrip()}


def _one_type_each(node: dict[str, Any]) -> dict[str, Any]:
    """`type: [string, null]` as a choice between two nodes."""
    outer: dict[str, Any] = {key: node[key] for key in ("title", "description", "default") if key in node}
    inner = {key: value for key, value in node.items() if key not in outer}
    return {**outer, "anyOf": [{**inner, "type": word} for word in node["type"]]}


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for key, value in node.items() if key != "$defs" for found in _references(value)]


def _resolve(reference: Any, root: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    target: Any = root
    for part in str(reference).removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        target = target.get(name) if isinstance(target, dict) else None
    if not str(reference).startswith("#") or not isinstance(target, dict):
        raise UsageError(f"The reference {reference!r} in the schema leads nowhere, so {dialect.provider} refuses it.")
    return target
