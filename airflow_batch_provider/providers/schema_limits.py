"""How large a schema may be, by the limits of a provider's strict mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.providers.schema import Dialect

_LONG_ENUM = 250
# Keywords whose values are nodes by their names.
_NAMED = ("properties", "$defs", "definitions")


def is_too_wide(written: dict[str, Any], dialect: Dialect) -> bool:
    """Return True when another way than strict mode takes what is above this limit of it.

    Raises:
        UsageError: a limit is passed that no other way has.
    """
    nodes = list(_nodes(written))
    for most, found, what, remedy in _without_another_way(written, nodes, dialect):
        if most is not None and found > most:
            raise UsageError(
                f"{dialect.provider} takes at most {most} {what} in a schema, and this one has {found}. {remedy}."
            )
    objects = [node for node in nodes if "properties" in node]
    optional = sum(len(node["properties"].keys() - set(node["required"])) for node in objects)
    unions = sum("anyOf" in node for node in nodes)
    return any(
        most is not None and found > most
        for most, found in ((dialect.most_optional, optional), (dialect.most_unions, unions))
    )


def _without_another_way(
    written: dict[str, Any], nodes: list[dict[str, Any]], dialect: Dialect
) -> Iterator[tuple[int | None, int, str, str]]:
    """Yield each limit, what is found of it, its words, and what to do."""
    values = sum(len(node.get("enum", ())) for node in nodes)
    yield dialect.most_values, values, "values in enums", "Ask for a text, and check it later"
    yield dialect.most_properties, sum(len(node.get("properties", ())) for node in nodes), "properties", "Ask for less"
    yield dialect.most_levels, _levels(written), "objects and lists within each other", "Make the model flatter"
    yield dialect.most_characters, sum(map(_characters, nodes)), "characters in names and values", "Ask for less"
    yield (
        dialect.most_in_long_enum,
        max(map(_in_long_enum, nodes)),
        f"characters in an enum of more than {_LONG_ENUM} values",
        "Shorten its values, or number them",
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the node and every node below it, definitions included."""
    yield node
    for inner in _inner(node):
        yield from _nodes(inner)


def _inner(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes right below this one."""
    named = [inner for word in _NAMED for inner in node.get(word, {}).values()]
    return [*named, *node.get("anyOf", ()), *([node["items"]] if "items" in node else ())]


def _levels(node: dict[str, Any]) -> int:
    """Return how many objects and lists stand within each other below this node, references not followed."""
    return max((_levels(one) + (one.get("type") in ("object", "array")) for one in _inner(node)), default=0)


def _characters(node: dict[str, Any]) -> int:
    names = [name for word in _NAMED for name in node.get(word, ())]
    return sum(len(text) for text in (*names, *node.get("enum", ()), node.get("const")) if isinstance(text, str))


def _in_long_enum(node: dict[str, Any]) -> int:
    texts = [value for value in node.get("enum", ()) if isinstance(value, str)]
    return sum(map(len, texts)) if len(texts) > _LONG_ENUM else 0
