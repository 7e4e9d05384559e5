"""Requests and responses of Gemini batches, for content and for embeddings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.answers import Answer, Ask, Unacceptable, answer, refuse_malformed, text_of, vector
from airflow_batch_provider.emulator.core import Emulator, File, row
from airflow_batch_provider.emulator.google.files import sha256
from airflow_batch_provider.emulator.google.problems import HTTP, WORDS, pick
from airflow_batch_provider.emulator.jsonl import Json, encode, slices, write_lines
from airflow_batch_provider.emulator.settings import DAY
from airflow_batch_provider.emulator.strict import google as strict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_batch_provider.emulator.job import Job, Row
    from airflow_batch_provider.emulator.outcomes import Outcome


ERRORS: dict[str, tuple[int, str]] = {
    "overloaded": (14, "The model is overloaded. Please try again later."),
    "unavailable": (14, "The service is currently unavailable."),
    "rate_limit": (8, "Resource has been exhausted (e.g. check quota)."),
    "quota": (8, "You exceeded your current quota, please check your plan and billing details."),
    "server": (13, "An internal error has occurred. Please retry."),
    "api": (13, "An internal error has occurred. Please retry."),
    "timeout": (4, "Deadline expired before operation could complete."),
    "invalid_request": (3, "Request contains an invalid argument."),
    "too_large": (3, "The input token count exceeds the maximum number of tokens allowed."),
    "authentication": (16, "Request had invalid authentication credentials."),
    "billing": (9, "Billing is not active on this project."),
    "permission": (7, "The caller does not have permission"),
    "not_found": (5, "Requested entity was not found."),
}
"""Word of a marker → google.rpc code and message."""

_RESULTS_KEPT = 42 * DAY


class GenerateCodec:
    """GenerateContentRequest in, GenerateContentResponse out."""

    def __init__(self, emulator: Emulator, model: str) -> None:
        self._emulator = emulator
        self._model = model

    @refuse_malformed
    def check(self, request: Json) -> None:
        """Raise `Unacceptable` for a request that Gemini refuses."""
        if not self._emulator.settings.lenient:
            strict.check_generate(request, self._model.removeprefix("models/"))

    @refuse_malformed
    def ask(self, request: Json) -> Ask:
        """Return what a request asks; raise `Unacceptable`."""
        contents = pick(request, "contents")
        contents = contents if isinstance(contents, list) else [contents] if contents else []
        if not contents:
            raise Unacceptable("* GenerateContentRequest.contents: contents is not specified", "contents")
        *earlier, last = contents
        config = pick(request, "generationConfig") or {}
        tool, parameters = _tool(request)
        system = text_of(pick(request, "systemInstruction"))
        return Ask(
            model=str(pick(request, "model") or ""),
            prompt=text_of(last),
            context="\n".join(filter(None, (system, *map(text_of, earlier)))),
            schema=parameters or pick(config, "responseJsonSchema") or pick(config, "responseSchema"),
            tool=tool,
            max_tokens=pick(config, "maxOutputTokens"),
        )

    def response(self, job: Job, item: Row, outcome: Outcome, ask: Ask) -> Json:
        """Return the response to a row that was answered."""
        said = answer(ask, outcome)
        job.usage.update(input=said.read, cached=said.cached, output=said.written, reasoning=said.reasoning)
        body: Json = {
            "usageMetadata": _usage(said),
            "modelVersion": job.model.removeprefix("models/"),
            "responseId": f"{job.id[-12:]}{item.index:06d}",
        }
        if said.finish == "refusal":
            return {"promptFeedback": {"blockReason": "SAFETY"}, **body}
        content: Json = {"role": "model"}
        if said.finish == "tool":
            content["parts"] = [{"functionCall": {"name": ask.tool or "emulated", "args": said.call}}]
        elif said.text:
            content["parts"] = [{"text": said.text}]
        finish = "MAX_TOKENS" if said.finish == "length" else "STOP"
        return {"candidates": [{"content": content, "finishReason": finish, "index": 0}], **body}

    def rows(self, path: Path) -> list[Row]:
        """Return the rows of an input file; raise `ValueError` with the number of a line that is not a request."""
        rows: list[Row] = []
        for index, (number, place, line) in enumerate(slices(path)):
            try:
                request = json.loads(line)
            except ValueError:
                request = None
            if not isinstance(request, dict) or not isinstance(request.get("request"), dict):
                raise ValueError(f"Line {number} of the input file is not a JSON object with a 'request'.")  # noqa: TRY004 - a bad value from outside
            rows.append(row(self, index, _key(request, index), place, request["request"]))
        return rows

    def write_results(self, job: Job) -> None:
        """Write the responses in the order of the requests; a job without output has none."""
        partial = self._emulator.settings.google_cancel_output == "partial"
        if job.phase in ("failed", "expired") or (job.phase == "cancelled" and not partial):
            return
        path = self._emulator.blobs.new()
        size = write_lines(path, self._lines(job))
        if job.extra["inline"]:
            job.extra["responses"] = path
            return
        now = self._emulator.clock.now()
        file = self._emulator.store(File(
            id=f"files/batch-{job.id.removeprefix('batches/')}", provider="google", name="", path=path, size=size, created=now,
            expires=job.created + _RESULTS_KEPT, purpose="application/jsonl", generated=True, sha256=sha256(path),
        ))  # fmt: skip
        job.extra["responses_file"] = file.id

    def _lines(self, job: Job) -> Iterator[bytes]:
        name = "metadata" if job.extra["inline"] else "key"
        for item, outcome, given in job.results(job.rows):
            result = self._result(job, item, outcome, given["request"])
            yield from [encode({name: given[name], **result} if name in given else result)] * outcome.copies
            if outcome.stranger:
                key = f"stranger-{item.index}"
                yield encode({name: {"key": key} if job.extra["inline"] else key, **result})

    def single(self, job: Job, outcome: Outcome, request: Json) -> tuple[int, Json]:
        """Return HTTP status and body of the answer to a call outside any batch."""
        result = self._result(job, job.rows[0], outcome, request)
        if "response" in result:
            return 200, result["response"]
        error = result["error"]
        status = HTTP.get(error["code"], 500)
        return status, {"error": {"code": status, "message": error["message"], "status": WORDS.get(status, "UNKNOWN")}}

    def _result(self, job: Job, item: Row, outcome: Outcome, request: Json) -> Json:
        match outcome.kind:
            case "expired":
                return {"error": {"code": 4, "message": ERRORS["timeout"][1]}}
            case "cancelled":
                return {"error": {"code": 1, "message": "The request was cancelled."}}
        if item.refusal:
            return {"error": {"code": ERRORS[item.refusal.word][0], "message": item.refusal.message}}
        if outcome.kind == "error":
            code, message = ERRORS.get(outcome.error.removesuffix("_error"), (3, f"No error {outcome.error!r}."))
            return {"error": {"code": code, "message": message}}
        return {"response": self.response(job, item, outcome, self.ask(request))}


class EmbedCodec(GenerateCodec):
    """EmbedContentRequest in, EmbedContentResponse out."""

    @refuse_malformed
    def check(self, request: Json) -> None:
        """Raise `Unacceptable` for a request that Gemini refuses."""
        if not self._emulator.settings.lenient:
            strict.check_embed(request, self._model)

    @refuse_malformed
    def ask(self, request: Json) -> Ask:
        """Return what a request asks; raise `Unacceptable`."""
        if not (text := text_of(pick(request, "content"))):
            raise Unacceptable("* EmbedContentRequest.content: content is empty", "content")
        config = pick(request, "embedContentConfig")
        size = pick(request, "outputDimensionality") or pick(config, "outputDimensionality")
        return Ask(model="", prompt="", inputs=(text,), dimensions=size)

    def response(self, job: Job, item: Row, outcome: Outcome, ask: Ask) -> Json:
        """Return one vector and its tokens."""
        del item
        job.usage.update(input=ask.tokens)
        dimensions = ask.dimensions or self._emulator.settings.dimensions
        values = [] if outcome.kind == "empty" else vector(ask.inputs[0], dimensions)
        return {"tokenCount": str(ask.tokens), "embedding": {"values": values}}


def _key(request: Json, index: int) -> str:
    key = request.get("key", pick(request.get("metadata"), "key"))
    return str(index) if key is None else str(key)


def _usage(said: Answer) -> Json:
    """Return the usage; Google counts thoughts beside the candidates, not inside."""
    usage: Json = {
        "promptTokenCount": said.read,
        "candidatesTokenCount": said.written - said.reasoning,
        "totalTokenCount": said.read + said.written,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": said.read}],
    }
    if said.cached:
        usage["cachedContentTokenCount"] = said.cached
    if said.reasoning:
        usage["thoughtsTokenCount"] = said.reasoning
    return usage


def _tool(request: Json) -> tuple[str | None, Json | None]:
    """Return name and parameters of the function that mode ANY demands."""
    choice = pick(pick(request, "toolConfig"), "functionCallingConfig") or {}
    if pick(choice, "mode") != "ANY":
        return None, None
    allowed = pick(choice, "allowedFunctionNames") or []
    for tool in pick(request, "tools") or []:
        for function in pick(tool, "functionDeclarations") or []:
            if not allowed or function.get("name") in allowed:
                return function["name"], pick(function, "parametersJsonSchema") or pick(function, "parameters")
    return None, None
