"""A text that matches a regular expression, for string fields of a schema that demand one."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# The parser of `re` has no public name since `sre_parse` was deprecated in 3.11.
_parser: Any = importlib.import_module("re._parser")

_SAMPLES = {
    "CATEGORY_DIGIT": "7", "CATEGORY_NOT_DIGIT": "a", "CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_WORD": "a", "CATEGORY_NOT_WORD": "-",
}  # fmt: skip
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))) + " "


def matching(pattern: str, tries: Iterable[str], fits: Callable[[str], bool]) -> str | None:
    """The first of `tries`, or else a text made from the pattern, that matches and fits; None when there is none. Raises `ValueError` for what is not a pattern."""
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}.") from None
    made = (_text(_parser.parse(pattern), more) for more in range(40))
    return next((text for source in (tries, made) for text in source if search(text) and fits(text)), None)


def _text(nodes: Iterable[tuple[Any, Any]], more: int) -> str:
    """Return a text for the nodes; `more` lengthens the parts that may repeat."""
    return "".join(_node(str(kind), value, more) for kind, value in nodes)


def _node(kind: str, value: Any, more: int) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "NOT_LITERAL":
            return "a" if value != ord("a") else "b"
        case "ANY":
            return "a"
        case "IN":
            return _member(value)
        case "BRANCH":
            return _text(value[1][0], more)
        case "SUBPATTERN":
            return _text(value[-1], more)
        case "ATOMIC_GROUP":
            return _text(value, more)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, nodes = value
            return _text(nodes, more) * min(int(most), int(least) + more)
    # Positions and look-arounds take no room; whether they hold is checked at the end.
    return ""


def _member(items: Sequence[tuple[Any, Any]]) -> str:
    """Return a character of a class such as `[a-z_]` or `[^0-9]`."""
    negated = bool(items) and str(items[0][0]) == "NEGATE"
    if negated:
        return next((char for char in _PRINTABLE if not any(_holds(item, char) for item in items[1:])), "a")
    kind, value = items[0]
    match str(kind):
        case "RANGE":
            return chr(value[0])
        case "CATEGORY":
            return _SAMPLES[str(value)]
    return chr(value)


def _holds(item: tuple[Any, Any], char: str) -> bool:
    kind, value = str(item[0]), item[1]
    if kind == "RANGE":
        return bool(value[0] <= ord(char) <= value[1])
    if kind == "CATEGORY":
        return _SAMPLES[str(value)] == char or (str(value) == "CATEGORY_WORD" and char.isalnum())
    return bool(value == ord(char))
