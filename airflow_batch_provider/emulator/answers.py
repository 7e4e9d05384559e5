"""Answers that follow from the question alone, and prove which question they belong to."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_batch_provider.emulator.jsonl import Json, dump
from airflow_batch_provider.emulator.schemas import instance, misfit

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.outcomes import Outcome

SEPARATORS = "\u2028\u2029\u0085"
REFUSAL = "I can't help with that."


class Unacceptable(Exception):
    """The model would refuse to read this request; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def refuse_malformed(read: Callable[[Any, Json], Ask]) -> Callable[[Any, Json], Ask]:
    """Make a codec's `ask` raise `Unacceptable` for a field of another type than expected."""

    @functools.wraps(read)
    def reading(codec: Any, request: Json) -> Ask:
        try:
            return read(codec, request)
        except (AttributeError, TypeError, LookupError, ValueError) as error:
            raise Unacceptable(f"The request cannot be read: {error}.") from None

    return reading


@dataclass(frozen=True, slots=True)
class Ask:
    """The question of a request, whatever its provider."""

    model: str
    prompt: str
    """The text of the last thing the user said."""
    context: str = ""
    """Everything before it: system text and earlier turns."""
    schema: Json | None = None
    tool: str | None = None
    """The tool to call, when the request forces one or the outcome wants a call."""
    max_tokens: int | None = None
    inputs: tuple[str, ...] = ()
    """The texts to embed, when this is an embedding."""
    dimensions: int | None = None

    def __post_init__(self) -> None:
        """Refuse a schema that no value fits, like any other bad field."""
        if self.schema is not None and (why := _unfit(json.dumps(self.schema))):
            raise Unacceptable(f"schema: {why}", "schema")

    @property
    def digest(self) -> bytes:
        """Sixteen bytes that stand for everything the model reads."""
        texts = (self.context, self.prompt, *self.inputs)
        return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()[:16]

    @property
    def tokens(self) -> int:
        """The tokens that the emulator counts for the question."""
        return sum(tokens(text) for text in (self.context, self.prompt, *self.inputs) if text) or 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's text and the tokens it counts; `cached` is part of `read`, `reasoning` of `written`."""

    text: str
    finish: Literal["stop", "length", "refusal", "tool"]
    read: int
    cached: int
    written: int
    reasoning: int
    call: Json = field(default_factory=dict)
    """The arguments of the tool call, when finish is `tool`."""


@functools.lru_cache(maxsize=256)
def _unfit(schema: str) -> str | None:
    """Return why no answer can be made for a schema, if so."""
    try:
        instance(json.loads(schema), "probe")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return f"{error} ({type(error).__name__})"
    return None


def tokens(text: str) -> int:
    """Return one token for four bytes, rounded up."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def answer(ask: Ask, outcome: Outcome) -> Answer:
    """Return the answer to a question under that outcome: the same every time."""
    calls = outcome.kind == "tool_use" or ask.tool is not None
    text = _text(ask, outcome)
    reasoning = outcome.reasoning
    written = max(1, tokens(text)) + reasoning
    return Answer(
        text=text,
        finish=_finish(outcome, calls),
        read=ask.tokens,
        cached=min(outcome.cached, ask.tokens),
        written=written if ask.max_tokens is None else max(1, min(written, ask.max_tokens)),
        reasoning=reasoning if ask.max_tokens is None else min(reasoning, ask.max_tokens),
        call=_call(ask, outcome) if calls else {},
    )


def _finish(outcome: Outcome, calls: bool) -> Literal["stop", "length", "refusal", "tool"]:
    if outcome.kind == "refusal":
        return "refusal"
    if outcome.kind == "truncated":
        return "length"
    return "tool" if calls and outcome.kind != "empty" else "stop"


def _text(ask: Ask, outcome: Outcome) -> str:
    match outcome.kind:
        case "empty":
            return ""
        case "refusal":
            return REFUSAL
        case "bad_json":
            return '{"broken": "' + ask.prompt[:40].replace('"', "'")
        case "bad_schema":
            return dump(misfit(ask.schema or {}, seed(ask, outcome)))
        case "truncated":
            whole = _whole(ask, outcome)
            return whole[: max(1, len(whole) // 2)]
        case _:
            return _whole(ask, outcome)


def _whole(ask: Ask, outcome: Outcome) -> str:
    if ask.schema is None:
        return f"echo: {seed(ask, outcome)}"
    return dump(instance(ask.schema, seed(ask, outcome)))


def _call(ask: Ask, outcome: Outcome) -> Json:
    schema = ask.schema or {"type": "object", "properties": {"echo": {"type": "string"}}, "required": ["echo"]}
    value = misfit(schema, seed(ask, outcome)) if outcome.kind == "bad_schema" else instance(schema, seed(ask, outcome))
    return value if isinstance(value, dict) else {"value": value}


def seed(ask: Ask, outcome: Outcome) -> str:
    """Return the text that string fields carry: the prompt, with the oddities that were ordered."""
    return ask.prompt + (SEPARATORS if outcome.separators else "") + "x" * outcome.pad


def vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that depends on the text alone."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    values = [number / 2**31 for number in struct.unpack(f">{dimensions}i", raw)]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [round(value / length, 8) for value in values]


def text_of(content: object) -> str:
    """Return all text in a string, a part, or a list of parts of any provider."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    if isinstance(content, Mapping):
        return text_of(content.get("text") or content.get("parts") or content.get("content") or "")
    return ""
