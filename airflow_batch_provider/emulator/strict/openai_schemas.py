"""The subset of JSON Schema that OpenAI's strict mode takes.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (2026-11), and the refusals named at each rule.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.strict.tables import words
from airflow_batch_provider.emulator.strict.walk import children, nodes, pointed

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.jsonl import Json

# The documentation's "not supported", pydantic_ai/profiles/openai.py (2026), notion-mcp-server#117 (2025-09, allOf),
# jina-ai/node-DeepResearch#79 (2025-03, maxLength).
_REFUSED_KEYWORDS = words("""
    allOf oneOf not if then else dependentRequired dependentSchemas patternProperties propertyNames minProperties maxProperties
    unevaluatedProperties unevaluatedItems contains minContains maxContains uniqueItems prefixItems minLength maxLength default
""")
# The documentation's nine; can1357/oh-my-pi#206 (2026-02) has the words.
_FORMATS = words("date-time time date duration email hostname ipv4 ipv6 uuid")
# vercel/ai#21037 (2026-09).
_LOOKAROUND = re.compile(r"(?<!\\)(?:\\\\)*\(\?<?[=!]")
_MOST_PROPERTIES = 5_000
_MOST_LEVELS = 10
_MOST_VALUES = 1_000
_MOST_CHARACTERS = 120_000
_LONG_ENUM = 250
_MOST_LONG_ENUM_CHARACTERS = 15_000
# openai 3.54.0: types/shared_params/response_format_json_schema.py, "a maximum length of 64" (2026-11).
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_format(url: str, body: Json) -> None:
    """Raise `Unacceptable` when the output format is not one."""
    if url == "/v1/responses":
        held = wanted = (body.get("text") or {}).get("format") or {}
        place, param, code = "text.format", "text.format.schema", "invalid_json_schema"
    else:
        wanted = body.get("response_format") or {}
        held = wanted.get("json_schema") or {}
        place, param, code = "response_format.json_schema", "response_format", None
    if wanted.get("type") != "json_schema":
        return
    name = _name(held, f"{place}.name")
    if held.get("strict"):
        _check(held.get("schema"), f"Invalid schema for response_format '{name}'", param, code)


def _name(held: Json, place: str) -> str:
    name = held.get("name")
    if not isinstance(name, str):
        raise Unacceptable(f"Missing required parameter: '{place}'.", place, "missing_required_parameter")
    if not _NAME.fullmatch(name):
        text = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        raise Unacceptable(f"Invalid '{place}': {text}", place, "invalid_value")
    return name


def check_tools(url: str, tools: list[Json]) -> None:
    """Raise `Unacceptable` for a function whose parameters are not what it says."""
    for at, tool in enumerate(tools):
        if tool.get("type") != "function":
            continue
        function, field = (tool, "parameters") if url == "/v1/responses" else (tool["function"], "function.parameters")
        place, param = f"Invalid schema for function '{function.get('name')}'", f"tools[{at}].{field}"
        if function.get("strict"):
            _check(function.get("parameters"), place, param, "invalid_function_parameters")
        elif (given := function.get("parameters")) is not None and given.get("type") != "object":
            raise Unacceptable(f"{place}: {_root(given)}", param, "invalid_function_parameters")


def _check(schema: Any, place: str, param: str, code: str | None) -> None:
    if not isinstance(schema, dict):
        raise Unacceptable(f"{place}: {_root({})}", param, code)
    if around := _lookaround(json.dumps(schema)):
        text = f"Invalid JSON schema: regex lookaround is not supported. Found at {around}."
        raise Unacceptable(text, param, "invalid_json_schema")
    if problem := _problem(json.dumps(schema)):
        raise Unacceptable(f"{place}: {problem}", param, code)


@functools.lru_cache(maxsize=256)
def _lookaround(encoded: str) -> str | None:
    """Return where a pattern looks around, if one does."""
    for way, node in nodes(json.loads(encoded)):
        if isinstance(pattern := node.get("pattern"), str) and _LOOKAROUND.search(pattern):
            return pointed((*way, "pattern"))
    return None


@functools.lru_cache(maxsize=256)
def _problem(encoded: str) -> str | None:
    """Return what is wrong with a strict schema, if anything."""
    schema = json.loads(encoded)
    if schema.get("type") != "object" or "anyOf" in schema:
        return _root(schema)
    for way, node in nodes(schema):
        for check in _NODE_CHECKS:
            if problem := check(node):
                return f"In context={way}, {problem}"
    return _size(schema)


def _root(schema: Json) -> str:
    """Return the words for a root that is not an object alone: the documentation, and measured words (2025, 2026)."""
    kind = "None" if schema.get("type") == "object" else schema.get("type")
    return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."


def _permitted(node: Json) -> str | None:
    wrong = next((word for word in node if word in _REFUSED_KEYWORDS), None)
    return f"'{wrong}' is not permitted." if wrong else None


def _typed(node: Json) -> str | None:
    """Check for a type, which values need too: vertesia/llumiverse#131 (2026)."""
    return None if node.keys() & {"type", "$ref", "anyOf"} else "schema must have a 'type' key."


def _closed(node: Json) -> str | None:
    if not _is_object(node) or node.get("additionalProperties") is False:
        return None
    return "'additionalProperties' is required to be supplied and to be false."


def _all_required(node: Json) -> str | None:
    if not _is_object(node):
        return None
    properties, required = node.get("properties") or {}, node.get("required") or []
    text = "'required' is required to be supplied and to be an array including every key in properties."
    if missing := [name for name in properties if name not in required]:
        return f"{text} Missing '{missing[0]}'."
    extra = [name for name in required if name not in properties]
    return f"{text} Extra required key '{extra[0]}' supplied." if extra else None


def _format(node: Json) -> str | None:
    given = node.get("format")
    return f"'{given}' is not a valid format." if given is not None and given not in _FORMATS else None


def _reference(node: Json) -> str | None:
    """Check that a reference stands alone: openai 3.54.0, lib/_pydantic.py writes out those that do not (2026-11)."""
    beside = sorted(node.keys() - {"$ref", "$defs", "definitions"}) if "$ref" in node else []
    return f"$ref cannot have keywords {{{', '.join(map(repr, beside))}}}." if beside else None


def _items(node: Json) -> str | None:
    return "array schema missing items." if node.get("type") == "array" and "items" not in node else None


def _is_object(node: Json) -> bool:
    kind = node.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


_NODE_CHECKS = (_permitted, _typed, _closed, _all_required, _format, _reference, _items)


def _size(schema: Json) -> str | None:
    """Return which limit the whole schema passes, if any; the words for levels and properties are measured (2026)."""
    every = [node for _, node in nodes(schema)]
    counted = (
        ("parameters", sum(len(node.get("properties") or ()) for node in every), _MOST_PROPERTIES),
        ("levels of nesting", _levels(schema), _MOST_LEVELS),
        # The words of the limits on values and characters are made after the others; none was found quoted.
        ("enum values", sum(len(node.get("enum") or ()) for node in every), _MOST_VALUES),
        ("characters in names and values", sum(map(_characters, every)), _MOST_CHARACTERS),
        ("characters in one enum", max(map(_enum_characters, every)), _MOST_LONG_ENUM_CHARACTERS),
    )
    return next((f"{found} {what} exceeds limit of {most}." for what, found, most in counted if found > most), None)


def _levels(schema: Json) -> int:
    """Return how many objects and arrays stand within each other below the root, references not followed."""
    deepest, waiting = 0, [(0, schema)]
    while waiting:
        level, node = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(level + _holds(child), child) for step, child in children(node)]
    return deepest


def _holds(node: Json) -> bool:
    return _is_object(node) or node.get("type") == "array"


def _characters(node: Json) -> int:
    names: list[Any] = [name for word in ("properties", "$defs", "definitions") for name in node.get(word) or ()]
    values = [*(node.get("enum") or ()), node.get("const")]
    return sum(len(text) for text in (*names, *values) if isinstance(text, str))


def _enum_characters(node: Json) -> int:
    values = [value for value in node.get("enum") or () if isinstance(value, str)]
    return sum(map(len, values)) if len(values) > _LONG_ENUM else 0
