"""JSON schemas as Gemini's `responseSchema` takes them: a subset of OpenAPI 3.0, without references.

`responseJsonSchema` takes JSON schema as it is, but in batches its answers came back degenerate, 0 of 502 right where
`responseSchema` was right (https://github.com/crmne/ruby_llm/issues/894, 2026-08), so it is never sent.
Fields: https://ai.google.dev/api/caching#Schema (2026-11).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from airflow_batch_provider.providers.schema import Dialect, referenced, strict

_CONSTRAINTS = frozenset({"minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern", "format"})
DIALECT = Dialect("Gemini", _CONSTRAINTS, frozenset({"date-time"}), every_property=False, recursion=False)

_KEPT = ("description", *sorted(_CONSTRAINTS))
_SCALARS = {bool: "BOOLEAN", int: "INTEGER", float: "NUMBER", str: "STRING"}


class _WordlessError(Exception):
    """OpenAPI's subset has no words for this schema."""


def response_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema in Gemini's words; None if it has none (open dictionaries, tuples, recursion).

    The result is shared between calls: do not change it.

    Raises:
        UsageError: the schema's top is not an object, or a reference leads nowhere.
    """
    return _response_schema(msgspec.json.encode(schema))


@lru_cache(maxsize=64)
def _response_schema(encoded: bytes) -> dict[str, Any] | None:
    native = strict(msgspec.json.decode(encoded), DIALECT)
    try:
        return None if native is None else _node(native, native)
    except _WordlessError:
        return None


def _node(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        # One into a part that strict mode has rewritten leads nowhere.
        target = referenced(node["$ref"], root)
        if target is None:
            raise _WordlessError
        return _node(target, root)
    if "anyOf" in node:
        return _choice(node, root)
    if "enum" in node or "const" in node:
        return _values(node)
    if node["type"] == "null":
        raise _WordlessError
    written = {"type": str(node["type"]).upper(), **{name: node[name] for name in _KEPT if name in node}}
    if node["type"] == "object":
        written |= _object(node, root)
    if node["type"] == "array":
        written["items"] = _node(node["items"], root)
    return written


def _object(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Gemini refuses objects without properties, and answers in alphabetical order unless told another."""
    if not node["properties"]:
        raise _WordlessError
    properties = {name: _node(value, root) for name, value in node["properties"].items()}
    return {"properties": properties, "required": node["required"], "propertyOrdering": list(properties)}


def _choice(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return a choice; one with null is a nullable node."""
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    written = [_node(option, root) for option in options]
    if not written:
        raise _WordlessError
    told = {"description": node["description"]} if "description" in node else {}
    nullable = {"nullable": True} if len(options) < len(node["anyOf"]) else {}
    return {**(written[0] if len(written) == 1 else {"anyOf": written}), **told, **nullable}


def _values(node: dict[str, Any]) -> dict[str, Any]:
    """Return an enum, which Gemini has for non-empty texts only; other values are told to the model."""
    values = [value for value in node.get("enum", [node.get("const")]) if value is not None]
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or (kind := _SCALARS.get(kinds.pop())) is None:
        raise _WordlessError
    nullable = {"nullable": True} if None in node.get("enum", ()) else {}
    told = {"description": node["description"]} if "description" in node else {}
    if kind == "STRING" and all(values):
        return {"type": kind, "enum": values, **told, **nullable}
    return {"type": kind, **_told(node, f"one of: {', '.join(map(repr, values))}"), **nullable}


def _told(node: dict[str, Any], words: str) -> dict[str, Any]:
    return {"description": f"{node.get('description', '')} ({words})".lstrip()}
