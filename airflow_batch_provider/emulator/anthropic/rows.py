"""Requests and result lines of Anthropic batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.answers import Answer, Ask, Unacceptable, answer, refuse_malformed, text_of
from airflow_batch_provider.emulator.jsonl import Json, encode, write_lines
from airflow_batch_provider.emulator.strict import anthropic as strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.job import Job, Row
    from airflow_batch_provider.emulator.outcomes import Outcome


ERRORS: dict[str, tuple[int, str, str]] = {
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "api": (500, "api_error", "Internal server error"),
    "server": (500, "api_error", "Internal server error"),
    "timeout": (504, "timeout_error", "The request timed out."),
    "unavailable": (503, "overloaded_error", "Service unavailable"),
    "invalid_request": (400, "invalid_request_error", "The emulator was told to refuse this request."),
    "authentication": (401, "authentication_error", "invalid x-api-key"),
    "billing": (402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
    "permission": (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "not_found": (404, "not_found_error", "model: not found"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
}
"""Word of a marker → HTTP status, error.type and message; the words with `_error` mean the same."""


class MessageCodec:
    """Message params in, result lines out."""

    def __init__(self, emulator: Emulator, *, long_output: bool = False) -> None:
        self._emulator = emulator
        self._long_output = long_output

    @refuse_malformed
    def check(self, request: Json) -> None:
        """Raise `Unacceptable` for params that Anthropic refuses."""
        if not self._emulator.settings.lenient:
            strict.check(request, self._emulator.settings.models, long_output=self._long_output)

    @refuse_malformed
    def ask(self, request: Json) -> Ask:
        """Return what the params of one request ask; raise `Unacceptable` for what the service finds wrong later."""
        _check(request)
        *earlier, last = request["messages"]
        tool, schema = _tool(request)
        return Ask(
            model=request["model"],
            prompt=text_of(last),
            context="\n".join(filter(None, (text_of(request.get("system")), *map(text_of, earlier)))),
            schema=schema or _format(request),
            tool=tool,
            max_tokens=request["max_tokens"],
        )

    def write_results(self, job: Job) -> None:
        """Write the one file that holds all results."""
        job.extra["results"] = path = self._emulator.blobs.new()
        write_lines(path, self._lines(job))

    def _lines(self, job: Job) -> Iterator[bytes]:
        for row, outcome, request in job.results(self._emulator.shuffled(job)):
            line = {"custom_id": row.key, "result": self._result(job, row, outcome, request["params"])}
            yield from [encode(line)] * outcome.copies
            if outcome.stranger:
                yield encode({**line, "custom_id": f"stranger-{row.index}"})

    def _result(self, job: Job, row: Row, outcome: Outcome, request: Json) -> Json:
        match outcome.kind:
            case "expired":
                return {"type": "expired"}
            case "cancelled":
                return {"type": "canceled"}
        if row.refusal:
            return self._error(ERRORS[row.refusal.word][1], row.refusal.message)
        if outcome.kind == "error":
            word = outcome.error.removesuffix("_error")
            _, kind, message = ERRORS.get(word, (400, "invalid_request_error", f"No error {outcome.error!r}."))
            return self._error(kind, message)
        ask = self.ask(request)
        said = answer(ask, outcome)
        job.usage.update(input=said.read, cached=said.cached, output=said.written, reasoning=said.reasoning)
        return {"type": "succeeded", "message": _message(f"msg_{job.id[-12:]}{row.index:06d}", ask, said)}

    def single(self, job: Job, outcome: Outcome, request: Json) -> tuple[int, Json]:
        """Return HTTP status and body of the answer to a call outside any batch."""
        result = self._result(job, job.rows[0], outcome, request)
        if result["type"] == "succeeded":
            result["message"]["usage"]["service_tier"] = "standard"
            return 200, result["message"]
        word = job.rows[0].refusal.word if job.rows[0].refusal else outcome.error.removesuffix("_error")
        return ERRORS.get(word, ERRORS["invalid_request"])[0], result["error"]

    def _error(self, kind: str, message: str) -> Json:
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": self._emulator.id("req_")}
        return {"type": "errored", "error": error}


def _check(request: Json) -> None:
    for name in ("model", "max_tokens", "messages"):
        if name not in request:
            raise Unacceptable(f"{name}: Field required", name)
    if not isinstance(request["messages"], list) or not request["messages"]:
        raise Unacceptable("messages: at least one message is required", "messages")
    if not isinstance(request["max_tokens"], int) or request["max_tokens"] < 1:
        raise Unacceptable("max_tokens: must be greater than or equal to 1 in a batch", "max_tokens")
    if request.get("stream"):
        raise Unacceptable("stream: Streaming is not supported in the Message Batches API.", "stream")
    if request.get("speed") == "fast":
        raise Unacceptable("speed: fast mode is not supported in the Message Batches API.", "speed")


def _tool(request: Json) -> tuple[str | None, Json | None]:
    choice = request.get("tool_choice") or {}
    tools = [tool for tool in request.get("tools") or [] if isinstance(tool, dict)]
    if choice.get("type") == "any" and tools:
        return tools[0].get("name"), tools[0].get("input_schema")
    if choice.get("type") != "tool":
        return None, None
    for tool in tools:
        if tool.get("name") == choice.get("name"):
            return tool["name"], tool.get("input_schema")
    raise Unacceptable(f"tool_choice: no tool named {choice.get('name')!r}", "tool_choice")


def _format(request: Json) -> Json | None:
    wanted = (request.get("output_config") or {}).get("format") or {}
    return wanted.get("schema") if wanted.get("type") == "json_schema" else None


_STOPS = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "tool": "tool_use"}


def _message(message_id: str, ask: Ask, said: Answer) -> Json:
    content: list[Json] = [{"type": "text", "text": said.text, "citations": None}] if said.text else []
    if said.finish == "tool":
        tool_id, name = f"toolu_{message_id[4:]}", ask.tool or "emulated"
        content = [{"type": "tool_use", "id": tool_id, "name": name, "input": said.call}]
    if said.finish == "refusal":
        content = []
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": _STOPS[said.finish],
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": said.read - said.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": said.cached,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": said.written,
            "output_tokens_details": {"thinking_tokens": said.reasoning},
            "service_tier": "batch",
        },
    }
