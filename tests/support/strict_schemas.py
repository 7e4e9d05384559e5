"""JSON schemas that strict modes take, to spoil them in one place."""

from __future__ import annotations

from typing import Any

GOOD = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}


def closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object as OpenAI and Anthropic want it, around these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
        **more,
    }


def nested(depth: int) -> dict[str, Any]:
    """So many objects around another."""
    schema = GOOD
    for _ in range(depth):
        schema = closed({"a": schema})
    return schema


def chat_format(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The `response_format` of a chat completion in strict mode."""
    held = {"name": "s", "schema": schema, "strict": True, **more}
    return {"response_format": {"type": "json_schema", "json_schema": held}}
