"""Request and response bodies of one line of an OpenAI batch, for each endpoint."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any, Protocol

from airflow_batch_provider.emulator.answers import Answer, Ask, Unacceptable, answer, refuse_malformed, text_of, vector
from airflow_batch_provider.emulator.jsonl import Json, dump

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.outcomes import Outcome


class Endpoint(Protocol):
    """One URL that batches may call."""

    def ask(self, body: Json) -> Ask:
        """Return what the body asks; raise `Unacceptable`."""
        ...

    def reply(self, body: Json, outcome: Outcome, reply_id: str, created: int) -> tuple[Json, Answer]:
        """Return the response body and its answer."""
        ...


class Chat:
    """/v1/chat/completions."""

    @refuse_malformed
    def ask(self, body: Json) -> Ask:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Unacceptable("Messages parameter is required.", "messages")
        *earlier, last = messages
        tool, schema = _forced(body, "function")
        wanted = body.get("response_format") or {}
        if wanted.get("type") == "json_schema":
            schema = (wanted.get("json_schema") or {}).get("schema")
        return Ask(
            model=str(body.get("model", "")),
            prompt=text_of(last),
            context="\n".join(filter(None, map(text_of, earlier))),
            schema=schema,
            tool=tool,
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        )

    def reply(self, body: Json, outcome: Outcome, reply_id: str, created: int) -> tuple[Json, Answer]:
        ask = self.ask(body)
        said = answer(ask, outcome)
        message: Json = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
        if said.finish == "refusal":
            message |= {"content": None, "refusal": said.text}
        if said.finish == "tool":
            call = {"name": ask.tool or "emulated", "arguments": dump(said.call)}
            message |= {
                "content": None,
                "tool_calls": [{"id": f"call_{reply_id}", "type": "function", "function": call}],
            }
        finish = {"length": "length", "tool": "tool_calls"}.get(said.finish, "stop")
        return {
            "id": f"chatcmpl-{reply_id}",
            "object": "chat.completion",
            "created": created,
            "model": ask.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": said.read,
                "completion_tokens": said.written,
                "total_tokens": said.read + said.written,
                "prompt_tokens_details": {"cached_tokens": said.cached, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": said.reasoning, "audio_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": None,
        }, said


class Responses:
    """/v1/responses."""

    @refuse_malformed
    def ask(self, body: Json) -> Ask:
        given = body.get("input")
        if not given:
            raise Unacceptable("Missing required parameter: 'input'.", "input")
        *earlier, last = given if isinstance(given, list) else [given]
        tool, schema = _forced(body)
        wanted = (body.get("text") or {}).get("format") or {}
        if wanted.get("type") == "json_schema":
            schema = wanted.get("schema")
        return Ask(
            model=str(body.get("model", "")),
            prompt=text_of(last),
            context="\n".join(filter(None, (text_of(body.get("instructions")), *map(text_of, earlier)))),
            schema=schema,
            tool=tool,
            max_tokens=body.get("max_output_tokens"),
        )

    def reply(self, body: Json, outcome: Outcome, reply_id: str, created: int) -> tuple[Json, Answer]:
        ask = self.ask(body)
        said = answer(ask, outcome)
        cut = said.finish == "length"
        return {
            "id": f"resp_{reply_id}",
            "object": "response",
            "created_at": created,
            "status": "incomplete" if cut else "completed",
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "model": ask.model,
            "output": _output(ask, said, reply_id),
            "parallel_tool_calls": True,
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools", []),
            "temperature": body.get("temperature", 1.0),
            "top_p": body.get("top_p", 1.0),
            "text": body.get("text", {"format": {"type": "text"}}),
            "metadata": body.get("metadata", {}),
            "usage": {
                "input_tokens": said.read,
                "input_tokens_details": {"cached_tokens": said.cached, "cache_write_tokens": 0},
                "output_tokens": said.written,
                "output_tokens_details": {"reasoning_tokens": said.reasoning},
                "total_tokens": said.read + said.written,
            },
        }, said


def _output(ask: Ask, said: Answer, reply_id: str) -> list[Json]:
    if said.finish == "tool":
        call = {"type": "function_call", "id": f"fc_{reply_id}", "call_id": f"call_{reply_id}", "status": "completed"}
        return [{**call, "name": ask.tool or "emulated", "arguments": dump(said.call)}]
    part: Json = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    if said.finish == "refusal":
        part = {"type": "refusal", "refusal": said.text}
    status = "incomplete" if said.finish == "length" else "completed"
    content = [part] if said.text else []
    return [{"type": "message", "id": f"msg_{reply_id}", "status": status, "role": "assistant", "content": content}]


class Embeddings:
    """/v1/embeddings, with floats or base64."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    @refuse_malformed
    def ask(self, body: Json) -> Ask:
        given = body.get("input")
        inputs = given if isinstance(given, list) else [given]
        if given is None or not inputs or inputs == [""]:
            raise Unacceptable("Missing required parameter: 'input'.", "input")
        if all(isinstance(item, int) for item in inputs):
            inputs = [inputs]
        texts = tuple(item if isinstance(item, str) else dump(item) for item in inputs)
        return Ask(model=str(body.get("model", "")), prompt="", inputs=texts, dimensions=body.get("dimensions"))

    def reply(self, body: Json, outcome: Outcome, reply_id: str, created: int) -> tuple[Json, Answer]:
        del reply_id, created
        ask = self.ask(body)
        inputs = () if outcome.kind == "empty" else ask.inputs
        vectors: list[Any] = [vector(text, ask.dimensions or self._dimensions) for text in inputs]
        if body.get("encoding_format") == "base64":
            vectors = [*map(_packed, vectors)]
        data = [{"object": "embedding", "index": index, "embedding": values} for index, values in enumerate(vectors)]
        usage = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
        said = Answer(text="", finish="stop", read=ask.tokens, cached=0, written=0, reasoning=0)
        return {"object": "list", "data": data, "model": ask.model, "usage": usage}, said


def _packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _forced(body: Json, under: str = "") -> tuple[str | None, Json | None]:
    """Return name and schema of the tool that `tool_choice` demands; each tool is described in its field `under`."""
    choice = body.get("tool_choice")
    tools = [_described(tool, under) for tool in body.get("tools") or [] if isinstance(tool, dict)]
    if choice == "required" and tools:
        return tools[0].get("name"), tools[0].get("parameters")
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return None, None
    name = _described(choice, under).get("name")
    return name, next((tool.get("parameters") for tool in tools if tool.get("name") == name), None)


def _described(tool: Json, under: str) -> Json:
    return tool.get(under) or {} if under else tool
