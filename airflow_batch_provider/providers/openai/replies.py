"""OpenAI's batch result lines of chat, responses and embeddings, in our words; pure.

Shapes: https://platform.openai.com/docs/api-reference/batch and openai 3.54 (`types/chat`, `types/responses`), read 2026-11.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.answers import EMPTY, Answered, call, unreadable
from airflow_batch_provider.providers.untrusted import (
    as_count,
    as_error,
    as_object,
    as_objects,
    as_text,
    one_line,
    read_object,
)

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind, RowStatus

FINISH = {
    "stop": "stop",
    "length": "max_tokens",
    "model_length": "max_tokens",  # Mistral's, for the model's own limit
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


def reply(key: str, record: dict[str, Any], kind: Kind) -> Reply:
    """Return what one line of an output or error file says; its content tells, not the file it came from."""
    told, error = record.get("response"), as_error(record.get("error"))
    if not told:
        return _unrun(key, error)
    response = _body(told)
    if not response:
        return _unrun(key, error) if error else unreadable(key)
    body, status = _body(response.get("body")), as_count(response.get("status_code"))
    if not status:
        # Not told, or as no number: the rest of the line says what became of the request.
        if error:
            return _unrun(key, error)
        status = 0 if not body or body.get("error") else 200
    if not 200 <= status < 300:
        return Reply(key=key, status="failed", error=_row_error(as_error(body.get("error")), status))
    answered = Answered(key, usage(body), body.get("model"))
    if kind == "embed" and isinstance(body.get("data"), list):
        return answered.vector(_numbers(body["data"]))
    if kind == "generate" and isinstance(body.get("choices"), list):
        return _completion(answered, body["choices"])
    if kind == "generate" and isinstance(body.get("output"), list):
        return _response(answered, body)
    if body.get("error"):
        return Reply(key=key, status="failed", error=_row_error(as_error(body["error"]), status))
    return unreadable(key)


def _body(body: object) -> dict[str, Any]:
    """Return a response or its body, which some servers write as a text (ogx, 2026-11)."""
    if isinstance(body, str):
        try:
            return read_object(body.encode())
        except Rejected:
            return {}
    return as_object(body)


def _unrun(key: str, error: dict[str, Any]) -> Reply:
    code = one_line(error.get("code"), 80) or "no_response"
    message = one_line(error.get("message")) or "The request was not executed."
    told = RowError(code=code, message=message, retryable=True)
    return Reply(key=key, status=UNRUN.get(code, "failed"), error=told)


def _row_error(error: dict[str, Any], status: int) -> RowError:
    code = one_line(error.get("code"), 80) or one_line(error.get("type"), 80) or f"http_{status}"
    passing = status in _PASSING_STATUSES or not 400 <= status < 500 or code in _PASSING_CODES
    return RowError(code=code, message=one_line(error.get("message")), retryable=passing)


def _completion(answered: Answered, choices: list[Any]) -> Reply:
    choice = next(iter(as_objects(choices)), {})
    word, message = as_text(choice.get("finish_reason")), as_object(choice.get("message"))
    texts, refusals, other = _parts(message.get("content"))
    finish, refusal = FINISH.get(word, word or None), as_text(message.get("refusal")) or "".join(refusals)
    if refusal or finish == "refusal":
        return answered.refused(refusal)
    audio = as_text(as_object(message.get("audio")).get("transcript"))
    called = [*as_objects(message.get("tool_calls")), *as_objects([{"function": message.get("function_call")}])]
    return answered.said(
        [texts if any(texts) else [audio]], [call for one in called if (call := _called(one))], finish, other
    )


def _called(one: dict[str, Any]) -> dict[str, Any] | None:
    """Return one call of a function or a custom tool; None if it is neither."""
    custom, function = as_object(one.get("custom")), as_object(one.get("function"))
    if custom:
        return {
            "id": as_text(one.get("id")) or None,
            "name": as_text(custom.get("name")),
            "arguments": custom.get("input"),
        }
    return call(one.get("id"), function.get("name"), function.get("arguments")) if function else None


def _parts(content: object) -> tuple[list[str], list[str], set[str]]:
    """Return the texts, the refusals and the other kinds of parts in the content of a message."""
    if isinstance(content, str):
        return [content], [], set()
    parts = as_objects(content)
    texts = [as_text(part.get("text")) for part in parts if part.get("type") in _TEXTS]
    refusals = [as_text(part.get("refusal")) for part in parts if part.get("type") == "refusal"]
    return texts, refusals, {one_line(part.get("type"), 40) or "a part without a type" for part in parts} - _KNOWN


# `thinking` and `reasoning` are what Mistral's and other servers send beside the text.
_TEXTS = {"text", "output_text"}
_KNOWN = {*_TEXTS, "refusal", "thinking", "reasoning", "reasoning_text", "summary_text"}


def _response(answered: Answered, body: dict[str, Any]) -> Reply:
    items = as_objects(body["output"])
    status = one_line(body.get("status"), 80) or ("completed" if items and not body.get("error") else "")
    if status == "cancelled":
        return answered.reply(status="cancelled", error=EMPTY)
    if status not in {"completed", "incomplete"}:
        return answered.failed(_failure(as_object(body.get("error")), status))
    reason = as_text(as_object(body.get("incomplete_details")).get("reason"))
    finish = FINISH.get(reason, reason or "incomplete") if status == "incomplete" else "stop"
    said = [_parts(item.get("content")) for item in _final(items)]
    refusal = "".join(part for _, refusals, _ in said for part in refusals)
    if refusal or finish == "refusal":
        return answered.refused(refusal)
    calls = [
        call(item.get("call_id"), item.get("name"), item.get("arguments"))
        if item.get("type") == "function_call"
        else {
            "id": as_text(item.get("call_id")) or None,
            "name": as_text(item.get("name")),
            "arguments": item.get("input"),
        }
        for item in items
        if as_text(item.get("type")) in {"function_call", "custom_tool_call"}
    ]
    other = {kind for _, _, kinds in said for kind in kinds} | ({one_line(i.get("type"), 40) for i in items} - _ITEMS)
    return answered.said([texts for texts, _, _ in said], calls, finish, other)


def _final(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages, without the commentary of a model that marks its final answer."""
    messages = [item for item in items if item.get("type") == "message"]
    return [one for one in messages if one.get("phase") == "final_answer"] or messages


_ITEMS = {"message", "reasoning", "function_call", "custom_tool_call"}


def _failure(error: dict[str, Any], status: str) -> RowError:
    """Return why a response that ran has no answer; one that never ended may be asked again."""
    code = one_line(error.get("code"), 80) or status or "no_status"
    passing = code in _PASSING_CODES or status != "failed"
    return RowError(code=code, message=one_line(error.get("message")), retryable=passing)


def _numbers(data: list[Any]) -> object:
    """Return the vector; one in a text is packed as `encoding_format: base64` says: little-endian, four bytes each."""
    vector = next(iter(as_objects(data)), {}).get("embedding")
    if not isinstance(vector, str):
        return vector
    try:
        packed = base64.b64decode(vector, validate=True)
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    except (ValueError, struct.error):
        return vector


def usage(body: dict[str, Any]) -> Usage:
    """Return the tokens of one body; OpenAI counts cached and reasoning tokens inside the sums, under two sets of names."""
    told, items, tier = as_object(body.get("usage")), as_objects(body.get("output")), as_text(body.get("service_tier"))
    read = as_object(told.get("prompt_tokens_details") or told.get("input_tokens_details"))
    written = as_object(told.get("completion_tokens_details") or told.get("output_tokens_details"))
    return Usage(
        input_tokens=as_count(told.get("prompt_tokens") or told.get("input_tokens")),
        cached_tokens=as_count(read.get("cached_tokens")),
        cache_write_tokens=as_count(read.get("cache_write_tokens")),
        long_cache_write_tokens=as_count(as_object(read.get("cache_write_tokens_details")).get("ttl_12h_tokens")),
        input_audio_tokens=as_count(read.get("audio_tokens")),
        input_image_tokens=as_count(read.get("image_tokens")),
        cached_audio_tokens=as_count(as_object(read.get("cached_tokens_details")).get("audio_tokens")),
        output_tokens=as_count(told.get("completion_tokens") or told.get("output_tokens")),
        reasoning_tokens=as_count(written.get("reasoning_tokens")),
        output_audio_tokens=as_count(written.get("audio_tokens")),
        web_searches=_searches(body, items),
        file_searches=sum(item.get("type") == "file_search_call" for item in items),
        other_tool_calls=sum(as_text(item.get("type")) in _OTHER_TOOLS for item in items),
        other_tier_requests=int(tier not in _USUAL_TIERS),
    )


# What a batch's answer says when it cost what the price list says.
_USUAL_TIERS = frozenset({"", "auto", "default", "batch"})
# Charged by the container or the image (https://developers.openai.com/api/docs/pricing, read 2026-11).
_OTHER_TOOLS = frozenset({"code_interpreter_call", "image_generation_call", "shell_call"})
# Opening a page and looking for words in it are not searches.
_FREE_ACTIONS = frozenset({"open_page", "find_in_page", "find"})


def _searches(body: dict[str, Any], items: list[dict[str, Any]]) -> int:
    """Return the web searches of a response; a completion of a search model searches once and shows it by citations."""
    calls = [item for item in items if item.get("type") == "web_search_call"]
    searches = sum(as_text(as_object(call.get("action")).get("type")) not in _FREE_ACTIONS for call in calls)
    messages = [as_object(choice.get("message")) for choice in as_objects(body.get("choices"))]
    cited = any(
        note.get("type") == "url_citation" for message in messages for note in as_objects(message.get("annotations"))
    )
    return searches or int(cited)
