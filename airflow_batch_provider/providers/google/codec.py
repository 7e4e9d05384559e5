"""Gemini's content and embedding requests, out of our words; pure.

`request_params` are fields of GenerateContentRequest (`tools`, `safetySettings`, …) or of its `generationConfig`
(`temperature`, `thinkingConfig`, …), which may be given flat or under `generationConfig`, in camelCase or snake_case.
Those of a row win over those of the task field by field; for embeddings they are fields of EmbedContentRequest.

Shapes: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/batch-api and google-genai 3.4, read 2026-11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.codec import Codec, system_text
from airflow_batch_provider.providers.google import replies
from airflow_batch_provider.providers.google.schema import response_schema
from airflow_batch_provider.providers.parameters import GOOGLE, GOOGLE_WITHIN, camel, refuse_misspelt
from airflow_batch_provider.providers.room import refuse_too_much
from airflow_batch_provider.providers.untrusted import as_count, as_object, as_objects

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRequest, Kind, Reply, Spec

_MODEL = re.compile(r"((models|tunedModels)/)?[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_TOP = frozenset({"tools", "toolConfig", "safetySettings", "cachedContent", "serviceTier", "store", "labels"})
_OURS = {
    "contents": "messages",
    "content": "the prompt",
    "systemInstruction": "system",
    "model": "the task's model",
    "config": "generationConfig",
}
_ROLES = ("user", "model", "function", None)


class GoogleCodec(Codec):
    """Bodies of models.generateContent and models.embedContent, lines of the files of a batch."""

    key_name: ClassVar[str] = "key"
    levels: ClassVar[int] = 8  # the arguments of a function's call are deeper

    def reply(self, key: str, record: dict[str, Any], kind: Kind) -> Reply:
        """Return what a result line says."""
        return replies.reply(key, record, kind)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` for a model name, parameters or schemas that a batch cannot take."""
        if not _MODEL.fullmatch(spec.model):
            raise UsageError(f"{spec.model!r} is not a model of Gemini. Give a name like 'gemini-2.5-flash'.")
        super().check_spec(spec)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """Return the body that the model's method would take without a batch."""
        if spec.kind == "embed":
            return _embed(request, spec)
        body = _generate(request, spec)
        refuse_too_much("Gemini", spec.model, self.room(body))
        return body

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """Return one line of the input file."""
        return b'{"key":%b,"request":%b}' % (msgspec.json.encode(key), body)

    def result_line(self, key: str, answer: bytes) -> bytes:
        """Return the line of a response."""
        return b'{"key":%b,"response":%b}' % (msgspec.json.encode(key), answer)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """Return the body with the answer and the problem as further turns."""
        told = [{"role": "model", "parts": [{"text": answer}]}] if answer else []
        return {**body, "contents": [*body["contents"], *told, {"role": "user", "parts": [{"text": problem}]}]}

    def wants_variety(self, body: dict[str, Any]) -> bool:
        """Read the temperature where Gemini has it."""
        return super().wants_variety(as_object(body.get("generationConfig")))

    def room(self, body: dict[str, Any]) -> int | None:
        """Return its `maxOutputTokens`."""
        return as_count(as_object(body.get("generationConfig")).get("maxOutputTokens")) or None

    def with_room(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the body with other `maxOutputTokens`."""
        settings = as_object(body.get("generationConfig"))
        return {**body, "generationConfig": {**settings, "maxOutputTokens": tokens}}


def _embed(request: BatchRequest, spec: Spec) -> dict[str, Any]:
    fields = {camel(name): value for name, value in (spec.request_params | request.request_params).items()}
    _refuse_ours(fields)
    refuse_misspelt(fields, GOOGLE, GOOGLE_WITHIN, spelt=camel)
    if request.messages is None:
        return {"content": {"parts": [{"text": request.prompt}]}, **fields}
    if len(request.messages) != 1:
        raise UsageError(f"An embedding is asked with one content, not {len(request.messages)}. Make them rows.")
    return {"content": _contents(request.messages)[0], **fields}


def _generate(request: BatchRequest, spec: Spec) -> dict[str, Any]:
    top, extra = _params(spec.request_params, request.request_params)
    asked = request.messages or [{"role": "user", "parts": [{"text": request.prompt}]}]
    body: dict[str, Any] = {"contents": _contents(asked)}
    config: dict[str, Any] = {"maxOutputTokens": request.max_tokens or spec.max_tokens}
    told = [system] if (system := system_text(request, spec)) else []
    schema = request.output_type or spec.output_schema
    if schema is not None and not extra.keys() & {"responseSchema", "responseJsonSchema"}:
        config["responseMimeType"] = "application/json"
        if native := response_schema(schema):
            config["responseSchema"] = native
        else:
            told.append(f"Answer with JSON that fits this JSON schema: {msgspec.json.encode(schema).decode()}")
    if told:
        body["systemInstruction"] = {"parts": [{"text": text} for text in told]}
    return _checked({**body, **top, "generationConfig": config | extra})


def _params(*given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the request, and of its `generationConfig`; later ones win."""
    top: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for params in given:
        flat = {camel(name): value for name, value in params.items()}
        nested = flat.pop("generationConfig", {})
        if not isinstance(nested, dict):
            raise UsageError(f"generationConfig in request_params is {nested!r}. Give a dictionary.")
        flat |= {camel(name): value for name, value in nested.items()}
        _refuse_ours(flat)
        refuse_misspelt(params, GOOGLE, GOOGLE_WITHIN, spelt=camel)
        for name, value in flat.items():
            (top if name in _TOP else config)[name] = value
    return top, config


def _refuse_ours(fields: dict[str, Any]) -> None:
    for name in fields.keys() & _OURS.keys():
        raise UsageError(f"{name!r} does not belong in request_params. Give it as {_OURS[name]}.")


def _contents(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the contents, unless they have another provider's shape, which a batch would refuse row by row, hours later."""
    for message in messages:
        if not as_objects(message.get("parts")) or message.get("role") not in _ROLES:
            raise UsageError(
                f"Gemini takes messages with 'parts' and the role 'user' or 'model', not {sorted(message)} "
                f"of role {message.get('role')!r}. Write them as {{'role': 'user', 'parts': [{{'text': …}}]}}."
            )
    return messages


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body, unless a batch cannot take it: one answer a row, of text, and nothing beside a cached context."""
    config = body["generationConfig"]
    if config.get("candidateCount", 1) != 1:
        raise UsageError(f"One row has one answer, not candidateCount={config['candidateCount']!r}. Drop it.")
    if modalities := [word for word in config.get("responseModalities", ()) if str(word).upper() != "TEXT"]:
        raise UsageError(f"Rows hold text, not {modalities!r}. Drop responseModalities from request_params.")
    clash = body.keys() & {"systemInstruction", "tools", "toolConfig"} if "cachedContent" in body else set()
    if clash:
        raise UsageError(f"Gemini takes cachedContent without {', '.join(sorted(clash))}. Put them into the cache.")
    return body
