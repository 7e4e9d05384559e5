"""Anthropic's batch result lines, in our words; pure.

Shapes: https://platform.claude.com/docs/en/api/messages-batches and anthropic 2.12 (`types/messages`), read 2026-11.
"""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.untrusted import as_count, as_object, as_objects, as_text, one_line, read_object

ANSWER_TOOL = "structured_answer"
"""Name of the tool by which the model answers when its schema has open dictionaries, which `output_config` drops."""

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "pause_turn": "pause_turn",
}
"""`stop_reason` → our finish reason."""

RETRYABLE = {
    "api_error": True,
    "overloaded_error": True,
    "rate_limit_error": True,
    "timeout_error": True,
    "conflict_error": True,
    # Nothing was billed, and the next create says `Paused` when there still is no money.
    "billing_error": True,
    "invalid_request_error": False,
    "authentication_error": False,
    "permission_error": False,
    "not_found_error": False,
    "memory_precondition_failed_error": False,
    "memory_path_conflict_error": False,
}
"""Type of an errored row → may the next wave ask again. A type that is not here may: errored rows cost nothing."""


def decode(raw: bytes) -> Reply:
    """What one line of a batch's results says.

    Raises:
        Rejected: no JSON object, or no `custom_id` and `result` in it.
    """
    record = read_object(raw)
    key, result = record.get("custom_id"), record.get("result")
    if not isinstance(key, str) or not isinstance(result, dict):
        raise Rejected(f"A line of {len(raw)} bytes has no custom_id and result.", code="unreadable_line")
    word = as_text(result.get("type")) or "untyped"
    if word == "succeeded":
        return _answer(key, as_object(result.get("message")))
    if word == "errored":
        return Reply(key=key, status="failed", error=_row_error(as_object(result.get("error"))))
    if word in {"canceled", "expired"}:
        error = RowError(code=word, message=f"The batch {word} before this request was sent.", retryable=True)
        return Reply(key=key, status="cancelled" if word == "canceled" else "expired", error=error)
    error = RowError(code=one_line(word, 80), message="A result of a type that is not documented.", retryable=True)
    return Reply(key=key, status="failed", error=error)


def _row_error(error: dict[str, Any]) -> RowError:
    """The error of an errored row, which stands in an envelope of its own."""
    inner = as_object(error.get("error")) or error
    code = as_text(inner.get("type")) or "unknown_error"
    message = one_line(inner.get("message"))
    return RowError(code=one_line(code, 80), message=message, retryable=RETRYABLE.get(code, True))


def _answer(key: str, message: dict[str, Any]) -> Reply:
    word = as_text(message.get("stop_reason"))
    finish = FINISH.get(word, word or None)
    known = {"key": key, "usage": usage(message), "model": as_text(message.get("model")) or None}
    if finish in _UNANSWERED:
        details = as_text(as_object(message.get("stop_details")).get("explanation"))
        error = _UNANSWERED[finish]
        told = error.model_copy(update={"message": f"{error.message} {one_line(details)}".rstrip()})
        return Reply(**known, status="failed", error=told, finish_reason=finish)
    output, finish = _output(as_objects(message.get("content")), finish)
    return Reply(**known, status="succeeded", output=output, finish_reason=finish)


_UNANSWERED = {
    "refusal": RowError(code="refusal", message="The model refused to answer.", retryable=False),
    "pause_turn": RowError(
        code="pause_turn", message="A server tool paused the turn before the answer was complete.", retryable=True
    ),
}


def _output(content: list[dict[str, Any]], finish: str | None) -> tuple[Any, str | None]:
    text = "".join(as_text(block.get("text")) for block in content if block.get("type") == "text")
    calls = [block for block in content if block.get("type") == "tool_use"]
    if not calls:
        return text, finish
    if [call.get("name") for call in calls] == [ANSWER_TOOL]:
        answer = msgspec.json.encode(calls[0].get("input")).decode()
        return answer, "stop" if finish == "tool_use" else finish
    tools = [{"id": c.get("id"), "name": c.get("name"), "arguments": c.get("input")} for c in calls]
    return {"tool_calls": tools, "text": text or None}, finish


def usage(message: dict[str, Any]) -> Usage:
    """Tokens of one message; Anthropic counts cache reads and writes beside `input_tokens`, not inside."""
    told = as_object(message.get("usage"))
    read, written = as_count(told.get("cache_read_input_tokens")), as_count(told.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=as_count(told.get("input_tokens")) + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        output_tokens=as_count(told.get("output_tokens")),
        reasoning_tokens=as_count(as_object(told.get("output_tokens_details")).get("thinking_tokens")),
    )
