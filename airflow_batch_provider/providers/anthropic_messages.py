"""Anthropic's Messages bodies and batch result lines, in and out of our words; pure.

Shapes: https://platform.claude.com/docs/en/api/messages-batches and anthropic 2.12 (`types/messages`), read 2026-11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import Rejected, UsageError
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.base import Codec
from airflow_batch_provider.providers.schema import Dialect, strict
from airflow_batch_provider.providers.wire import as_count, as_object, as_objects, as_text, clip, read_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRequest, Kind, Spec

# String formats and the rest: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (2026-11).
DIALECT = Dialect("Anthropic", frozenset({"format"}), every_property=False, recursion=False)

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


class AnthropicCodec(Codec):
    """Bodies of POST /v1/messages, elements of a batch's `requests`, and lines of its results."""

    def decode(self, line: bytes, kind: Kind) -> Reply:  # noqa: ARG002
        """Return what one line of the results says."""
        return decode(line)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """The body of POST /v1/messages for one row; `output_config` of several sources is joined, all else is replaced."""
        body: dict[str, Any] = {"model": spec.model, "max_tokens": request.max_tokens or spec.max_tokens}
        body["messages"] = request.messages or [{"role": "user", "content": request.prompt}]
        if system := request.system or spec.system:
            body["system"] = system
        extra = {**spec.request_params, **request.request_params}
        config = {**as_object(spec.request_params.get("output_config")), **as_object(extra.get("output_config"))}
        body |= extra
        schema = request.output_type or spec.output_schema
        if schema is not None:
            native = strict(schema, DIALECT)
            if native is None:
                return _checked({**body, **_by_tool(schema, body)})
            config = {"format": {"type": "json_schema", "schema": native}, **config}
        return _checked({**body, **({"output_config": config} if config else {})})

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """One element of `requests`."""
        return b'{"custom_id":%b,"params":%b}' % (msgspec.json.encode(key), body)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The body with the answer and the problem appended; an empty answer is left out, which Anthropic would refuse."""
        told = [{"role": "assistant", "content": answer}] if answer.strip() else []
        return {**body, "messages": [*body["messages"], *told, {"role": "user", "content": problem}]}

    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The body with `factor` times as many `max_tokens`."""
        return {**body, "max_tokens": body["max_tokens"] * factor}


def _by_tool(schema: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    clash = [name for name in ("tools", "tool_choice", "thinking") if name in body]
    if clash:
        raise UsageError(
            "Anthropic holds a schema with open dictionaries, tuples or recursion only by a forced tool, which cannot "
            f"go together with {clash[0]!r}. Name the fields in the schema, or drop {clash[0]!r} from request_params."
        )
    tool = {"name": ANSWER_TOOL, "description": "Give the answer.", "input_schema": schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": ANSWER_TOOL}}


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """The body, unless the batch API would refuse it, which it does per row and hours later."""
    refused = {
        "stream": bool(body.get("stream")),
        "speed": body.get("speed") == "fast",
        "max_tokens": not body.get("max_tokens"),
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise UsageError(f"Anthropic takes no {name}={body.get(name)!r} in a batch. Drop it from request_params.")
    return body


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
    error = RowError(code=clip(word, 80), message="A result of a type that is not documented.", retryable=True)
    return Reply(key=key, status="failed", error=error)


def _row_error(error: dict[str, Any]) -> RowError:
    """The error of an errored row, which stands in an envelope of its own."""
    inner = as_object(error.get("error")) or error
    code = as_text(inner.get("type")) or "unknown_error"
    message = clip(as_text(inner.get("message")))
    return RowError(code=clip(code, 80), message=message, retryable=RETRYABLE.get(code, True))


def _answer(key: str, message: dict[str, Any]) -> Reply:
    word = as_text(message.get("stop_reason"))
    finish = FINISH.get(word, word or None)
    known = {"key": key, "usage": usage(message), "model": as_text(message.get("model")) or None}
    if finish in _UNANSWERED:
        details = as_text(as_object(message.get("stop_details")).get("explanation"))
        error = _UNANSWERED[finish]
        told = error.model_copy(update={"message": f"{error.message} {clip(details)}".rstrip()})
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
