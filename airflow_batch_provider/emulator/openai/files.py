"""OpenAI's Files and Uploads."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import FormData, UploadFile

from airflow_batch_provider.emulator.calls import Call, Download, Operation, Reply, ends, page_after
from airflow_batch_provider.emulator.clock import unix
from airflow_batch_provider.emulator.core import Emulator, File
from airflow_batch_provider.emulator.openai.problems import missing, refuse
from airflow_batch_provider.emulator.settings import DAY

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.jsonl import Json

_PART_BYTES = 64 * 1024 * 1024
_UPLOAD_BYTES = 8 * 1024**3


def rendered(file: File) -> Json:
    """Return a FileObject."""
    body: Json = {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": unix(file.created),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
    return body if file.expires is None else {**body, "expires_at": unix(file.expires)}


class Files:
    """The /v1/files routes."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self.operations = (
            Operation("openai.files.create", "POST", "/v1/files", self.create),
            Operation("openai.files.list", "GET", "/v1/files", self.listed),
            Operation("openai.files.retrieve", "GET", "/v1/files/{id}", self.retrieve),
            Operation("openai.files.delete", "DELETE", "/v1/files/{id}", self.delete),
            Operation("openai.files.content", "GET", "/v1/files/{id}/content", self.content),
        )

    async def create(self, call: Call) -> Reply:
        """POST /v1/files, multipart."""
        async with call.form(max_files=1) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise missing("file")
            purpose = str(form.get("purpose") or "")
            if not purpose:
                raise missing("purpose")
            name = upload.filename or "upload"
            self._check(purpose, name, upload.size or 0)
            path = self._emulator.blobs.new()
            with path.open("wb") as target:
                await asyncio.to_thread(shutil.copyfileobj, upload.file, target, 1 << 20)
        return Reply(rendered(self.add(path, name, purpose, _lifetime(form, purpose))))

    def _check(self, purpose: str, name: str, size: int) -> None:
        if purpose == "batch" and not name.endswith(".jsonl"):
            raise refuse(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
        if size > self._emulator.settings.limits.openai_file_bytes:
            raise refuse(413, "Maximum content size limit exceeded.")

    def add(self, path: Path, name: str, purpose: str, lifetime: float | None) -> File:
        """Add a file that was uploaded."""
        now = self._emulator.clock.now()
        return self._emulator.store(File(
            id=self._emulator.id("file-"), provider="openai", name=name, path=path, size=path.stat().st_size, created=now,
            expires=now + lifetime if lifetime else None, purpose=purpose,
        ))  # fmt: skip

    def found(self, file_id: str) -> File:
        """Return the file of that id; raise a 404."""
        if file := self._emulator.stored("openai").get(file_id):
            return file
        raise refuse(404, f"No such File object: {file_id}", param="id")

    async def listed(self, call: Call) -> Reply:
        """GET /v1/files, newest first unless `order=asc`."""
        limit = call.number(10_000, 10_000, "limit")
        purpose = call.query("purpose")
        files = [file for file in self._emulator.stored("openai").values() if purpose in (None, file.purpose)]
        if call.query("order") != "asc":
            files.reverse()
        page, more = page_after(files, limit, call.query("after"))
        return Reply({"object": "list", "data": [rendered(file) for file in page], "has_more": more, **ends(page)})

    async def retrieve(self, call: Call) -> Reply:
        """GET /v1/files/{id}."""
        return Reply(rendered(self.found(call.path_params["id"])))

    async def delete(self, call: Call) -> Reply:
        """DELETE /v1/files/{id}; a batch that reads it goes on."""
        file = self.found(call.path_params["id"])
        del self._emulator.files[file.id]
        return Reply({"id": file.id, "object": "file", "deleted": True})

    async def content(self, call: Call) -> Download:
        """GET /v1/files/{id}/content, the raw bytes."""
        file = self.found(call.path_params["id"])
        return Download(file.path, "application/octet-stream", file.size)


def _lifetime(form: FormData, purpose: str) -> float | None:
    text = form.get("expires_after[seconds]")
    if text is None:
        return 30 * DAY if purpose == "batch" else None
    return lifetime(int(str(text)))


def lifetime(seconds: int) -> float:
    """Return the seconds a file may live; refuse what OpenAI refuses."""
    if not 3600 <= seconds <= 2_592_000:
        message = f"expires_after.seconds must be between 3600 and 2592000, not {seconds}."
        raise refuse(400, message, param="expires_after")
    return float(seconds)


@dataclass(slots=True)
class _Upload:
    id: str
    size: int
    name: str
    purpose: str
    created: float
    lifetime: float | None
    status: str = "pending"
    parts: dict[str, Path] = field(default_factory=dict)
    file: File | None = None


class Uploads:
    """The /v1/uploads routes: a file in parts."""

    def __init__(self, emulator: Emulator, files: Files) -> None:
        self._emulator = emulator
        self._files = files
        self._all: dict[str, _Upload] = {}
        root = "/v1/uploads"
        self.operations = (
            Operation("openai.uploads.create", "POST", root, self.create),
            Operation("openai.uploads.parts", "POST", f"{root}/{{id}}/parts", self.part),
            Operation("openai.uploads.complete", "POST", f"{root}/{{id}}/complete", self.complete),
            Operation("openai.uploads.cancel", "POST", f"{root}/{{id}}/cancel", self.cancel),
        )

    async def create(self, call: Call) -> Reply:
        """POST /v1/uploads."""
        body = await call.json()
        for name in ("bytes", "filename", "mime_type", "purpose"):
            if name not in body:
                raise missing(name)
        if int(body["bytes"]) > _UPLOAD_BYTES:
            raise refuse(400, f"bytes must be at most {_UPLOAD_BYTES}.", param="bytes")
        keep = (body.get("expires_after") or {}).get("seconds")
        upload = _Upload(
            id=self._emulator.id("upload_"), size=int(body["bytes"]), name=str(body["filename"]), purpose=str(body["purpose"]),
            created=self._emulator.clock.now(), lifetime=lifetime(int(keep)) if keep else None,
        )  # fmt: skip
        self._all[upload.id] = upload
        return Reply(_upload(upload))

    def _open(self, call: Call) -> _Upload:
        upload = self._all.get(call.path_params["id"])
        if upload is None:
            raise refuse(404, f"No such Upload object: {call.path_params['id']}", param="id")
        if upload.status == "pending" and self._emulator.clock.now() >= upload.created + 3600:
            upload.status = "expired"
        if upload.status != "pending":
            raise refuse(400, f"Upload {upload.id} is {upload.status}.", param="id")
        return upload

    async def part(self, call: Call) -> Reply:
        """POST /v1/uploads/{id}/parts, multipart."""
        upload = self._open(call)
        async with call.form(max_files=1) as form:
            data = form.get("data")
            if not isinstance(data, UploadFile):
                raise missing("data")
            if (data.size or 0) > _PART_BYTES:
                raise refuse(413, f"A part must be at most {_PART_BYTES} bytes.")
            part_id = self._emulator.id("part_")
            upload.parts[part_id] = path = self._emulator.blobs.new()
            with path.open("wb") as target:
                await asyncio.to_thread(shutil.copyfileobj, data.file, target, 1 << 20)
        created = unix(self._emulator.clock.now())
        return Reply({"id": part_id, "object": "upload.part", "created_at": created, "upload_id": upload.id})

    async def complete(self, call: Call) -> Reply:
        """POST /v1/uploads/{id}/complete: the parts, in the order given, become a file."""
        upload = self._open(call)
        wanted = (await call.json()).get("part_ids") or []
        if not wanted or any(part not in upload.parts for part in wanted):
            raise refuse(400, "part_ids must name the parts of this upload.", param="part_ids")
        path = self._emulator.blobs.new()
        await asyncio.to_thread(_join, [upload.parts[part] for part in wanted], path)
        if path.stat().st_size != upload.size:
            message = f"The parts have {path.stat().st_size} bytes, {upload.size} were announced."
            raise refuse(400, message, param="part_ids")
        upload.file = self._files.add(path, upload.name, upload.purpose, upload.lifetime)
        upload.status = "completed"
        return Reply(_upload(upload))

    async def cancel(self, call: Call) -> Reply:
        """POST /v1/uploads/{id}/cancel."""
        upload = self._open(call)
        upload.status = "cancelled"
        return Reply(_upload(upload))


def _join(parts: list[Path], target: Path) -> None:
    with target.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)


def _upload(upload: _Upload) -> Json:
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": unix(upload.created),
        "expires_at": unix(upload.created + 3600),
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": rendered(upload.file) if upload.file else None,
    }
