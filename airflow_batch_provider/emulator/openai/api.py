"""The routes of OpenAI's batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.calls import Call, Operation, Refused, Reply, ends, page_after
from airflow_batch_provider.emulator.clock import unix
from airflow_batch_provider.emulator.job import Job
from airflow_batch_provider.emulator.openai.files import Files, Uploads, lifetime
from airflow_batch_provider.emulator.openai.problems import missing, problem, refuse
from airflow_batch_provider.emulator.openai.rows import ENDPOINTS, LineCodec, Validator
from airflow_batch_provider.emulator.strict.models import is_known
from airflow_batch_provider.emulator.strict.openai import PURPOSES

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.jsonl import Json


_SINGLE = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "openai.embeddings": "/v1/embeddings",
}
_WORDS = {"pending": "validating", "running": "in_progress"}


class OpenAIApi:
    """Files, uploads, batches and, for connection tests, the list of models."""

    name = "openai"
    status: tuple[str, ...] = ("status",)
    problem = staticmethod(problem)

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._files = Files(emulator)
        self._uploads = Uploads(emulator, self._files)
        root = "/v1/batches"
        self.operations: tuple[Operation, ...] = (
            Operation("openai.batches.create", "POST", root, self.create),
            Operation("openai.batches.list", "GET", root, self.listed),
            Operation("openai.batches.retrieve", "GET", f"{root}/{{id}}", self.retrieve),
            Operation("openai.batches.cancel", "POST", f"{root}/{{id}}/cancel", self.cancel),
            *(Operation(name, "POST", url, self.single) for name, url in _SINGLE.items()),
            Operation("openai.models", "GET", "/v1/models", self.models),
            *self._files.operations,
            *self._uploads.operations,
        )

    def key(self, call: Call) -> str:
        """Return the bearer token."""
        return call.bearer

    def headers(self) -> dict[str, str]:
        """Return a number for the request, and how long it took."""
        return {"x-request-id": self._emulator.id("req_"), "openai-processing-ms": "1"}

    async def create(self, call: Call) -> Reply:
        """POST /v1/batches; what is wrong with the file shows only later."""
        body = await call.json()
        _check(body)
        url = body["endpoint"]
        job = Job(
            id=self._emulator.id("batch_"), provider=self.name, codec=LineCodec(self._emulator, url), path=self._emulator.blobs.new(),
            created=self._emulator.clock.now(), window=self._emulator.settings.openai_window, metadata=body.get("metadata") or {},
            extra={"endpoint": url, "input_file_id": body["input_file_id"], "metadata": body.get("metadata")},
        )  # fmt: skip
        if keep := (body.get("output_expires_after") or {}).get("seconds"):
            job.extra["output_expires"] = lifetime(int(keep))
        await asyncio.to_thread(self._emulator.jobs.refresh, self.name)
        await self._validate(job, url)
        self._emulator.jobs.add(job)
        return Reply(_render(job), job=job)

    async def single(self, call: Call) -> Reply:
        """POST /v1/chat/completions, /v1/responses or /v1/embeddings: one answer, outside any batch."""
        url = next(url for url in _SINGLE.values() if call.path.endswith(url))
        body, codec = await call.json(), LineCodec(self._emulator, url)
        model, settings = str(body.get("model", "")), self._emulator.settings
        if not settings.lenient and not is_known(self.name, PURPOSES[url], model, settings.models):
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise refuse(404, message, code="model_not_found")
        status, content = codec.single(*self._emulator.single(self.name, codec, body, model), body)
        return Reply(content, status)

    async def _validate(self, job: Job, url: str) -> None:
        file_id = job.extra["input_file_id"]
        try:
            job.path = self._files.found(file_id).path
        except Refused:
            message = f"Cannot find file {file_id}, or the organization lacks access."
            errors = [_error("invalid_request", message, "file_id")]
        else:
            assert isinstance(job.codec, LineCodec)
            validator = Validator(self._emulator, url, job.codec)
            job.rows = await asyncio.to_thread(validator.rows, job.path)
            job.model = validator.model
            errors = validator.errors or self._over(job)
        if errors:
            job.rows = []
            job.extra["errors"] = errors
            job.faults.fail = (errors[0]["code"], errors[0]["message"])

    def _over(self, job: Job) -> list[Json]:
        """Return the error of a job with too many tokens for the model's queue; it is transient."""
        most = self._emulator.settings.limits.openai_enqueued_tokens
        if most is None:
            return []
        waiting = sum(other.tokens for other in self._emulator.jobs.active(self.name) if other.model == job.model)
        if waiting + job.tokens <= most:
            return []
        message = (
            f"Enqueued token limit reached for {job.model} in organization org-emulated. Limit: {most:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return [_error("token_limit_exceeded", message)]

    def _found(self, call: Call) -> Job:
        if job := self._emulator.jobs.visible(self.name, call.path_params["id"]):
            return job
        raise refuse(404, f"No batch found with id '{call.path_params['id']}'.")

    async def retrieve(self, call: Call) -> Reply:
        """GET /v1/batches/{id}."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.poll, job)
        return Reply(_render(job))

    async def listed(self, call: Call) -> Reply:
        """GET /v1/batches, newest first."""
        limit = call.number(20, 100, "limit")
        page, more = page_after(self._emulator.jobs.listed(self.name), limit, call.query("after"))
        await asyncio.to_thread(self._emulator.jobs.poll, *page)
        return Reply({"object": "list", "data": [_render(job) for job in page], **ends(page), "has_more": more})

    async def cancel(self, call: Call) -> Reply:
        """POST …/cancel; 409 for a batch that has ended otherwise."""
        job = self._found(call)
        going = await asyncio.to_thread(self._emulator.jobs.cancel, job)
        if not going and job.phase != "cancelled":
            raise refuse(409, f"Cannot cancel a batch with status '{_word(job)}'.")
        return Reply(_render(job))

    async def models(self, _call: Call) -> Reply:
        """GET /v1/models."""
        model = {"id": "gpt-emulated-1", "object": "model", "created": 1_767_225_600, "owned_by": "emulator"}
        return Reply({"object": "list", "data": [model]})


def _check(body: Json) -> None:
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not body.get(name):
            raise missing(name)
    if body["endpoint"] not in ENDPOINTS:
        supported = ", ".join(f"'{url}'" for url in ENDPOINTS)
        message = f"Invalid value: '{body['endpoint']}'. Supported values are: {supported}."
        raise refuse(400, message, code="invalid_value", param="endpoint")
    if body["completion_window"] != "24h":
        message = f"Invalid value: '{body['completion_window']}'. Value must be '24h'."
        raise refuse(400, message, code="invalid_value", param="completion_window")
    _check_metadata(body.get("metadata"))


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > 16:
        message = "Invalid 'metadata': expected an object with at most 16 pairs."
        raise refuse(400, message, code="invalid_type", param="metadata")
    for name, value in metadata.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'metadata.{name}': expected a string, but got {_named(value)} instead."
            raise refuse(400, message, code="invalid_type", param=f"metadata.{name}")
        if len(name) > 64 or len(value) > 512:
            message = f"Invalid 'metadata.{name[:64]}': keys have at most 64 characters, values 512."
            raise refuse(400, message, code="string_above_max_length", param="metadata")


def _named(value: object) -> str:
    names = {list: "an array", dict: "an object", bool: "a boolean", int: "an integer", float: "a decimal"}
    return "null" if value is None else names.get(type(value), "another type")


def _error(code: str, message: str, param: str | None = None) -> Json:
    return {"code": code, "message": message, "line": None, "param": param}


def _word(job: Job) -> str:
    return _WORDS.get(job.phase, job.phase)


def _render(job: Job) -> Json:
    errors = None
    if job.phase == "failed" and job.faults.fail:
        listed = job.extra.get("errors") or [_error(*job.faults.fail)]
        errors = {"object": "list", "data": listed}
    stamps = job.stamps
    ran = job.phase not in ("pending", "failed")
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.extra["endpoint"],
        "model": job.model or None,
        "errors": errors,
        "input_file_id": job.extra["input_file_id"],
        "completion_window": "24h",
        "status": _word(job),
        "output_file_id": job.extra.get("output_file_id"),
        "error_file_id": job.extra.get("error_file_id"),
        "created_at": unix(job.created),
        "in_progress_at": unix(stamps.get("running")),
        "expires_at": unix(job.created + job.window),
        "finalizing_at": unix(stamps.get("finalizing")),
        "completed_at": unix(stamps.get("completed")),
        "failed_at": unix(stamps.get("failed")),
        "expired_at": unix(stamps.get("expired")),
        "cancelling_at": unix(stamps.get("cancelling")),
        "cancelled_at": unix(stamps.get("cancelled")),
        "request_counts": {
            "total": len(job.rows) if ran else 0,
            "completed": job.counts["succeeded"],
            "failed": job.counts["failed"] + job.counts["expired"] + job.counts["cancelled"],
        },
        "usage": {
            "input_tokens": job.usage["input"],
            "input_tokens_details": {"cached_tokens": job.usage["cached"]},
            "output_tokens": job.usage["output"],
            "output_tokens_details": {"reasoning_tokens": job.usage["reasoning"]},
            "total_tokens": job.usage["input"] + job.usage["output"],
        },
        "metadata": job.extra["metadata"],
    }
