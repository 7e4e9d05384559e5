"""Anthropic's batch result lines, in our words; pure.

Shapes: https://platform.claude.com/docs/en/api/messages-batches and anthropic 2.12 (`types/messages`), read 2026-11.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.answers import Answered, call, unreadable
from airflow_batch_provider.providers.untrusted import (
    MOST,
    as_count,
    as_error,
    as_object,
    as_objects,
    as_text,
    one_line,
)

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


def reply(key: str, record: dict[str, Any]) -> Reply:
    """Return what one line of a batch's results says."""
    result = record.get("result")
    if not isinstance(result, dict):
        return unreadable(key)
    word = one_line(result.get("type"), 80) or "untyped"
    if word == "succeeded":
        return _answer(key, as_object(result.get("message")))
    if word == "errored":
        return Reply(key=key, status="failed", error=_row_error(as_error(result.get("error"))))
    if word in {"canceled", "expired"}:
        error = RowError(code=word, message=f"The batch {word} before this request was sent.", retryable=True)
        return Reply(key=key, status="cancelled" if word == "canceled" else "expired", error=error)
    error = RowError(code=word, message="A result of a type that is not documented.", retryable=True)
    return Reply(key=key, status="failed", error=error)


def _row_error(error: dict[str, Any]) -> RowError:
    """Return the error of an errored row, which stands in an envelope of its own."""
    inner = as_object(error.get("error")) or error
    code = one_line(inner.get("type"), 80) or "unknown_error"
    return RowError(code=code, message=one_line(inner.get("message")), retryable=RETRYABLE.get(code, True))


def _answer(key: str, message: dict[str, Any]) -> Reply:
    if not isinstance(message.get("content"), list):
        return unreadable(key)
    word, content = as_text(message.get("stop_reason")), as_objects(message["content"])
    finish, answered = FINISH.get(word, word or None), Answered(key, usage(message), message.get("model"))
    if finish == "refusal":
        return answered.refused(as_text(as_object(message.get("stop_details")).get("explanation")))
    if finish == "pause_turn":
        return answered.failed(_PAUSED, finish)
    calls = [block for block in content if block.get("type") == "tool_use"]
    if calls and all(block.get("name") == ANSWER_TOOL for block in calls):
        inputs = [block.get("input") for block in calls]
        return answered.answered_by_tools(inputs, "stop" if finish == "tool_use" else finish)
    tools = [call(block.get("id"), block.get("name"), block.get("input")) for block in calls]
    return answered.said(_texts(content), tools, finish, {one_line(b.get("type"), 40) for b in content} - _PARTS)


_PAUSED = RowError(
    code="pause_turn", message="A server tool paused the turn before the answer was complete.", retryable=True
)
_PARTS = {"text", "tool_use", "thinking", "redacted_thinking"}


def _texts(content: list[dict[str, Any]]) -> list[list[str]]:
    """Return the texts between the other blocks; citations split one text into several blocks."""
    runs = groupby(content, key=_is_text)
    return [[as_text(block.get("text")) for block in blocks] for is_text, blocks in runs if is_text]


def _is_text(block: dict[str, Any]) -> bool:
    return block.get("type") == "text"


def usage(message: dict[str, Any]) -> Usage:
    """Return the tokens of one message; Anthropic counts cache reads and writes beside `input_tokens`, not inside."""
    told = as_object(message.get("usage"))
    by_life = as_object(told.get("cache_creation"))
    long = as_count(by_life.get("ephemeral_1h_input_tokens"))
    # The sum is authoritative; a gateway that leaves it out may still tell its parts.
    written = as_count(told.get("cache_creation_input_tokens")) or long + as_count(
        by_life.get("ephemeral_5m_input_tokens")
    )
    read = as_count(told.get("cache_read_input_tokens"))
    tools = as_object(told.get("server_tool_use"))
    return Usage(
        input_tokens=as_count(told.get("input_tokens")) + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        long_cache_write_tokens=min(long, written),
        output_tokens=as_count(told.get("output_tokens")),
        reasoning_tokens=as_count(as_object(told.get("output_tokens_details")).get("thinking_tokens")),
        web_searches=as_count(tools.get("web_search_requests")),
        other_tool_calls=_other_tools(message, tools),
        other_tier_requests=int(any(word not in _USUAL[name] for name in _USUAL if (word := as_text(told.get(name))))),
    )


# Words of `usage` under which a batch costs what the price list says. Priority, fast mode and inference in the US only
# have prices of their own. https://platform.claude.com/docs/en/about-claude/pricing, read 2026-11.
_USUAL = {
    "service_tier": frozenset({"batch", "standard"}),
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global", "not_available"}),
}
# Web fetches cost nothing but their tokens (same page); a search is counted on its own.
_PRICED_TOOLS = frozenset({"web_search_requests", "web_fetch_requests"})
_PRICED_CALLS = frozenset({"web_search", "web_fetch"})


def _other_tools(message: dict[str, Any], tools: dict[str, Any]) -> int:
    """Return the uses of server tools that are charged by something else than calls, such as the hours of a container."""
    told = sum(as_count(count) for name, count in tools.items() if name not in _PRICED_TOOLS)
    blocks = [block for block in as_objects(message.get("content")) if block.get("type") == "server_tool_use"]
    calls = sum(as_text(block.get("name")) not in _PRICED_CALLS for block in blocks)
    return min(max(told, calls), MOST)
