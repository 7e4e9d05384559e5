"""Anthropic's Messages bodies and batch result lines, in and out of our words; pure.

Shapes: https://platform.claude.com/docs/en/api/messages-batches and anthropic 2.12 (`types/messages`), read 2026-11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.anthropic import replies
from airflow_batch_provider.providers.anthropic.plain import plain_reply
from airflow_batch_provider.providers.codec import Codec, system_text
from airflow_batch_provider.providers.messages import check_claudes
from airflow_batch_provider.providers.parameters import ANTHROPIC, refuse_misspelt
from airflow_batch_provider.providers.room import refuse_too_much
from airflow_batch_provider.providers.schema import Dialect, strict, with_object_at_top
from airflow_batch_provider.providers.untrusted import as_count, as_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.models import BatchRequest, Kind, Reply, Spec

# `uri` is documented, and was refused all the same (forgecode#2974, 2026-11), so it is told like any other format.
# String formats and the rest: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (2026-11).
# The limits of 24 and 16: GoModel#963 (2026-11).
DIALECT = Dialect(
    "Anthropic",
    frozenset({"format"}),
    frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    every_property=False,
    recursion=False,
    most_optional=24,
    most_unions=16,
)

# Models that always think, and refuse a forced tool (pydantic-ai#8640, 2026-11).
_ALWAYS_THINKING = ("claude-opus-5-5", "claude-fable", "claude-mythos")
# What Anthropic takes as the name of a property in a tool's input (huly-mcp#66, go-sdk#169, 2026-11).
_TOOL_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# "input_schema does not support oneOf, allOf, or anyOf at the top level" (opencodex#75, 2026-11).
_NOT_AT_TOP = {"oneOf", "allOf", "anyOf"}
# anthropic 2.12, `types/thinking_config_enabled_param.py`: at least 1024 and less than max_tokens (2026-11).
_LEAST_BUDGET = 1024
# Choices that no model takes while it thinks: https://platform.claude.com/docs/en/build-with-claude/thinking (2026-08).
_FORCING = ("tool", "any")


class AnthropicCodec(Codec):
    """Bodies of POST /v1/messages, elements of a batch's `requests`, and lines of its results."""

    key_name: ClassVar[str] = "custom_id"
    levels: ClassVar[int] = 5  # the input of a tool is deeper

    def plain_reply(self, line: bytes, kind: Kind) -> Reply | None:  # noqa: ARG002
        """Return what a message of nothing but text says."""
        return plain_reply(line)

    def reply(self, key: str, record: dict[str, Any], kind: Kind) -> Reply:  # noqa: ARG002
        """Return what a result line says."""
        return replies.reply(key, record)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` for embeddings, which Anthropic has none of, and for parameters or schemas it refuses."""
        if spec.kind == "embed":
            raise UsageError(
                f"Anthropic has no embeddings, so {spec.model!r} cannot embed. Use a connection of OpenAI or Gemini."
            )
        super().check_spec(spec)

    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """Return the body of POST /v1/messages; `output_config` of several sources is joined, all else is replaced."""
        body: dict[str, Any] = {"model": spec.model, "max_tokens": request.max_tokens or spec.max_tokens}
        if request.messages is not None:
            check_claudes(request.messages)
        body["messages"] = request.messages or [{"role": "user", "content": request.prompt}]
        if system := system_text(request, spec):
            body["system"] = system
        extra = {**spec.request_params, **request.request_params}
        refuse_misspelt(extra, ANTHROPIC)
        config = {**as_object(spec.request_params.get("output_config")), **as_object(extra.get("output_config"))}
        body |= extra
        schema = request.output_type or spec.output_schema
        if schema is not None:
            native = strict(schema, DIALECT)
            if native is None:
                return _checked({**body, **_by_tool(schema)} if _takes_tool(schema, body) else _by_words(schema, body))
            config = {"format": {"type": "json_schema", "schema": native}, **config}
        return _checked({**body, **({"output_config": config} if config else {})})

    def line(self, key: str, body: bytes, spec: Spec) -> bytes:  # noqa: ARG002
        """Return one element of `requests`."""
        return b'{"custom_id":%b,"params":%b}' % (msgspec.json.encode(key), body)

    def result_line(self, key: str, answer: bytes) -> bytes:
        """Return the line of a message."""
        return b'{"custom_id":%b,"result":{"type":"succeeded","message":%b}}' % (msgspec.json.encode(key), answer)

    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """Return the body with the answer, unless empty (Anthropic would refuse it), and the problem appended."""
        told = [{"role": "assistant", "content": answer}] if answer.strip() else []
        return {**body, "messages": [*body["messages"], *told, {"role": "user", "content": problem}]}

    def room(self, body: dict[str, Any]) -> int | None:
        """Return its `max_tokens`."""
        return as_count(body.get("max_tokens")) or None

    def with_room(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the body with other `max_tokens`."""
        return {**body, "max_tokens": tokens}


def _takes_tool(schema: dict[str, Any], body: dict[str, Any]) -> bool:
    """Return True when the model can be forced to answer with a tool of this schema."""
    taken = body.keys() & {"tools", "tool_choice", "thinking"} or body["model"].startswith(_ALWAYS_THINKING)
    is_choice = with_object_at_top(schema, DIALECT).keys() & _NOT_AT_TOP
    return not taken and not is_choice and all(_TOOL_KEY.fullmatch(key) for key in _keys(schema))


def _keys(node: Any) -> Iterator[str]:
    """Yield the names of all properties in a schema."""
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _keys(inner)
    if isinstance(node, dict) and isinstance(node.get("properties"), dict):
        yield from node["properties"]


def _by_tool(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that make the model answer with a tool; its schema must say at the top that it is an object."""
    root = with_object_at_top(schema, DIALECT)
    tool = {"name": replies.ANSWER_TOOL, "description": "Give the answer.", "input_schema": root}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": replies.ANSWER_TOOL}}


def _by_words(schema: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the body that tells the model the schema; landing checks the answer, as always."""
    words = f"Answer with nothing but JSON that fits this JSON schema: {msgspec.json.encode(schema).decode()}"
    system = body.get("system") or []
    told = [{"type": "text", "text": system}] if isinstance(system, str) else system
    return {**body, "system": [*told, {"type": "text", "text": words}]}


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body, unless the batch API would refuse it, which it does per row and hours later."""
    refused = {
        "stream": bool(body.get("stream")),
        "speed": body.get("speed") == "fast",
        "max_tokens": not as_count(body.get("max_tokens")),
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise UsageError(f"Anthropic takes no {name}={body.get(name)!r} in a batch. Drop it from request_params.")
    refuse_too_much("Anthropic", str(body["model"]), as_count(body["max_tokens"]))
    _check_thinking(body)
    return body


def _check_thinking(body: dict[str, Any]) -> None:
    """Refuse a budget that leaves no room for the answer, and a forced tool of a model that thinks."""
    thinking = as_object(body.get("thinking"))
    budget = thinking.get("budget_tokens")
    if thinking.get("type") == "enabled" and not _LEAST_BUDGET <= as_count(budget) < body["max_tokens"]:
        raise UsageError(
            f"Anthropic takes a thinking.budget_tokens of at least {_LEAST_BUDGET} and below max_tokens, and these are "
            f"{budget} and {body['max_tokens']}. Raise max_tokens, or lower the budget."
        )
    choice, model = as_object(body.get("tool_choice")), str(body["model"])
    if choice.get("type") in _FORCING and (model.startswith(_ALWAYS_THINKING) or thinking.get("type") == "enabled"):
        raise UsageError(
            f"Anthropic takes no tool_choice={choice!r} of {model!r} while it thinks. Give {{'type': 'auto'}}, or a model "
            "that can answer without thinking."
        )
