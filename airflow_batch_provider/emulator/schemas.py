"""A value that fits a JSON schema, made from a text so that its strings carry that text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_batch_provider.emulator.patterns import matching

Schema = Mapping[str, Any]
_DEEP = 4
"""Below this depth optional parts are left out, so that recursive schemas end."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the value: the schema's root, the text to carry, the depth, the position in a list."""

    root: Schema
    text: str
    depth: int = 0
    nth: int = 0

    @property
    def deep(self) -> bool:
        return self.depth >= _DEEP

    def below(self) -> _Place:
        return replace(self, depth=self.depth + 1)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.nth}:{self.text}".encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def number(self) -> int:
        return int(self.digest[:8], 16)


def instance(schema: Schema, text: str) -> Any:
    """Return a value valid against `schema` (draft 2020-12 or Gemini's own kind), the same for the same text."""
    return _value(schema, _Place(schema, text))


def misfit(schema: Schema, text: str) -> Any:
    """Return JSON that is not valid against `schema`: a required field is absent, or the type is another one."""
    value = instance(schema, text)
    required = _resolved(schema, _Place(schema, text)).get("required") or []
    if isinstance(value, dict) and required:
        return {name: item for name, item in value.items() if name != required[0]}
    return {"does not fit": True} if isinstance(value, list | str) else ["does not fit"]


def _value(schema: Any, place: _Place) -> Any:
    if not isinstance(schema, Mapping):
        return place.text
    schema = _resolved(schema, place)
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return choices[(replace(place, nth=0).number + place.nth) % len(choices)]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        rest = {name: item for name, item in schema.items() if name not in ("anyOf", "oneOf")}
        return _value(_merged(rest, _choice(options, place)), place.below())
    if (make := _BY_TYPE.get(_type(schema))) is None:
        raise ValueError(f"No JSON schema type {schema['type']!r}.")
    return make(schema, place)


def _resolved(schema: Schema, place: _Place) -> Schema:
    for _ in range(64):
        if isinstance(reference := schema.get("$ref"), str):
            rest = {name: item for name, item in schema.items() if name != "$ref"}
            schema = _merged(rest, _lookup(place.root, reference))
        elif parts := schema.get("allOf"):
            schema = {name: item for name, item in schema.items() if name != "allOf"}
            for part in parts:
                schema = _merged(schema, _resolved(part, place))
        else:
            return schema
    raise ValueError("A $ref of the schema leads back to itself.")


def _lookup(root: Schema, reference: str) -> Schema:
    found: Any = root
    for part in reference.removeprefix("#").split("/"):
        if part:
            found = found[part.replace("~1", "/").replace("~0", "~")]
    return found if isinstance(found, Mapping) else {}


def _merged(first: Schema, second: Any) -> Schema:
    if not isinstance(second, Mapping):
        return first
    merged = {**second, **first}
    if "properties" in first and "properties" in second:
        merged["properties"] = {**second["properties"], **first["properties"]}
    if "required" in first and "required" in second:
        merged["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return merged


def _choice(options: list[Any], place: _Place) -> Any:
    nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") in ("null", "NULL")]
    others = [option for option in options if option not in nulls]
    if place.deep:
        flat = [option for option in options if "$ref" not in str(option)]
        return (nulls or flat or others)[0]
    return (others or nulls)[0]


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind:
        return str(kind).lower()
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _object(schema: Schema, place: _Place) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required") or []
    names = [name for name in properties if name in required or not place.deep]
    value = {name: _value(properties[name], place.below()) for name in names}
    extra = schema.get("additionalProperties")
    for name in required:
        value.setdefault(name, _value(extra if isinstance(extra, Mapping) else {}, place.below()))
    if extra is not False:
        _fill(value, schema, place)
    return value


def _fill(value: dict[str, Any], schema: Schema, place: _Place) -> None:
    extra = schema.get("additionalProperties")
    default = 1 if isinstance(extra, Mapping) and not value and not place.deep else 0
    wanted = int(schema.get("minProperties") or default)
    for nth in range(wanted - len(value)):
        value[f"key{nth}"] = _value(extra, replace(place.below(), nth=nth))


def _array(schema: Schema, place: _Place) -> list[Any]:
    first = schema.get("prefixItems") or []
    least, most = int(schema.get("minItems") or 0), schema.get("maxItems")
    count = max(least, len(first), 0 if place.deep else 1)
    if schema.get("items") is False:
        count = len(first)
    if most is not None:
        count = min(count, int(most))
    items = [*first[:count], *[schema.get("items", {})] * (count - len(first))]
    return [_value(item, replace(place.below(), nth=nth)) for nth, item in enumerate(items)]


def _integer(schema: Schema, place: _Place) -> int:
    low, high = _bounds(schema, 1)
    step = int(schema.get("multipleOf") or 1)
    first = math.ceil(low / step)
    last = math.floor(high / step)
    return (first + (place.number + place.nth) % max(1, last - first + 1)) * step


def _number(schema: Schema, place: _Place) -> float:
    if step := schema.get("multipleOf"):
        low, high = _bounds(schema, 0)
        first = math.ceil(low / step)
        return float(first * step + (place.number % max(1, math.floor(high / step) - first + 1)) * step)
    low, high = _bounds(schema, 0)
    share = 0.25 + (place.number % 1000) / 2000
    return round(low + (high - low) * share, 6) if high - low > 0.001 else low + (high - low) / 2


def _bounds(schema: Schema, margin: int) -> tuple[float, float]:
    lows = [schema.get("minimum"), _beside(schema.get("exclusiveMinimum"), margin)]
    highs = [schema.get("maximum"), _beside(schema.get("exclusiveMaximum"), -margin)]
    low = max((float(bound) for bound in lows if bound is not None), default=None)
    high = min((float(bound) for bound in highs if bound is not None), default=None)
    if low is None:
        return (0.0, 100.0) if high is None else (high - 100, high)
    return (low, low + 100) if high is None else (low, high)


def _beside(bound: Any, margin: int) -> float | None:
    return None if bound is None or isinstance(bound, bool) else bound + margin


_FORMATS = {
    "date-time": "2026-09-21T14:13:20Z", "date": "2026-09-21", "time": "14:13:20", "duration": "PT5M", "hostname": "example.com",
    "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "regex": ".*", "json-pointer": "/a",
}  # fmt: skip


def _string(schema: Schema, place: _Place) -> str:
    kind, digest = schema.get("format"), place.digest
    match kind:
        case "uuid":
            return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
        case "email" | "idn-email":
            return f"{digest[:12]}@example.com"
        case "uri" | "url" | "uri-reference" | "iri":
            return f"https://example.com/{digest[:12]}"
        case str() if kind in _FORMATS:
            return _FORMATS[kind]
    if pattern := schema.get("pattern"):
        return _matching(pattern, schema, place)
    return _sized(place.text if place.nth == 0 else f"{place.text} #{place.nth}", schema, digest)


def _sized(text: str, schema: Schema, digest: str) -> str:
    most, least = schema.get("maxLength"), int(schema.get("minLength") or 0)
    if most is not None and len(text) > int(most):
        text = (digest * (int(most) // len(digest) + 1))[: int(most)]
    return text + digest[0] * max(0, least - len(text))


def _matching(pattern: str, schema: Schema, place: _Place) -> str:
    digest = place.digest
    tries = (place.text, digest, digest[:8], digest[:8].upper(), str(place.number))
    found = matching(pattern, tries, lambda text: _sized(text, schema, digest) == text)
    if found is None:
        remedy = "Name the row's outcome, or drop the pattern"
        raise ValueError(f"The emulator finds no text for the pattern {pattern!r}. {remedy}.")
    return found


_BY_TYPE: dict[str, Callable[[Schema, _Place], Any]] = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": _number,
    "string": _string,
    "boolean": lambda _schema, place: bool(place.number % 2),
    "null": lambda _schema, _spot: None,
}
