"""Why an answer does not fit its type, without a word of the answer: the sentence goes to logs and to Airflow's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic_core.core_schema import ErrorType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema_rs import ValidationError
    from pydantic import ValidationError as PydanticError
    from pydantic_core import ErrorDetails

MASK = "the value"
"""Stands for what the answer holds at a place."""

_HIDDEN = "…"
_LONGEST = 300
_MOST_FAULTS = 3

_NOT_TOLD = (dict, list, tuple, set, frozenset, bool, type(None))

# Faults whose words from the validator name properties of the answer.
_ABOUT_NAMES = frozenset({"additionalProperties", "unevaluatedProperties", "propertyNames"})

# Pydantic's own words quote no input, but for the tag of a union; those of a validator are its author's
# (pydantic-core 2.50, 2026-11).
_OWN_WORDS = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error", "union_tag_invalid"}


@dataclass(frozen=True)
class Misfit:
    """Why an answer does not fit; one sentence that can be shown to a person and to the model."""

    problem: str


class Wording:
    """Tells misfits in the names that a schema gives to properties.

    Args:
        schema: a JSON schema.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._names = frozenset(_names(schema))

    def of_schema(self, error: ValidationError) -> Misfit:
        """Return what a validator with `MASK` says."""
        is_about_names = error.kind.name in _ABOUT_NAMES
        fact = "it has a property that the schema does not allow" if is_about_names else error.message[:_LONGEST]
        places = (part if part in self._names or isinstance(part, int) else _HIDDEN for part in error.instance_path)
        return Misfit(_at(places, fact))

    def of_type(self, error: PydanticError, answer: object) -> Misfit:
        """Return what pydantic says, of at most three faults.

        Args:
            answer: the JSON value that was read. Its own keys are hidden; other words of a place name a choice of a union.
        """
        hidden = set(_keys(answer)) - self._names
        found = error.errors(include_url=False, include_context=False)[:_MOST_FAULTS]
        faults = (
            _at((_HIDDEN if part in hidden else part for part in one["loc"]), _fact(one, hidden)) for one in found
        )
        return Misfit("; ".join(faults))


def _at(place: Iterable[str | int], fact: str) -> str:
    return f"at {'/'.join(map(str, place)) or 'the top'}: {fact}"


def _fact(fault: ErrorDetails, hidden: set[str]) -> str:
    words = fault["msg"]
    if fault["type"] not in _OWN_WORDS:
        words = _without(hidden.union(_leaves(fault["input"])), words)
    return f"{words[:_LONGEST]} ({fault['type']})"


def _without(texts: set[str], words: str) -> str:
    """Return the words of a validator's author with what they repeat of the answer left out, as it is or as Python shows it."""
    spelt = {spelling for text in texts for spelling in (text, repr(text)[1:-1])}
    repeated = sorted((text for text in spelt if text and text in words), key=len, reverse=True)
    if not repeated:
        return words
    return re.sub("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in repeated), _HIDDEN, words)


def _keys(value: object) -> Iterator[str]:
    """Yield the keys of all objects within a JSON value."""
    return (str(key) for node in _nodes(value) if isinstance(node, dict) for key in node)


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts and numbers within a value."""
    return (str(node) for node in _nodes(value) if not isinstance(node, _NOT_TOLD))


def _nodes(value: object) -> Iterator[object]:
    """Yield a value and all within it."""
    open_ = [value]
    while open_:
        node = open_.pop()
        yield node
        if isinstance(node, dict):
            open_.extend(node.values())
        elif isinstance(node, list | tuple | set | frozenset):
            open_.extend(node)


def _names(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all properties that a schema spells, wherever they are."""
    for node in _nodes(schema):
        properties = node.get("properties") if isinstance(node, dict) else None
        if isinstance(properties, dict):
            yield from properties
