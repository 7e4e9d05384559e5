"""Gemini's batch results, in our words; pure.

Shapes: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/batch-api and google-genai 3.4, read 2026-11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.untrusted import as_object, as_objects, as_text, one_line, read_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind, RowStatus

_INT64 = re.compile(r"[0-9]{1,18}")

FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "max_tokens",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "ESCALATION",
        ),
        "refusal",
    ),
}
"""`finishReason` → our finish reason."""

BROKEN = frozenset(
    {
        "FINISH_REASON_UNSPECIFIED",
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
        "CONTINUATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
    }
)
"""`finishReason`s of answers that did not come about; asking again may help. One in neither table says nothing bad."""

CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
"""google.rpc.Code, https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (2026-11)."""

PERMANENT = frozenset({3, 5, 6, 7, 9, 11, 12, 16})
"""Codes of rows that asking again does not cure; one that is in no table may, for failed rows cost nothing."""

_UNRUN: dict[int, RowStatus] = {1: "cancelled", 4: "expired"}


def decode(raw: bytes, kind: Kind) -> Reply:
    """What one line of the results says.

    Raises:
        Rejected: no JSON object, or no `key` in it.
    """
    return read(read_object(raw), kind)


def read(record: dict[str, Any], kind: Kind) -> Reply:
    """What one result says; in a file it has its `key` beside it, inlined in its `metadata`.

    Raises:
        Rejected: it has no key.
    """
    key = record.get("key", as_object(record.get("metadata")).get("key"))
    if not isinstance(key, str):
        raise Rejected("A result has no key, so nobody can tell which row it answers.", code="unreadable_line")
    response = record.get("response")
    if not isinstance(response, dict):
        return _unanswered(key, as_object(record.get("error")) or as_object(record.get("status")))
    return _vector(key, response) if kind == "embed" else _answer(key, response)


def _unanswered(key: str, error: dict[str, Any]) -> Reply:
    code = error.get("code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else 0
    message = one_line(error.get("message")) or "The request was not executed."
    told = RowError(code=CODES.get(code, f"code_{code}"), message=message, retryable=not _permanent(code))
    return Reply(key=key, status=_UNRUN.get(code, "failed"), error=told)


def _permanent(code: int) -> bool:
    """True for a refusal for good; a code above those of google.rpc is one of HTTP."""
    return code in PERMANENT or (400 <= code < 500 and code not in {408, 409, 429, 499})


def _answer(key: str, response: dict[str, Any]) -> Reply:
    known = {"key": key, "usage": usage(response), "model": as_text(_field(response, "modelVersion")) or None}
    candidate = next(iter(as_objects(response.get("candidates"))), {})
    blocked = as_text(_field(as_object(_field(response, "promptFeedback")), "blockReason"))
    word = as_text(_field(candidate, "finishReason"))
    finish = FINISH.get(word, word or None)
    if finish == "refusal" or (blocked and not candidate):
        why = as_text(_field(candidate, "finishMessage"))
        return Reply(**known, status="failed", error=_refusal(blocked or word, why), finish_reason="refusal")
    output, finish = _output(candidate, finish)
    if error := _flaw(output, word, candidate):
        return Reply(**known, status="failed", error=error, finish_reason=finish)
    return Reply(**known, status="succeeded", output=output, finish_reason=finish)


def _refusal(word: str, why: str) -> RowError:
    message = f"The model refused to answer: {one_line(word, 80)}. {one_line(why)}".rstrip()
    return RowError(code="refusal", message=message, retryable=False)


def _output(candidate: dict[str, Any], finish: str | None) -> tuple[Any, str | None]:
    """Text and calls of the answer, without the model's thoughts."""
    parts = [part for part in _parts(candidate) if part.get("thought") is not True]
    text = "".join(as_text(part.get("text")) for part in parts)
    calls = [
        {"id": call.get("id"), "name": call.get("name"), "arguments": as_object(call.get("args"))}
        for part in parts
        if (call := as_object(_field(part, "functionCall")))
    ]
    if not calls:
        return text, finish
    return {"tool_calls": calls, "text": text or None}, "tool_use" if finish == "stop" else finish


def _flaw(output: Any, word: str, candidate: dict[str, Any]) -> RowError | None:
    """Why an answer that was not refused is none; one cut at `max_tokens` may be empty, when thinking took them all."""
    if word in BROKEN:
        return RowError(code=word, message=_UNMADE, retryable=True)
    if output or word == "MAX_TOKENS":
        return None
    strange = sorted({name for part in _parts(candidate) for name in part} - {"text", "thought", "thoughtSignature"})
    if strange:
        message = f"The answer holds no text but {one_line(', '.join(strange))}."
        return RowError(code="unsupported_output", message=message, retryable=False)
    return RowError(code="empty_answer", message=_UNMADE, retryable=True)


_UNMADE = "The model made no answer."


def _parts(candidate: dict[str, Any]) -> list[dict[str, Any]]:
    return as_objects(as_object(candidate.get("content")).get("parts"))


def _vector(key: str, response: dict[str, Any]) -> Reply:
    known = {"key": key, "usage": usage(response), "model": as_text(_field(response, "modelVersion")) or None}
    values = as_object(response.get("embedding")).get("values")
    if not isinstance(values, list) or not values or not all(type(value) in {int, float} for value in values):
        return Reply(**known, status="failed", error=RowError(code="empty_answer", message=_UNMADE, retryable=True))
    return Reply(**known, status="succeeded", output=[float(value) for value in values], finish_reason="stop")


def usage(response: dict[str, Any]) -> Usage:
    """Tokens of one response; Gemini counts thoughts beside the answer and tool results beside the prompt."""
    told = as_object(_field(response, "usageMetadata"))
    thoughts = _tokens(told, "thoughtsTokenCount")
    asked = _tokens(told, "promptTokenCount") + _tokens(told, "toolUsePromptTokenCount")
    return Usage(
        input_tokens=asked or _tokens(response, "tokenCount"),
        cached_tokens=_tokens(told, "cachedContentTokenCount"),
        output_tokens=_tokens(told, "candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
    )


def _tokens(fields: dict[str, Any], name: str) -> int:
    return int64(_field(fields, name))


def int64(value: object) -> int:
    """A count, which JSON of protocol buffers writes as a text; 0 when it is none."""
    if isinstance(value, str) and _INT64.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _field(fields: dict[str, Any], name: str) -> Any:
    """The field by its camelCase name, or by the snake_case one that some results carry."""
    if name in fields:
        return fields[name]
    return fields.get(re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
