"""The outcome of a row: ordered by a marker in its prompt or by a rule, else a plain answer."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from airflow_batch_provider.emulator.instructions import Amount, Count, Instruction

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal[
    "answer", "error", "refusal", "truncated", "bad_json", "bad_schema", "empty", "tool_use", "missing", "expired", "cancelled",
]  # fmt: skip
KINDS = tuple(kind for kind in get_args(Kind) if kind not in ("answer", "error"))
NUMBERS = ("cached", "reasoning", "pad", "copies")
SWITCHES = ("separators", "stranger")
_MARKER = re.compile(r"\[\[emulate:([^\]]*)\]\]")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one row, with the oddities of its answer."""

    kind: Kind = "answer"
    error: str = ""
    """Which error, when kind is `error`: `overloaded`, `rate_limit`, `invalid_request` …"""
    cached: int = 0
    reasoning: int = 0
    pad: int = 0
    """So many characters are added to the answer."""
    copies: int = 1
    """How often the result line appears."""
    separators: bool = False
    stranger: bool = False
    """Whether a result line with a key nobody asked for comes along."""

    @property
    def billed(self) -> bool:
        """Whether the model ran, so that the row costs money; a lost result was paid too."""
        return self.kind not in ("error", "expired", "cancelled")


NOT_SENT = ("missing", "expired", "cancelled")
"""Kinds without an answer."""

PLAIN = Outcome()
EXPIRED = Outcome(kind="expired")
CANCELLED = Outcome(kind="cancelled")
TIMED_OUT = Outcome(kind="error", error="timeout")


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"'{name}' needs a number, not {value!r}: for example '{name}=2'.")
    return int(value)


@dataclass(frozen=True, slots=True)
class Directive:
    """Changes to an outcome, for the first `times` askings of the same prompt or for all."""

    changes: tuple[tuple[str, Any], ...]
    times: int | None = None

    def apply(self, outcome: Outcome, asked: int) -> Outcome:
        """Return the outcome after this directive, for a prompt asked `asked` times before."""
        if self.times is not None and asked >= self.times:
            return outcome
        return dataclasses.replace(outcome, **dict(self.changes))


def directives(text: str) -> tuple[Directive, ...]:
    """Return the markers in a prompt; one that cannot be read fails its row with a message that quotes it."""
    if "[[emulate:" not in text:
        return ()
    return tuple(_read_marker(marker) for marker in _MARKER.findall(text))


def _read_marker(marker: str) -> Directive:
    try:
        return directive(marker)
    except ValueError:
        return Directive((("kind", "error"), ("error", marker)))


def directive(words: str) -> Directive:
    """Read `error=overloaded,times=1`, `refusal`, `cached=10` …; raise `ValueError` for an unknown word."""
    changes: dict[str, Any] = {}
    times = None
    for word in filter(None, (part.strip() for part in words.split(","))):
        name, _, value = word.partition("=")
        if name == "times":
            times = _number(name, value)
        else:
            changes |= _change(name, value)
    return Directive(tuple(changes.items()), times)


def _change(name: str, value: str) -> dict[str, Any]:
    if name == "error":
        return {"kind": "error", "error": value or "api"}
    if name in KINDS:
        return {"kind": name}
    if name in SWITCHES:
        return {name: True}
    if name in NUMBERS:
        return {name: _number(name, value)}
    if name == "duplicate":
        return {"copies": 2}
    known = ("error=…", *KINDS, *SWITCHES, *(f"{number}=…" for number in NUMBERS), "duplicate", "times=…")
    raise ValueError(f"No outcome {name!r}. Choose among: {', '.join(known)}.")


class Rule(Instruction):
    """A directive for rows of choice: by key, by position, or a share of all."""

    do: Annotated[str, Field(description="for example 'error=overloaded' or 'refusal'")]
    times: Count | None = None
    provider: str = "*"
    keys: str = "*"
    """A shell pattern over the rows' keys."""
    indexes: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    ratio: Amount = 1.0

    @functools.cached_property
    def directive(self) -> Directive:
        """The outcome that is ordered; raises `ValueError` for a word that does not exist."""
        read = directive(self.do)
        return read if self.times is None else dataclasses.replace(read, times=self.times)

    @model_validator(mode="after")
    def _is_understood(self) -> Self:
        _ = self.directive
        return self

    def hits(self, provider: str, key: str, index: int, seed: int) -> bool:
        """Return whether this rule is about that row; a ratio hits the same rows every time."""
        return (
            fnmatch.fnmatchcase(provider, self.provider)
            and fnmatch.fnmatchcase(key, self.keys)
            and (self.indexes is None or index in self.indexes)
            and (self.ratio >= 1.0 or _share(key, index, seed) < self.ratio)
        )


def _share(key: str, index: int, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{index}:{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def decide(directives: Sequence[Directive], asked: int, separators: bool) -> Outcome:
    """Return the outcome of a row, later directives over earlier ones."""
    outcome = dataclasses.replace(PLAIN, separators=True) if separators else PLAIN
    for directive in directives:
        outcome = directive.apply(outcome, asked)
    return outcome
