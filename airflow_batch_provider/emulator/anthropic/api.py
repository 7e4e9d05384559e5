"""The routes of Anthropic's Message Batches."""

from __future__ import annotations

import asyncio
import json
import mmap
import re
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.emulator.anthropic.rows import ERRORS, MessageCodec
from airflow_batch_provider.emulator.blobs import TooLarge, spool
from airflow_batch_provider.emulator.calls import Call, Download, Operation, Problem, Refused, Reply, ends, page_after
from airflow_batch_provider.emulator.clock import rfc3339
from airflow_batch_provider.emulator.core import Emulator, row
from airflow_batch_provider.emulator.job import Job, Row
from airflow_batch_provider.emulator.jsonl import Json, Slice
from airflow_batch_provider.emulator.strict.anthropic import LONG_OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BY_STATUS = {status: (kind, message) for status, kind, message in reversed(ERRORS.values())}
_BY_STATUS |= {409: ("conflict_error", "Conflict"), 413: ("request_too_large", "Request exceeds the maximum size")}


class _Body(msgspec.Struct):
    """The body of a create, whose requests stay text."""

    requests: list[msgspec.Raw] = []


class AnthropicApi:
    """Message batches and, for connection tests, the list of models."""

    name = "anthropic"
    status: tuple[str, ...] = ("processing_status",)

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        root = "/v1/messages/batches"
        self.operations: tuple[Operation, ...] = (
            Operation("anthropic.create", "POST", root, self.create),
            Operation("anthropic.list", "GET", root, self.listed),
            Operation("anthropic.retrieve", "GET", f"{root}/{{id}}", self.retrieve),
            Operation("anthropic.cancel", "POST", f"{root}/{{id}}/cancel", self.cancel),
            Operation("anthropic.delete", "DELETE", f"{root}/{{id}}", self.delete),
            Operation("anthropic.results", "GET", f"{root}/{{id}}/results", self.results),
            Operation("anthropic.message", "POST", "/v1/messages", self.message),
            Operation("anthropic.models", "GET", "/v1/models", self.models),
        )

    def key(self, call: Call) -> str:
        """Return the API key: SDKs up to 2.11 send x-api-key, later ones a bearer token."""
        return call.headers.get("x-api-key") or call.bearer

    def headers(self) -> dict[str, str]:
        """Return a number for the request."""
        return {"request-id": self._emulator.id("req_")}

    def problem(self, problem: Problem) -> Reply:
        """Return the error; a code that ends with `_error` is its type, others go to its details."""
        kind, message = _BY_STATUS.get(problem.status, ("api_error", "Internal server error"))
        details = problem.details
        if problem.code and problem.code.endswith(("_error", "_too_large")):
            kind = problem.code
        elif problem.code:
            details = {**(details or {}), "error_code": problem.code}
        error: Json = {"type": kind, "message": problem.message or message}
        if details is not None:
            error["details"] = details
        request_id = self._emulator.id("req_")
        content = {"type": "error", "error": error, "request_id": request_id}
        return Reply(content, problem.status, {"request-id": request_id})

    def _refuse(self, status: int, message: str) -> Refused:
        return Refused(self.problem(Problem(status, message=message)))

    async def create(self, call: Call) -> Reply:
        """POST /v1/messages/batches."""
        if not call.headers.get("anthropic-version"):
            raise self._refuse(400, "anthropic-version: header is required")
        body = self._emulator.blobs.new()
        try:
            await spool(call.stream(), body, self._emulator.settings.limits.anthropic_bytes)
        except TooLarge:
            raise self._refuse(413, "Request exceeds the maximum size") from None
        long_output = LONG_OUTPUT in call.headers.get("anthropic-beta", "")
        codec = MessageCodec(self._emulator, long_output=long_output)
        job = Job(
            id=self._emulator.id("msgbatch_01"), provider=self.name, codec=codec, path=self._emulator.blobs.new(),
            created=self._emulator.clock.now(), window=self._emulator.settings.anthropic_window,
        )  # fmt: skip
        job.rows = await asyncio.to_thread(self._rows, body, job)
        body.unlink()
        self._emulator.jobs.add(job)
        return Reply(self._render(job, call), job=job)

    async def message(self, call: Call) -> Reply:
        """POST /v1/messages: one answer, outside any batch."""
        if not call.headers.get("anthropic-version"):
            raise self._refuse(400, "anthropic-version: header is required")
        request = await call.json()
        long_output = LONG_OUTPUT in call.headers.get("anthropic-beta", "")
        codec = MessageCodec(self._emulator, long_output=long_output)
        ran = self._emulator.single(self.name, codec, request, str(request.get("model", "")))
        status, content = codec.single(*ran, request)
        return Reply(content, status)

    def _rows(self, body: Path, job: Job) -> list[Row]:
        """Write the requests of a body as lines and return their rows; the body is mapped, so memory stays flat."""
        if not body.stat().st_size:
            raise self._refuse(400, "The request body is not valid JSON: it is empty")
        with body.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            rows = self._written(msgspec.json.decode(mapped, type=_Body).requests, job)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise self._refuse(400, f"The request body is not valid JSON: {error}") from None
        if not rows:
            raise self._refuse(400, "requests: List should have at least 1 item after validation, not 0")
        return rows

    def _written(self, requests: list[msgspec.Raw], job: Job) -> list[Row]:
        rows: list[Row] = []
        seen: set[str] = set()
        offset = 0
        with job.path.open("wb") as file:
            for index, raw in enumerate(requests):
                request = json.loads(bytes(raw))
                key = self._key(index, request, seen)
                length = file.write(raw) + file.write(b"\n")
                rows.append(row(job.codec, index, key, Slice(offset, length), request["params"]))
                offset += length
                job.model = job.model or str(request["params"].get("model", ""))
        return rows

    def _key(self, index: int, request: object, seen: set[str]) -> str:
        most = self._emulator.settings.limits.anthropic_requests
        if index >= most:
            raise self._refuse(400, f"requests: List should have at most {most} items after validation")
        if not isinstance(request, dict) or not isinstance(request.get("params"), dict):
            raise self._refuse(400, f"requests.{index}.params: Field required")
        key = request.get("custom_id")
        if not isinstance(key, str):
            raise self._refuse(400, f"requests.{index}.custom_id: Field required")
        if not _CUSTOM_ID.fullmatch(key):
            message = f"requests.{index}.custom_id: String should match pattern '^{_CUSTOM_ID.pattern}$'"
            raise self._refuse(400, message)
        if key in seen:
            raise self._refuse(400, f"requests: custom_id values must be unique; {key!r} appears more than once")
        seen.add(key)
        return key

    def _found(self, call: Call) -> Job:
        if job := self._emulator.jobs.visible(self.name, call.path_params["id"]):
            return job
        raise self._refuse(404, f"Message batch not found: {call.path_params['id']}")

    async def retrieve(self, call: Call) -> Reply:
        """GET /v1/messages/batches/{id}."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.poll, job)
        return Reply(self._render(job, call))

    async def listed(self, call: Call) -> Reply:
        """GET /v1/messages/batches, newest first."""
        try:
            limit = call.number(20, 1000, "limit")
        except ValueError as error:
            raise self._refuse(400, str(error)) from None
        jobs = self._emulator.jobs.listed(self.name)
        if before := call.query("before_id"):
            earlier = [job.id for job in jobs].index(before) if any(job.id == before for job in jobs) else 0
            page, more = jobs[max(0, earlier - limit) : earlier], earlier > limit
        else:
            page, more = page_after(jobs, limit, call.query("after_id"))
        await asyncio.to_thread(self._emulator.jobs.poll, *page)
        return Reply({"data": [self._render(job, call) for job in page], "has_more": more, **ends(page)})

    async def cancel(self, call: Call) -> Reply:
        """POST …/cancel; a batch that has ended answers as it is."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.cancel, job)
        return Reply(self._render(job, call))

    async def delete(self, call: Call) -> Reply:
        """DELETE, only when it has ended."""
        job = await asyncio.to_thread(self._emulator.jobs.advance, self._found(call))
        if not job.ended:
            raise self._refuse(400, f"Message batch {job.id} is still in progress. Cancel it before you delete it.")
        del self._emulator.jobs.all[job.id]
        return Reply({"id": job.id, "type": "message_batch_deleted"})

    async def results(self, call: Call) -> Download:
        """GET …/results: JSON lines in an order of their own."""
        job = self._found(call)
        await asyncio.to_thread(self._emulator.jobs.advance, job)
        if not job.ended or self._archived(job):
            raise self._refuse(404, f"Message batch {job.id} has no available results.")
        return Download(job.extra["results"], "application/x-jsonl")

    async def models(self, _call: Call) -> Reply:
        """GET /v1/models."""
        model = {
            "type": "model", "id": "claude-emulated-1", "display_name": "Emulated", "lifecycle": "active",
            "created_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        return Reply({"data": [model], "has_more": False, "first_id": model["id"], "last_id": model["id"]})

    def _archived(self, job: Job) -> bool:
        return self._emulator.clock.now() >= job.created + self._emulator.settings.anthropic_retention

    def _render(self, job: Job, call: Call) -> Json:
        archived = job.created + self._emulator.settings.anthropic_retention if self._archived(job) else None
        available = job.ended and archived is None
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": _status(job),
            "request_counts": _counts(job),
            "created_at": rfc3339(job.created),
            "expires_at": rfc3339(job.created + job.window),
            "ended_at": rfc3339(job.stamps[job.phase]) if job.ended else None,
            "cancel_initiated_at": rfc3339(job.stamps.get("cancelling")),
            "archived_at": rfc3339(archived),
            "results_url": f"{call.base}/v1/messages/batches/{job.id}/results" if available else None,
        }


def _status(job: Job) -> str:
    if job.ended:
        return "ended"
    return "canceling" if job.phase == "cancelling" else "in_progress"


def _counts(job: Job) -> Json:
    """Return the counts: every request is `processing` until the batch has ended (documented and observed)."""
    names = {"succeeded": "succeeded", "errored": "failed", "canceled": "cancelled", "expired": "expired"}
    if not job.ended:
        return {"processing": len(job.rows), **dict.fromkeys(names, 0)}
    return {"processing": 0, **{name: job.counts[counted] for name, counted in names.items()}}
