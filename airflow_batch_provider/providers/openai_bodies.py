"""OpenAI's chat, responses and embeddings bodies and batch result lines, in and out of our words; pure.

Shapes: https://platform.openai.com/docs/api-reference/batch and openai 3.54 (`types/chat`, `types/responses`), read 2026-11.
"""

from __future__ import annotations

import base64
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from airflow_batch_provider.exceptions import Rejected, UsageError
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.base import Codec
from airflow_batch_provider.providers.schema import Dialect, strict
from airflow_batch_provider.providers.wire import as_count, as_object, as_objects, as_text, clip, read_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRequest, Kind, RowStatus, Spec

Api = Literal["chat", "responses"]

ENDPOINTS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "embed": "/v1/embeddings"}

# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (2026-08).
DIALECT = Dialect(
    "OpenAI",
    frozenset(
        {
            "pattern",
            "format",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minItems",
            "maxItems",
        }
    ),
    every_property=True,
    recursion=True,
)

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


@dataclass(frozen=True)
class OpenAICodec(Codec):
    """Bodies of the endpoint that the kind and the connection's `api` choose, lines of the files of a batch."""

    api: Api = "chat"

    def endpoint(self, spec: Spec) -> str:
        """Return the path of the endpoint that such requests are for."""
        return ENDPOINTS["embed" if spec.kind == "embed" else self.api]

    def decode(self, line: bytes, kind: Kind) -> Reply:
        """Return what one line of an output or error file says."""
        return decode(line, kind)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """The body that the endpoint would take without a batch; `text` of several sources is joined, all else replaced."""
        extra = {**spec.request_params, **request.request_params}
        if spec.kind == "embed":
            body = _embed(request, spec, extra)
        else:
            body = (_chat if self.api == "chat" else _responses)(request, spec, extra)
        return _checked(body, spec)

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:
        """One line of the input file."""
        parts = msgspec.json.encode(key), msgspec.json.encode(self.endpoint(spec)), body
        return b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}' % parts

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The body with the answer and the problem appended to its `messages` or `input`."""
        field = "messages" if "messages" in body else "input"
        told = [{"role": "assistant", "content": answer}] if answer else []
        return {**body, field: [*body[field], *told, {"role": "user", "content": problem}]}

    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The body with `factor` times as many tokens, by whichever of its three names it limits them."""
        limits = body.keys() & {"max_tokens", "max_completion_tokens", "max_output_tokens"}
        return body | {name: body[name] * factor for name in limits}


def _embed(request: BatchRequest, spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    if request.prompt is None or "input" in extra:
        raise UsageError("An embedding is asked with a prompt; 'messages' and 'input' cannot be embedded.")
    return {"model": spec.model, "input": request.prompt, **extra}


def _chat(request: BatchRequest, spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    """A chat body; `max_tokens` in `request_params`, for backends that know only the old name, replaces the new one."""
    system = request.system or spec.system
    told = [{"role": "system", "content": system}] if system else []
    asked = request.messages or [{"role": "user", "content": request.prompt}]
    body: dict[str, Any] = {"model": spec.model, "messages": [*told, *asked]}
    if "max_tokens" not in extra:
        body["max_completion_tokens"] = request.max_tokens or spec.max_tokens
    if (schema := request.output_type or spec.output_schema) is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": _named(schema)}
    return body | extra


def _responses(request: BatchRequest, spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    asked = request.messages or [{"role": "user", "content": request.prompt}]
    body: dict[str, Any] = {"model": spec.model, "input": asked}
    body["max_output_tokens"] = request.max_tokens or spec.max_tokens
    if system := request.system or spec.system:
        body["instructions"] = system
    text = {**as_object(spec.request_params.get("text")), **as_object(extra.get("text"))}
    if (schema := request.output_type or spec.output_schema) is not None:
        text = {"format": {"type": "json_schema", **_named(schema)}, **text}
    return body | extra | ({"text": text} if text else {})


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as OpenAI wants it; one that strict mode cannot say goes as a hint, and landing checks the answers."""
    native = strict(schema, DIALECT)
    return {"name": "answer", "schema": schema if native is None else native, "strict": native is not None}


def _checked(body: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """The body, unless a batch cannot take it: one file has one model and one answer a row, and nothing streams."""
    refused = {
        "model": body.get("model") != spec.model,
        "stream": bool(body.get("stream")),
        "background": bool(body.get("background")),
        "n": body.get("n", 1) != 1,
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise UsageError(f"OpenAI takes no {name}={body.get(name)!r} in this batch. Drop it from request_params.")
    return body


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
    message = clip(as_text(error.get("message"))) or "The request was not executed."
    told = RowError(code=clip(code, 80), message=message, retryable=True)
    return Reply(key=key, status=UNRUN.get(code, "failed"), error=told)


def _row_error(error: dict[str, Any], status: int) -> RowError:
    code = as_text(error.get("code")) or as_text(error.get("type")) or f"http_{status}"
    passing = status in _PASSING_STATUSES or not 400 <= status < 500 or code in _PASSING_CODES
    return RowError(code=clip(code, 80), message=clip(as_text(error.get("message"))), retryable=passing)


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
    code = as_text(error.get("code")) or clip(status, 80) or "no_status"
    passing = code in _PASSING_CODES or status != "failed"
    return RowError(code=clip(code, 80), message=clip(as_text(error.get("message"))), retryable=passing)


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
    return RowError(code="refusal", message=f"The model refused to answer. {clip(words)}".rstrip(), retryable=False)


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
