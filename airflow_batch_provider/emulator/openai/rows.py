"""Lines of OpenAI batches: validation on the way in, output and error file on the way out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.answers import Ask, refuse_malformed
from airflow_batch_provider.emulator.core import Emulator, File, row
from airflow_batch_provider.emulator.jsonl import Json, Slice, encode, slices
from airflow_batch_provider.emulator.openai.bodies import Chat, Embeddings, Endpoint, Responses
from airflow_batch_provider.emulator.strict import openai as strict
from airflow_batch_provider.emulator.strict.models import is_known

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.job import Job, Row
    from airflow_batch_provider.emulator.outcomes import Outcome


ERRORS: dict[str, tuple[int, str, str | None, str]] = {
    "overloaded": (503, "server_error", "server_overloaded", "The engine is currently overloaded, please try again later."),
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan."),
    "server": (500, "server_error", None, "The server had an error while processing your request. Sorry about that!"),
    "api": (500, "server_error", None, "The server had an error while processing your request. Sorry about that!"),
    "timeout": (504, "server_error", "timeout", "The request timed out."),
    "unavailable": (503, "server_error", "service_unavailable", "The service is temporarily unavailable."),
    "invalid_request": (400, "invalid_request_error", None, "The emulator was told to refuse this request."),
    "content_filter": (400, "invalid_request_error", "content_policy_violation", "Your request was rejected by our safety system."),
    "too_large": (400, "invalid_request_error", "context_length_exceeded", "This model's maximum context length is exceeded."),
    "authentication": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "billing": (429, "insufficient_quota", "billing_hard_limit_reached", "Billing hard limit has been reached."),
    "permission": (403, "invalid_request_error", "permission_denied", "You do not have access to this model."),
    "not_found": (404, "invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
}  # fmt: skip
"""Word of a marker → HTTP status of the line, error.type, error.code and message."""

ENDPOINTS = (
    "/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/moderations",
    "/v1/images/generations", "/v1/images/edits", "/v1/videos",
)  # fmt: skip
_SHOWN_ERRORS = 100
_NOT_RUN = {
    "expired": "This request could not be executed before the completion window expired.",
    "cancelled": "This request was not executed: the batch was cancelled.",
}


class LineCodec:
    """Lines of one endpoint in, output and error file out."""

    def __init__(self, emulator: Emulator, url: str) -> None:
        self._emulator = emulator
        self._url = url

    @property
    def _endpoint(self) -> Endpoint:
        if self._url == "/v1/embeddings":
            return Embeddings(self._emulator.settings.dimensions)
        return Responses() if self._url == "/v1/responses" else Chat()

    @refuse_malformed
    def check(self, request: Json) -> None:
        """Raise `Unacceptable` for a body that the endpoint refuses."""
        if not self._emulator.settings.lenient:
            strict.check(self._url, request)

    def ask(self, request: Json) -> Ask:
        """Return what the body of a line asks."""
        return self._endpoint.ask(request)

    def write_results(self, job: Job) -> None:
        """Write the output file and the error file, each only when it has lines."""
        if job.phase == "failed":
            return
        good, bad = self._emulator.blobs.new(), self._emulator.blobs.new()
        with good.open("wb") as output, bad.open("wb") as errors:
            for item, outcome, request in job.results(self._emulator.shuffled(job)):
                line = self._line(job, item, outcome, request)
                failed = line["response"] is None or line["response"]["status_code"] >= 400
                lines = [line] * outcome.copies + [{**line, "custom_id": f"stranger-{item.index}"}] * outcome.stranger
                (errors if failed else output).writelines(encode(line) + b"\n" for line in lines)
        job.extra["output_file_id"] = self._file(job, good, "output")
        job.extra["error_file_id"] = self._file(job, bad, "error")

    def _file(self, job: Job, path: Path, kind: str) -> str | None:
        if not (size := path.stat().st_size):
            return None
        now = self._emulator.clock.now()
        keep = job.extra.get("output_expires")
        file = self._emulator.store(File(
            id=self._emulator.id("file-"), provider="openai", name=f"{job.id}_{kind}.jsonl", path=path, size=size, created=now,
            expires=now + keep if keep else None, purpose="batch_output", generated=True,
        ))  # fmt: skip
        return file.id

    def _line(self, job: Job, item: Row, outcome: Outcome, request: Json) -> Json:
        ids = {"id": f"batch_req_{job.id[-12:]}{item.index:06d}", "custom_id": item.key}
        if message := _NOT_RUN.get(outcome.kind):
            return {**ids, "response": None, "error": {"code": f"batch_{outcome.kind}", "message": message}}
        return {**ids, "response": self._response(job, item, outcome, request["body"]), "error": None}

    def single(self, job: Job, outcome: Outcome, body: Json) -> tuple[int, Json]:
        """Return HTTP status and body of the answer to a call outside any batch."""
        response = self._response(job, job.rows[0], outcome, body)
        return response["status_code"], response["body"]

    def _response(self, job: Job, item: Row, outcome: Outcome, body: Json) -> Json:
        request_id = self._emulator.id("req_")
        if item.refusal:
            why = item.refusal
            error = {"message": why.message, "type": "invalid_request_error", "param": why.param, "code": why.code}
            return {"status_code": 400, "request_id": request_id, "body": {"error": error}}
        if outcome.kind == "error":
            kinds = ERRORS.get(outcome.error.removesuffix("_error"))
            status, kind, code, message = kinds or (400, "invalid_request_error", None, f"No error {outcome.error!r}.")
            error = {"message": message, "type": kind, "param": None, "code": code}
            return {"status_code": status, "request_id": request_id, "body": {"error": error}}
        created = int(job.stamps.get("running", job.created))
        reply, said = self._endpoint.reply(body, outcome, f"{job.id[-12:]}{item.index:06d}", created)
        job.usage.update(input=said.read, cached=said.cached, output=said.written, reasoning=said.reasoning)
        return {"status_code": 200, "request_id": request_id, "body": reply}


class Validator:
    """The check of an input file, which OpenAI makes after it has accepted the batch: an error fails the whole batch."""

    def __init__(self, emulator: Emulator, url: str, codec: LineCodec) -> None:
        self._settings = emulator.settings
        self._limits = emulator.settings.limits
        self._url = url
        self._codec = codec
        self._keys: set[str] = set()
        self._inputs = 0
        self.errors: list[Json] = []
        self.model = ""

    def rows(self, path: Path) -> list[Row]:
        """Return the rows of the file; `errors` tells what is wrong with it."""
        rows: list[Row] = []
        if path.stat().st_size > self._limits.openai_bytes:
            size = self._limits.openai_bytes
            self._wrong("invalid_request", f"The batch input file is larger than the {size} maximum for the model.")
            return rows
        for number, place, line in slices(path):
            if len(rows) >= self._limits.openai_requests:
                most = self._limits.openai_requests
                self._wrong("too_many_requests", f"The batch input file has more than {most} requests.")
                break
            if (request := self._request(number, line)) is not None:
                rows.append(self._row(number, len(rows), place, request))
            if len(self.errors) >= _SHOWN_ERRORS:
                break
        if not rows and not self.errors:
            self._wrong("empty_file", "The batch input file is empty.")
        return rows

    def _row(self, number: int, index: int, place: Slice, request: Json) -> Row:
        made = row(self._codec, index, request["custom_id"], place, request["body"])
        if self._url == "/v1/embeddings":
            given = request["body"].get("input")
            self._inputs += len(given) if isinstance(given, list) else 1
            if self._inputs > (most := self._limits.openai_embedding_inputs):
                self._wrong(
                    "too_many_inputs", f"The batch has more than {most} embedding inputs.", number, "body.input"
                )
        return made

    def _wrong(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        self.errors.append({"code": code, "message": message, "line": line, "param": param})

    def _request(self, number: int, line: bytes) -> Json | None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self._wrong("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return None
        for name in ("custom_id", "method", "url", "body"):
            if not request.get(name):
                self._wrong("missing_required_parameter", f"Missing required parameter: '{name}'.", number, name)
                return None
        return request if self._fits(number, request) else None

    def _fits(self, number: int, request: Json) -> bool:
        before, body, key = len(self.errors), request["body"], request["custom_id"]
        if not isinstance(body, dict) or not isinstance(key, str):
            self._wrong("invalid_type", "Invalid type for 'body' or 'custom_id'.", number, "body")
            return False
        if request["url"] != self._url:
            self._wrong(
                "invalid_url", "The URL provided for this request does not match the batch endpoint.", number, "url"
            )
        if key in self._keys:
            self._wrong("duplicate_custom_id", f"The custom_id {key!r} appears more than once.", number, "custom_id")
        if body.get("stream"):
            message = "Chat Completions: Streaming is not supported in the Batch API."
            self._wrong("streaming_unsupported", message, number, "body.stream")
        self._keys.add(key)
        self._check_model(number, body.get("model"))
        return len(self.errors) == before

    def _check_model(self, number: int, model: object) -> None:
        if not isinstance(model, str) or not model:
            self._wrong("invalid_request", "Model parameter is required.", number, "body.model")
        elif not self._is_served(model):
            message = f"The provided model '{model}' is not supported by the Batch API."
            self._wrong("model_not_found", message, number, "body.model")
        elif self.model and model != self.model:
            message = f"The batch has more than one model: '{self.model}' and '{model}'."
            self._wrong("mismatched_model", message, number, "body.model")
        else:
            self.model = model

    def _is_served(self, model: str) -> bool:
        """Return whether the endpoint serves the model in batches."""
        purpose = strict.PURPOSES.get(self._url)
        if self._settings.lenient or purpose is None:
            return not model.startswith("no-batch")
        return is_known("openai", purpose, model, self._settings.models)
