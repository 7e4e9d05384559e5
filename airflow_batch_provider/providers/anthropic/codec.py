"""Anthropic's Messages bodies and batch result lines, in and out of our words; pure.

Shapes: https://platform.claude.com/docs/en/api/messages-batches and anthropic 2.12 (`types/messages`), read 2026-11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers.anthropic import replies
from airflow_batch_provider.providers.base import Codec
from airflow_batch_provider.providers.schema import Dialect, strict
from airflow_batch_provider.providers.untrusted import as_object

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchRequest, Kind, Reply, Spec

# String formats and the rest: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (2026-11).
DIALECT = Dialect("Anthropic", frozenset({"format"}), every_property=False, recursion=False)


class AnthropicCodec(Codec):
    """Bodies of POST /v1/messages, elements of a batch's `requests`, and lines of its results."""

    key_name: ClassVar[str] = "custom_id"
    levels: ClassVar[int] = 5  # the input of a tool is deeper

    def reply(self, key: str, record: dict[str, Any], kind: Kind) -> Reply:  # noqa: ARG002
        """Return what a result line says."""
        return replies.reply(key, record)

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
    tool = {"name": replies.ANSWER_TOOL, "description": "Give the answer.", "input_schema": schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": replies.ANSWER_TOOL}}


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
