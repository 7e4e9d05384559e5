"""The subset of JSON Schema that Anthropic compiles, and what it wants of a tool.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs (2026-11), and the refusals named at each rule.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.strict.tables import words
from airflow_batch_provider.emulator.strict.walk import children, loop, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.emulator.jsonl import Json

# The documentation, and daydream, effect and others who quote "For 'integer' type, properties maximum, minimum are not supported".
_UNSUPPORTED = {
    "integer": ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"),
    "number": ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"),
    "string": ("maxLength", "minLength"),
    "array": ("maxItems", "uniqueItems"),
}
# anthropic 2.12.0: lib/_parse/_transform.py SupportedStringFormats (2026-11).
_FORMATS = words("date-time time date duration email hostname uri ipv4 ipv6 uuid")
# The documentation: no lookaround, backreferences or word boundaries; Dokploy/mcp#45 (2026-05).
_BEYOND_REGEX = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?<?[=!]|\\[1-9bB])")
# elie222/inbox-zero#2323 (2026-04) and ENTERPILOT/GoModel#963 (2026): over all schemas of a request.
_MOST_OPTIONAL = 24
_MOST_UNIONS = 16
_MOST_STRICT_TOOLS = 20
# huly-mcp#66, modelcontextprotocol/go-sdk#169 (2026).
_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "array": list, "object": dict,
}  # fmt: skip


def check_schemas(params: Json) -> None:
    """Raise `Unacceptable` for the first thing that is wrong with the output format or with a tool."""
    compiled = [(place, json.dumps(schema)) for place, schema in _formats(params)]
    tools = params.get("tools") or []
    for at, tool in enumerate(tools):
        if tool.get("type", "custom") == "custom":
            _check_tool(tool, f"tools.{at}.custom")
            if tool.get("strict"):
                compiled.append((f"tools.{at}.custom.input_schema", json.dumps(tool["input_schema"])))
    if sum(bool(tool.get("strict")) for tool in tools) > _MOST_STRICT_TOOLS:
        raise Unacceptable(f"tools: at most {_MOST_STRICT_TOOLS} strict tools are supported", "tools")
    for place, encoded in compiled:
        if problem := _problem(encoded):
            raise Unacceptable(f"{place}: {problem}", place)
    if crowd := _crowd(encoded for _, encoded in compiled):
        raise Unacceptable(crowd)


def _formats(params: Json) -> Iterator[tuple[str, Json]]:
    for place, wanted in (
        ("output_config.format", (params.get("output_config") or {}).get("format")),
        ("output_format", params.get("output_format")),
    ):
        if wanted and wanted.get("type") == "json_schema":
            if not isinstance(schema := wanted.get("schema"), dict):
                raise Unacceptable(f"{place}.schema: Field required", place)
            yield f"{place}.schema", schema


def _check_tool(tool: Json, place: str) -> None:
    if not _TOOL_NAME.fullmatch(tool.get("name", "")):
        raise Unacceptable(f"{place}.name: String should match pattern '^{_TOOL_NAME.pattern}$'", place)
    if not isinstance(schema := tool.get("input_schema"), dict):
        raise Unacceptable(f"{place}.input_schema: Field required", place)
    if any(word in schema for word in ("oneOf", "allOf", "anyOf")):
        # anthropics/claude-code#40075 (2026-03).
        text = "input_schema does not support oneOf, allOf, or anyOf at the top level"
        raise Unacceptable(f"{place}.input_schema: {text}", place)
    if "type" not in schema:
        # opencodex#75 (2026).
        raise Unacceptable(f"{place}.input_schema.type: Field required", place)
    if schema["type"] != "object":
        raise Unacceptable(f"{place}.input_schema.type: Input should be 'object'", place)
    if not all(_KEY.fullmatch(key) for key in schema.get("properties") or {}):
        text = f"Property keys should match pattern '^{_KEY.pattern}$'"
        raise Unacceptable(f"{place}.input_schema.properties: {text}", place)


@functools.lru_cache(maxsize=256)
def _problem(encoded: str) -> str | None:
    """Return what is wrong with a schema that is compiled, if anything."""
    schema = json.loads(encoded)
    if circle := loop(schema):
        return f"Circular reference detected in schema definitions: {' -> '.join(circle)}"
    found = (problem for _, node in nodes(schema) for check in _NODE_CHECKS if (problem := check(node)))
    return next(found, None)


def _keywords(node: Json) -> str | None:
    if "oneOf" in node:
        return "Schema type 'oneOf' is not supported"
    kind = node.get("type")
    wrong = sorted(word for word in _UNSUPPORTED.get(str(kind), ()) if word in node)
    if len(wrong) > 1:
        return f"For '{kind}' type, properties {', '.join(wrong)} are not supported"
    return f"For '{kind}' type, property '{wrong[0]}' is not supported" if wrong else None


def _closed(node: Json) -> str | None:
    if node.get("type") != "object" or node.get("additionalProperties") is False:
        return None
    if node.get("additionalProperties"):
        given = json.dumps(node["additionalProperties"])
        return f"For 'object' type, 'additionalProperties: {given if given == 'true' else 'object'}' is not supported."
    return "For 'object' type, 'additionalProperties' must be explicitly set to false"


def _texts(node: Json) -> str | None:
    if node.get("type") == "string" and "format" in node and node["format"] not in _FORMATS:
        return f"For 'string' type, format '{node['format']}' is not supported"
    pattern = node.get("pattern")
    if isinstance(pattern, str) and _BEYOND_REGEX.search(pattern):
        return f"Invalid schema: pattern '{pattern}' uses regex features that are not supported"
    return None


def _lists(node: Json) -> str | None:
    least = node.get("minItems", 0)
    if node.get("type") == "array" and least not in (0, 1):
        return f"For 'array' type, 'minItems' values other than 0 or 1 are not supported (got: [{least}])"
    return None


def _values(node: Json) -> str | None:
    """Check that each value of an enum has the one type that is declared: BerriAI/litellm#37881 (2026-08)."""
    if "enum" not in node:
        return None
    values, kind = node["enum"], node.get("type")
    if not values:
        return "Invalid schema: Enum must be a non-empty array"
    for value in values:
        if kind is not None and not _is(value, kind):
            shown = kind if isinstance(kind, str) else str(kind)
            return f"Invalid schema: Enum value {value!r} does not match declared type '{shown}'"
    return None


def _is(value: Any, kind: Any) -> bool:
    wanted = _TYPES.get(kind) if isinstance(kind, str) else None
    return wanted is not None and isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool))


_NODE_CHECKS = (_keywords, _closed, _texts, _lists, _values)


@functools.lru_cache(maxsize=256)
def _counted(encoded: str) -> tuple[int, int]:
    """Return how many parameters of a schema are optional, and how many have several types."""
    objects = [node for _, node in nodes(json.loads(encoded)) if isinstance(node.get("properties"), dict)]
    optional = sum(len(node["properties"].keys() - set(node.get("required") or ())) for node in objects)
    parameters = [child for node in objects for step, child in children(node) if step[0] == "properties"]
    return optional, sum("anyOf" in child or isinstance(child.get("type"), list) for child in parameters)


def _crowd(encoded: Iterable[str]) -> str | None:
    """Return which limit over all compiled schemas of the request is passed, if any."""
    optional, unions = map(sum, zip((0, 0), *map(_counted, encoded), strict=True))
    if optional > _MOST_OPTIONAL:
        return (
            f"Schemas contains too many optional parameters ({optional}), which would make grammar compilation inefficient. "
            f"Reduce the number of optional parameters in your tool schemas (limit: {_MOST_OPTIONAL})."
        )
    if unions > _MOST_UNIONS:
        return (
            f"Schemas contains too many parameters with union types ({unions} parameters with type arrays or anyOf). This causes "
            "exponential compilation cost. Reduce the number of nullable or union-typed parameters (limit: "
            f"{_MOST_UNIONS} parameters with unions)."
        )
    return None
