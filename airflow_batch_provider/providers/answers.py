"""A model's answer made a reply, by the same rules for every provider."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.models import REFUSED, Reply, RowError, Usage
from airflow_batch_provider.providers.untrusted import as_arguments, as_text, as_vector, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

EMPTY = RowError(code="empty_answer", message="The model made no answer.", retryable=True)


@dataclass(frozen=True)
class Answered:
    """Whose answer it is, and what it took.

    Attributes:
        model: the provider's name of the model that answered, of any length.
    """

    key: str
    usage: Usage
    model: object

    def reply(self, **fields: Any) -> Reply:
        """Return a reply about this row."""
        return Reply(key=self.key, usage=self.usage, model=one_line(self.model, 200) or None, **fields)

    def failed(self, error: RowError, finish: str | None = None) -> Reply:
        """Return the reply for an answer that is none."""
        return self.reply(status="failed", error=error, finish_reason=finish)

    def refused(self, why: str) -> Reply:
        """Return the reply for a model that refused to answer; asking it again would be refused again."""
        message = f"{REFUSED} {one_line(why)}".rstrip()
        return self.failed(RowError(code="refusal", message=message, retryable=False), "refusal")

    def said(
        self, messages: list[list[str]], calls: list[dict[str, Any]], finish: str | None, other: Iterable[str] = ()
    ) -> Reply:
        """Return the reply for what the model wrote and called: its whole text, in order, and what a schema may choose.

        Args:
            messages: the texts of the parts of each message, or run of blocks, that stands by itself.
            other: kinds of parts that are neither text nor calls, such as images.
        """
        finish = one_line(finish, 80) or None
        text = "".join(part for parts in messages for part in parts)
        if calls:
            output = {"tool_calls": calls, "text": text or None}
            return self.reply(
                status="succeeded", output=output, finish_reason="tool_use" if finish == "stop" else finish
            )
        if text.strip():
            return self.reply(status="succeeded", output=text, finish_reason=finish, choices=choices(messages))
        if finish == "max_tokens":
            return self.failed(_CUT, finish)
        if other:
            message = f"The answer has no text but {one_line(', '.join(sorted(set(other))))}."
            return self.failed(RowError(code="unsupported_output", message=message, retryable=False), finish)
        return self.failed(EMPTY, finish)

    def answered_by_tools(self, inputs: list[object], finish: str | None) -> Reply:
        """Return the reply for calls of the tool by which a model is made to answer: the first that fits is the answer.

        Args:
            inputs: of the calls, in order; an empty one answers only where no other call does.
        """
        texts = _full_first([one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in inputs])
        reply = self.said([texts[:1]], [], finish)
        return replace(reply, choices=tuple(texts[1:])) if reply.status == "succeeded" else reply

    def vector(self, value: object) -> Reply:
        """Return the reply for an embedding."""
        if not value:
            return self.failed(EMPTY)
        if (numbers := as_vector(value)) is None:
            return self.failed(_NOT_FINITE)
        return self.reply(status="succeeded", output=numbers, finish_reason="stop")


_CUT = RowError(
    code="truncated",
    message="The answer was cut off at its max_tokens before any text: the model may have thought them all away.",
    retryable=True,
)
_NOT_FINITE = RowError(
    code="unusable_vector", message="The vector holds something that is not a finite number.", retryable=False
)


def unreadable(key: str) -> Reply:
    """Return the reply for a result of which only the key can be read; it may have been paid, so it is not asked again."""
    message = "The provider sent a result that cannot be read."
    return Reply(key=key, status="failed", error=RowError(code="unreadable_result", message=message, retryable=False))


def choices(messages: list[list[str]]) -> tuple[str, ...]:
    """Return the pieces of an answer in several that may be the JSON it was asked for, the likeliest first.

    A model may write a preamble, or a first try, before its answer (557 of 233,124 lines of one job with OpenAI's
    `responses`, reported as mira#70): later messages go first, whole ones before their parts. The parts of a message follow
    each other without a break, so a list among them may be the mark of a source, such as `[1]`, and is none.
    """
    if sum(map(len, messages)) < 2:
        return ()
    whole = ["".join(parts) for parts in messages] if len(messages) > 1 else []
    pieces = [part for parts in messages if len(parts) > 1 for part in parts if part.lstrip()[:1] == "{"]
    found = [text for text in (*reversed(whole), *reversed(pieces)) if _is_json(text)]
    return tuple(dict.fromkeys(_full_first(found)))


def _full_first(texts: list[str]) -> list[str]:
    """Return the texts in their order, those that say nothing last: `{}` may fit, and must not hide an answer beside it."""
    return sorted(texts, key=lambda text: "".join(text.split()) in _SAY_NOTHING)


_SAY_NOTHING = frozenset({"", "{}", "[]", "null", '""'})


def _is_json(text: str) -> bool:
    """Return True for the JSON of an object or a list."""
    if text.lstrip()[:1] not in {"{", "["}:
        return False
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def call(ident: object, name: object, arguments: object) -> dict[str, Any]:
    """Return one call of a tool; arguments in a text are read, and stay text if they are not JSON."""
    read = arguments
    if isinstance(arguments, str):
        try:
            read = msgspec.json.decode(arguments)
        except (msgspec.MsgspecError, RecursionError):
            return {"id": as_text(ident) or None, "name": as_text(name) or None, "arguments": arguments}
    return {"id": as_text(ident) or None, "name": as_text(name) or None, "arguments": as_arguments(read)}
