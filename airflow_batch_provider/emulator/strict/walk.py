"""The nodes of a JSON schema, each with the way that leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.emulator.jsonl import Json

Way = tuple[str, ...]
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties", "not")


def nodes(schema: Json, way: Way = ()) -> Iterator[tuple[Way, Json]]:
    """Yield the schema and all schemas within, definitions too; references are not followed."""
    # A stack of our own: a schema may be deeper than Python's.
    waiting = [(way, schema)]
    while waiting:
        way, node = waiting.pop()
        yield way, node
        waiting += reversed([((*way, *step), child) for step, child in children(node)])


def children(node: Json) -> Iterator[tuple[Way, Json]]:
    """Yield the schemas right below, each with the step that leads to it."""
    for word in _MAPS:
        below = node.get(word)
        yield from (((word, name), child) for name, child in _items(below) if isinstance(child, dict))
    for word in _LISTS:
        below = node.get(word)
        listed = below if isinstance(below, list) else []
        yield from (((word, str(at)), child) for at, child in enumerate(listed) if isinstance(child, dict))
    yield from (((word,), node[word]) for word in _SINGLES if isinstance(node.get(word), dict))


def _items(below: object) -> Iterator[tuple[str, Any]]:
    yield from below.items() if isinstance(below, dict) else ()


def pointed(way: Way) -> str:
    """Return the way in the form `$.properties.to.anyOf[0].pattern`."""
    return "$" + "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in way)


def loop(schema: Json) -> list[str]:
    """Return the names of definitions that lead back to the first of them; none when the schema ends."""
    definitions = {
        f"#/{word}/{name}": below for word in ("$defs", "definitions") for name, below in _items(schema.get(word))
    }
    leads = {name: _references(below) for name, below in definitions.items()} | {"#": _references(schema)}
    for start in leads:
        ways = [[start]]
        seen: set[str] = set()
        while ways:
            way = ways.pop()
            for target in leads.get(way[-1], ()):
                if target == start:
                    return [name.rpartition("/")[2] for name in (*way, start)]
                if target not in seen:
                    seen.add(target)
                    ways.append([*way, target])
    return []


def _references(schema: object) -> list[str]:
    """Return what a schema refers to, outside its definitions."""
    if not isinstance(schema, dict):
        return []
    own = {name: below for name, below in schema.items() if name not in ("$defs", "definitions")}
    return [node["$ref"] for _, node in nodes(own) if isinstance(node.get("$ref"), str)]
