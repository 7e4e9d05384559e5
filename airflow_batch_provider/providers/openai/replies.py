"""OpenAI's batch result lines of chat, responses and embeddings, in our words; pure.

Shapes: https://platform.openai.com/docs/api-reference/batch and openai 3.54 (`types/chat`, `types/responses`), read 2026-11.
"""

from __future__ import annotations

import base64
import struct
from array import array
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.untrusted import as_count, as_object, as_objects, as_text, one_line, read_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind, RowStatus

FINISH = {
    "stop": "stop",
    "length": "max_tokens",
    "max_output_tokens": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""`finish_reason` of chat, and the reason of an incomplete response → our finish reason."""

UNRUN: dict[str, RowStatus] = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
"""Code of a row that was not executed → our row status; a code that is not here was not executed either: `failed`."""

# Codes of refused rows that passing time or a payment cures, whatever the HTTP status says.
_PASSING_CODES = frozenset({"server_error", "rate_limit_exceeded", "insufficient_quota", "vector_store_timeout"})
_PASSING_STATUSES = frozenset({408, 409, 429})


def decode(raw: bytes, kind: Kind) -> Reply:
    """What one line of an output or error file says; the line's content tells, not the file it came from.

    Raises:
        Rejected: no JSON object, or no `custom_id` in it.
    """
    record = read_object(raw)
    key = record.get("custom_id")
    if not isinstance(key, str):
        raise Rejected(f"A line of {len(raw)} bytes has no custom_id.", code="unreadable_line")
    response = record.get("response")
    if not isinstance(response, dict):
        return _unrun(key, as_object(record.get("error")))
    body, status = as_object(response.get("body")), as_count(response.get("status_code"))
    if not 200 <= status < 300:
        return Reply(key=key, status="failed", error=_row_error(as_object(body.get("error")), status))
    if kind == "embed":
        return _vector(key, body)
    return _response(key, body) if "output" in body else _completion(key, body)


def _unrun(key: str, error: dict[str, Any]) -> Reply:
    code = as_text(error.get("code")) or "no_response"
    message = one_line(error.get("message")) or "The request was not executed."
    told = RowError(code=one_line(code, 80), message=message, retryable=True)
    return Reply(key=key, status=UNRUN.get(code, "failed"), error=told)


def _row_error(error: dict[str, Any], status: int) -> RowError:
    code = as_text(error.get("code")) or as_text(error.get("type")) or f"http_{status}"
    passing = status in _PASSING_STATUSES or not 400 <= status < 500 or code in _PASSING_CODES
    return RowError(code=one_line(code, 80), message=one_line(error.get("message")), retryable=passing)


def _completion(key: str, body: dict[str, Any]) -> Reply:
    choice = next(iter(as_objects(body.get("choices"))), None)
    known = {"key": key, "usage": usage(body), "model": as_text(body.get("model")) or None}
    if choice is None:
        return Reply(**known, status="failed", error=_EMPTY)
    word, message = as_text(choice.get("finish_reason")), as_object(choice.get("message"))
    finish, refusal = FINISH.get(word, word or None), as_text(message.get("refusal"))
    if refusal or finish == "refusal":
        return Reply(**known, status="failed", error=_refusal(refusal), finish_reason="refusal")
    calls = [
        {"id": call.get("id"), **_call(as_object(call.get("function")))}
        for call in as_objects(message.get("tool_calls"))
    ]
    return Reply(
        **known, status="succeeded", output=_output(as_text(message.get("content")), calls), finish_reason=finish
    )


def _response(key: str, body: dict[str, Any]) -> Reply:
    known = {"key": key, "usage": usage(body), "model": as_text(body.get("model")) or None}
    status, items = as_text(body.get("status")), as_objects(body.get("output"))
    if status == "cancelled":
        return Reply(**known, status="cancelled", error=_EMPTY)
    if status not in {"completed", "incomplete"}:
        return Reply(**known, status="failed", error=_failed(as_object(body.get("error")), status))
    reason = as_text(as_object(body.get("incomplete_details")).get("reason"))
    calls = [{"id": item.get("call_id"), **_call(item)} for item in items if item.get("type") == "function_call"]
    finish = FINISH.get(reason, reason or "incomplete") if status == "incomplete" else "tool_use" if calls else "stop"
    parts = [part for item in items if item.get("type") == "message" for part in as_objects(item.get("content"))]
    refusal = "".join(as_text(part.get("refusal")) for part in parts if part.get("type") == "refusal")
    if refusal or finish == "refusal":
        return Reply(**known, status="failed", error=_refusal(refusal), finish_reason="refusal")
    text = "".join(as_text(part.get("text")) for part in parts if part.get("type") == "output_text")
    return Reply(**known, status="succeeded", output=_output(text, calls), finish_reason=finish)


def _failed(error: dict[str, Any], status: str) -> RowError:
    """Why a response that ran has no answer; one that never ended may be asked again."""
    code = as_text(error.get("code")) or one_line(status, 80) or "no_status"
    passing = code in _PASSING_CODES or status != "failed"
    return RowError(code=one_line(code, 80), message=one_line(error.get("message")), retryable=passing)


def _vector(key: str, body: dict[str, Any]) -> Reply:
    known = {"key": key, "usage": usage(body), "model": as_text(body.get("model")) or None}
    data = as_objects(body.get("data"))
    vector = data[0].get("embedding") if data else None
    numbers = _floats(vector)
    if not numbers:
        return Reply(**known, status="failed", error=_EMPTY)
    return Reply(**known, status="succeeded", output=numbers, finish_reason="stop")


def _floats(vector: object) -> list[float] | None:
    """The numbers of a list, or of a text as `encoding_format: base64` packs them: little-endian, four bytes each."""
    try:
        if isinstance(vector, str):
            packed = base64.b64decode(vector, validate=True)
            return list(struct.unpack(f"<{len(packed) // 4}f", packed))
        return array("d", vector).tolist() if isinstance(vector, list) else None
    except (TypeError, ValueError, OverflowError, struct.error):
        return None


def _call(function: dict[str, Any]) -> dict[str, Any]:
    """Name and arguments of a call; arguments that are no JSON stay text."""
    arguments = as_text(function.get("arguments"))
    try:
        parsed: Any = msgspec.json.decode(arguments.encode())
    except (msgspec.DecodeError, RecursionError):
        parsed = arguments
    return {"name": function.get("name"), "arguments": parsed}


def _output(text: str, calls: list[dict[str, Any]]) -> Any:
    return {"tool_calls": calls, "text": text or None} if calls else text


_EMPTY = RowError(code="empty_answer", message="The provider sent no answer.", retryable=True)


def _refusal(words: str) -> RowError:
    return RowError(code="refusal", message=f"The model refused to answer. {one_line(words)}".rstrip(), retryable=False)


def usage(body: dict[str, Any]) -> Usage:
    """Tokens of one body; OpenAI counts cached and reasoning tokens inside the sums, under two sets of names."""
    told = as_object(body.get("usage"))
    read = as_object(told.get("prompt_tokens_details") or told.get("input_tokens_details"))
    written = as_object(told.get("completion_tokens_details") or told.get("output_tokens_details"))
    return Usage(
        input_tokens=as_count(told.get("prompt_tokens") or told.get("input_tokens")),
        cached_tokens=as_count(read.get("cached_tokens")),
        cache_write_tokens=as_count(read.get("cache_write_tokens")),
        output_tokens=as_count(told.get("completion_tokens") or told.get("output_tokens")),
        reasoning_tokens=as_count(written.get("reasoning_tokens")),
    )
