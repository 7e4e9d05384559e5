"""A model's answer made a reply, by the same rules for every provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.models import Reply, RowError, Usage
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
        message = f"The model refused to answer. {one_line(why)}".rstrip()
        return self.failed(RowError(code="refusal", message=message, retryable=False), "refusal")

    def said(
        self, texts: list[str], calls: list[dict[str, Any]], finish: str | None, other: Iterable[str] = ()
    ) -> Reply:
        """Return the reply for what the model wrote and called.

        Args:
            texts: one for each message or block that stands by itself.
            other: kinds of parts that are neither text nor calls, such as images.
        """
        finish = one_line(finish, 80) or None
        text = joined(texts)
        if calls:
            output = {"tool_calls": calls, "text": text or None}
            return self.reply(
                status="succeeded", output=output, finish_reason="tool_use" if finish == "stop" else finish
            )
        if text.strip():
            return self.reply(status="succeeded", output=text, finish_reason=finish)
        if finish == "max_tokens":
            return self.failed(_CUT, finish)
        if other:
            message = f"The answer has no text but {one_line(', '.join(sorted(set(other))))}."
            return self.failed(RowError(code="unsupported_output", message=message, retryable=False), finish)
        return self.failed(EMPTY, finish)

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


def joined(texts: list[str]) -> str:
    """Return the text of several pieces: all of them, or the last that is JSON where the whole is not.

    A model may write a preamble, or a first try, before the JSON it was asked for (557 of 233,124 lines of one job with
    OpenAI's `responses`, reported as mira#70).
    """
    whole = "".join(texts)
    if len(texts) < 2 or is_json(whole):
        return whole
    return next((text for text in reversed(texts) if is_json(text)), whole)


def message_text(parts: list[str]) -> str:
    """Return the text of the parts of one message: all of them, or the last that is a JSON object where the whole is not.

    Parts follow each other without a break, so a list as the last of them may be the mark of a source, such as `[1]`.
    """
    whole = "".join(parts)
    if len(parts) < 2 or is_json(whole):
        return whole
    return next((part for part in reversed(parts) if part.lstrip()[:1] == "{" and is_json(part)), whole)


def is_json(text: str) -> bool:
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
