"""OpenAI's chat, responses and embeddings bodies and batch result lines, in and out of our words; pure.

Shapes: https://platform.openai.com/docs/api-reference/batch and openai 3.54 (`types/chat`, `types/responses`), read 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.codec import Codec, system_text
from airflow_batch_provider.providers.messages import check_chat
from airflow_batch_provider.providers.openai import replies
from airflow_batch_provider.providers.openai.plain import plain_reply
from airflow_batch_provider.providers.parameters import OPENAI, refuse_misspelt
from airflow_batch_provider.providers.room import refuse_too_much
from airflow_batch_provider.providers.schema import Dialect, strict, with_object_at_top
from airflow_batch_provider.providers.untrusted import as_count, as_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRequest, Kind, Reply, Spec

_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

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
    frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    every_property=True,
    recursion=True,
    most_values=1000,
    most_properties=5000,
    most_levels=10,
    most_characters=120_000,
    most_in_long_enum=15_000,
)


@dataclass(frozen=True)
class OpenAICodec(Codec):
    """Bodies of the endpoint that the kind and the connection's `api` choose, lines of the files of a batch."""

    key_name: ClassVar[str] = "custom_id"
    levels: ClassVar[int] = 9  # down to the function of a tool's call

    api: Api = "chat"

    def plain_reply(self, line: bytes, kind: Kind) -> Reply | None:
        """Return what a completion of one text says, or a plain vector."""
        return plain_reply(line, kind)

    def reply(self, key: str, record: dict[str, Any], kind: Kind) -> Reply:
        """Return what a result line says."""
        return replies.reply(key, record, kind)

    def endpoint(self, spec: Spec) -> str:
        """Return the path of the endpoint that such requests are for."""
        return ENDPOINTS["embed" if spec.kind == "embed" else self.api]

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """Return the body of the endpoint; `text` of several sources is joined, all else is replaced."""
        extra = {**spec.request_params, **request.request_params}
        refuse_misspelt(extra, OPENAI)
        if spec.kind == "embed":
            body = _embed(request, spec, extra)
        else:
            body = (_chat if self.api == "chat" else _responses)(request, spec, extra)
        for name in body.keys() & _LIMITS:
            refuse_too_much("OpenAI", spec.model, as_count(body[name]))
        return _checked(body, spec)

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:
        """Return one line of the input file."""
        return b'{"custom_id":%b,"method":"POST","url":"%b","body":%b}' % (
            msgspec.json.encode(key),
            self.endpoint(spec).encode(),
            body,
        )

    def result_line(self, key: str, answer: bytes) -> bytes:
        """Return the line of a response."""
        response = b'{"status_code":200,"request_id":"","body":%b}' % answer
        return b'{"id":"","custom_id":%b,"response":%b,"error":null}' % (msgspec.json.encode(key), response)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """Return the body with the answer and the problem appended to its `messages` or `input`."""
        field = "messages" if "messages" in body else "input"
        told = [{"role": "assistant", "content": answer}] if answer else []
        return {**body, field: [*body[field], *told, {"role": "user", "content": problem}]}

    def room(self, body: dict[str, Any]) -> int | None:
        """Return the limit, by whichever of its three names."""
        return next((tokens for name in _LIMITS if (tokens := as_count(body.get(name)))), None)

    def with_room(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the body with another limit, by whichever of its three names it limits them."""
        return body | dict.fromkeys(body.keys() & _LIMITS, tokens)


def _embed(request: BatchRequest, spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    if request.prompt is None or "input" in extra:
        raise UsageError("An embedding is asked with a prompt; 'messages' and 'input' cannot be embedded.")
    return {"model": spec.model, "input": request.prompt, **extra}


def _chat(request: BatchRequest, spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    """Return a chat body; `max_tokens` in `request_params`, for servers with the old name only, replaces the new."""
    system = system_text(request, spec)
    told = [{"role": "system", "content": system}] if system else []
    if request.messages is not None:
        check_chat(request.messages)
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
    if system := system_text(request, spec):
        body["instructions"] = system
    text = {**as_object(spec.request_params.get("text")), **as_object(extra.get("text"))}
    if (schema := request.output_type or spec.output_schema) is not None:
        text = {"format": {"type": "json_schema", **_named(schema)}, **text}
    return body | extra | ({"text": text} if text else {})


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as OpenAI wants it; one that strict mode cannot say is a hint, and landing checks."""
    native = strict(schema, DIALECT)
    return {
        "name": "answer",
        "schema": with_object_at_top(schema, DIALECT) if native is None else native,
        "strict": native is not None,
    }


def _checked(body: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """Return the body, unless a batch cannot take it: one file has one model and one answer a row, and nothing streams."""
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
