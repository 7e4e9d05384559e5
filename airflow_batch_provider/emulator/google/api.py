"""The routes of Gemini batches."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.blobs import TooLarge, spool
from airflow_batch_provider.emulator.calls import Call, Operation, Reply, page_after
from airflow_batch_provider.emulator.clock import rfc3339
from airflow_batch_provider.emulator.google.files import Files
from airflow_batch_provider.emulator.google.problems import pick, problem, refuse
from airflow_batch_provider.emulator.google.rows import EmbedCodec, GenerateCodec
from airflow_batch_provider.emulator.job import Job
from airflow_batch_provider.emulator.jsonl import Json, encode, write_lines
from airflow_batch_provider.emulator.strict.models import Purpose, is_known

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.core import Emulator


_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_STATES = {
    "pending": "PENDING", "running": "RUNNING", "finalizing": "RUNNING", "cancelling": "RUNNING",
    "completed": "SUCCEEDED", "failed": "FAILED", "expired": "EXPIRED", "cancelled": "CANCELLED",
}  # fmt: skip
_CODES = {
    "INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "INTERNAL": 13, "UNAVAILABLE": 14,
}  # fmt: skip


class GoogleApi:
    """Files, batches and, for connection tests, the list of models."""

    name = "google"
    status: tuple[str, ...] = ("metadata", "state")
    problem = staticmethod(problem)

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._files = Files(emulator)
        self.operations: tuple[Operation, ...] = (
            *self._files.operations,
            Operation("google.create", "POST", "/{v}/models/{model}:batchGenerateContent", self.generate),
            Operation("google.embed", "POST", "/{v}/models/{model}:asyncBatchEmbedContent", self.embed),
            Operation("google.generate", "POST", "/{v}/models/{model}:generateContent", self.single),
            Operation("google.list", "GET", "/{v}/batches", self.listed),
            Operation("google.get", "GET", "/{v}/batches/{id}", self.get),
            Operation("google.cancel", "POST", "/{v}/batches/{id}:cancel", self.cancel),
            Operation("google.delete", "DELETE", "/{v}/batches/{id}", self.delete),
            Operation("google.models", "GET", "/{v}/models", self.models),
        )

    def key(self, call: Call) -> str:
        """Return the API key, from a header or the query."""
        return call.headers.get("x-goog-api-key") or call.query_params.get("key", "")

    def headers(self) -> dict[str, str]:
        """Return none: the SDK reads none."""
        return {}

    async def generate(self, call: Call) -> Reply:
        """POST models/{m}:batchGenerateContent."""
        model = self._served(call, "text", "batchGenerateContent")
        return await self._create(call, GenerateCodec(self._emulator, model), "GenerateContentBatch")

    async def embed(self, call: Call) -> Reply:
        """POST models/{m}:asyncBatchEmbedContent."""
        model = self._served(call, "embedding", "asyncBatchEmbedContent")
        return await self._create(call, EmbedCodec(self._emulator, model), "EmbedContentBatch")

    async def single(self, call: Call) -> Reply:
        """POST models/{m}:generateContent: one answer, outside any batch."""
        model = f"models/{self._served(call, 'text', 'generateContent')}"
        request, codec = await call.json(), GenerateCodec(self._emulator, model)
        status, content = codec.single(*self._emulator.single(self.name, codec, request, model), request)
        return Reply(content, status)

    def _served(self, call: Call, purpose: Purpose, method: str) -> str:
        """Return the model of the path; raise a 404 in Google's words for one that does not exist or has no such method."""
        model, settings = call.path_params["model"], self._emulator.settings
        if settings.lenient or is_known(self.name, purpose, model, settings.models):
            return str(model)
        version = call.path_params["v"]
        raise refuse(
            404,
            f"models/{model} is not found for API version {version}, or is not supported for {method}. Call ListModels to see "
            "the list of available models and their supported methods.",
        )

    async def _create(self, call: Call, codec: GenerateCodec, kind: str) -> Reply:
        batch = await self._body(call)
        source = pick(batch, "inputConfig") or {}
        inline = pick(pick(source, "requests"), "requests")
        name = pick(source, "fileName")
        path = self._emulator.blobs.new() if inline else self._files.found(str(name or "files/")).path
        job = Job(
            id=self._emulator.id("batches/"), provider=self.name, codec=codec, path=path, created=self._emulator.clock.now(),
            window=self._emulator.settings.google_window, model=f"models/{call.path_params['model']}",
            label=str(pick(batch, "displayName") or ""), extra={"inline": bool(inline), "kind": kind, "file": name},
        )  # fmt: skip
        if inline:
            write_lines(job.path, map(encode, inline))
        try:
            job.rows = await asyncio.to_thread(codec.rows, job.path)
        except ValueError as error:
            job.faults.fail = ("INVALID_ARGUMENT", str(error))
        await asyncio.to_thread(self._emulator.jobs.refresh, self.name)
        self._check(job)
        self._emulator.jobs.add(job)
        return Reply(self._render(job), job=job)

    async def _body(self, call: Call) -> Json:
        limit = self._emulator.settings.limits.google_inline_bytes
        path: Path = self._emulator.blobs.new()
        try:
            await spool(call.stream(), path, limit)
        except TooLarge:
            raise refuse(400, f"Request payload size exceeds the limit: {limit} bytes.") from None
        value = await asyncio.to_thread(_read, path)
        batch = pick(value, "batch")
        if not isinstance(batch, dict):
            raise refuse(400, "* BatchGenerateContentRequest.batch: batch is required")
        return batch

    def _check(self, job: Job) -> None:
        active, limits = self._emulator.jobs.active(self.name), self._emulator.settings.limits
        if len(active) >= limits.google_jobs:
            raise refuse(429, f"You have {len(active)} batch jobs in flight; at most {limits.google_jobs} may be.")
        if limits.google_enqueued_tokens is None:
            return
        waiting = sum(other.tokens for other in active if other.model == job.model)
        if waiting + job.tokens > limits.google_enqueued_tokens:
            message = f"Batch enqueued tokens for {job.model} exceed the limit of {limits.google_enqueued_tokens}."
            raise refuse(429, message)

    def _found(self, call: Call) -> Job:
        name = f"batches/{call.path_params['id']}"
        if job := self._emulator.jobs.visible(self.name, name):
            return job
        raise refuse(404, f"Requested entity was not found: {name}")

    async def get(self, call: Call) -> Reply:
        """GET /{v}/batches/{id}."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.poll, job)
        return Reply(await asyncio.to_thread(self._render, job))

    async def listed(self, call: Call) -> Reply:
        """GET /{v}/batches, newest first, without inlined responses."""
        limit, token = call.number(50, 1000, "pageSize", "page_size"), call.query("pageToken", "page_token")
        page, more = page_after(self._emulator.jobs.listed(self.name), limit, token)
        await asyncio.to_thread(self._emulator.jobs.poll, *page)
        body: Json = {"operations": [self._render(job, brief=True) for job in page]} if page else {}
        return Reply({**body, "nextPageToken": page[-1].id} if more else body)

    async def cancel(self, call: Call) -> Reply:
        """POST /{v}/batches/{id}:cancel."""
        job = self._found(call)
        if not await asyncio.to_thread(self._emulator.jobs.cancel, job) and job.phase != "cancelled":
            raise refuse(400, f"{job.id} has ended and cannot be cancelled.", "FAILED_PRECONDITION")
        return Reply({})

    async def delete(self, call: Call) -> Reply:
        """DELETE /{v}/batches/{id}; a running job stops."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.advance, job)
        del self._emulator.jobs.all[job.id]
        return Reply({})

    async def models(self, _call: Call) -> Reply:
        """GET /{v}/models."""
        model = {"name": "models/gemini-emulated-1", "displayName": "Emulated", "version": "1"}
        methods = ["generateContent", "batchGenerateContent", "asyncBatchEmbedContent"]
        return Reply({"models": [{**model, "supportedGenerationMethods": methods}]})

    def _render(self, job: Job, *, brief: bool = False) -> Json:
        output = _output(job, brief=brief)
        metadata: Json = {
            "@type": _TYPE + job.extra["kind"],
            "name": job.id,
            "model": job.model,
            "displayName": job.label,
            "inputConfig": {"fileName": job.extra["file"]} if job.extra["file"] else {},
            "createTime": rfc3339(job.created),
            "updateTime": rfc3339(max([job.created, *job.stamps.values()])),
            "batchStats": _stats(job),
            "state": f"BATCH_STATE_{_STATES[job.phase]}",
        }
        if job.ended:
            metadata["endTime"] = rfc3339(job.stamps[job.phase])
        if output:
            metadata["output"] = output
        operation: Json = {"name": job.id, "metadata": metadata}
        if not job.ended:
            return operation
        if job.phase == "completed":
            return {**operation, "done": True, "response": {"@type": f"{_TYPE}{job.extra['kind']}Output", **output}}
        return {**operation, "done": True, "error": _error(job)}


def _read(path: Path) -> object:
    raw = path.read_bytes()
    path.unlink()
    return json.loads(raw or b"{}")


def _output(job: Job, *, brief: bool) -> Json:
    if name := job.extra.get("responses_file"):
        return {"responsesFile": name}
    path: Path | None = job.extra.get("responses")
    if path is None or brief:
        return {}
    with path.open("rb") as file:
        return {"inlinedResponses": {"inlinedResponses": [json.loads(line) for line in file]}}


def _stats(job: Job) -> Json:
    good, total = job.counts["succeeded"], len(job.rows)
    failed = sum(job.counts.values()) - good
    counts = {"request": total, "successfulRequest": good, "failedRequest": failed}
    counts["pendingRequest"] = total - good - failed
    return {f"{name}Count": str(count) for name, count in counts.items()}


def _error(job: Job) -> Json:
    match job.phase:
        case "cancelled":
            return {"code": 1, "message": "The batch was cancelled.", "status": "CANCELLED"}
        case "expired":
            return {"code": 4, "message": "The batch did not end within its window.", "status": "DEADLINE_EXCEEDED"}
    code, message = job.faults.fail or ("INTERNAL", "An internal error has occurred.")
    return {"code": _CODES.get(code, 13), "message": message, "status": code}
