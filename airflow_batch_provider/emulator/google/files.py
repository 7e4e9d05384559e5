"""Gemini's files: resumable upload, metadata, download."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.emulator.blobs import TooLarge, spool
from airflow_batch_provider.emulator.calls import Call, Download, Operation, Reply, page_after
from airflow_batch_provider.emulator.clock import rfc3339
from airflow_batch_provider.emulator.core import Emulator, File
from airflow_batch_provider.emulator.google.problems import pick, refuse
from airflow_batch_provider.emulator.settings import DAY

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.jsonl import Json

_NAME = re.compile(r"files/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(slots=True)
class _Upload:
    id: str
    name: str
    label: str
    mime: str
    path: Path
    size: int | None
    received: int = 0


class Files:
    """The routes of files; `{v}` is v1 or v1beta."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._uploads: dict[str, _Upload] = {}
        self.operations = (
            Operation("google.upload.chunk", "POST", "/upload/{v}/files", self.chunk, keyless=True, query="upload_id"),
            Operation("google.upload.start", "POST", "/upload/{v}/files", self.start),
            Operation("google.download", "GET", "/{v}/files/{id}:download", self.download),
            Operation("google.download", "GET", "/download/{v}/files/{id}:download", self.download),
            Operation("google.files.get", "GET", "/{v}/files/{id}", self.get),
            Operation("google.files.delete", "DELETE", "/{v}/files/{id}", self.delete),
            Operation("google.files.list", "GET", "/{v}/files", self.listed),
        )

    async def start(self, call: Call) -> Reply:
        """POST /upload/{v}/files with `start`: answers where the bytes shall go."""
        headers = call.headers
        given = pick(await call.json(), "file") or {}
        name = str(pick(given, "name") or self._emulator.id("files/"))
        if not _NAME.fullmatch(name):
            rule = "must be lowercase letters, digits and dashes, at most 40"
            raise refuse(400, f"* CreateFileRequest.file.name: {name!r} {rule}.")
        if name in self._emulator.stored("google"):
            raise refuse(409, f"Requested entity already exists: {name}")
        size = headers.get("x-goog-upload-header-content-length")
        if size and int(size) > self._emulator.settings.limits.google_file_bytes:
            raise refuse(400, f"File size {size} is larger than the allowed size.")
        upload = _Upload(
            id=self._emulator.id("u"), name=name, label=str(pick(given, "displayName") or ""), path=self._emulator.blobs.new(),
            mime=headers.get("x-goog-upload-header-content-type") or pick(given, "mimeType") or "application/octet-stream",
            size=int(size) if size else None,
        )  # fmt: skip
        self._uploads[upload.id] = upload
        url = f"{call.base}/upload/{call.path_params['v']}/files?upload_id={upload.id}&upload_protocol=resumable"
        return Reply(None, headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})

    async def chunk(self, call: Call) -> Reply:
        """POST to that place, with `upload`, and `finalize` at the end."""
        upload = self._uploads.get(call.query("upload_id") or "")
        if upload is None:
            raise refuse(404, "Upload not found.")
        commands = {word.strip() for word in call.headers.get("x-goog-upload-command", "").split(",")}
        if "query" in commands:
            received = {"x-goog-upload-size-received": str(upload.received), "x-goog-upload-status": "active"}
            return Reply(None, headers=received)
        await self._receive(upload, call)
        if "finalize" not in commands:
            return Reply(None, headers={"x-goog-upload-status": "active"})
        if upload.size is not None and upload.received != upload.size:
            raise refuse(400, f"{upload.size} bytes were announced, {upload.received} arrived.")
        del self._uploads[upload.id]
        content = {"file": self._rendered(await self._added(upload), call)}
        return Reply(content, headers={"x-goog-upload-status": "final"})

    async def _receive(self, upload: _Upload, call: Call) -> None:
        offset = int(call.headers.get("x-goog-upload-offset") or 0)
        if offset > upload.received:
            raise refuse(400, f"The offset is {offset}, but {upload.received} bytes have arrived.")
        with upload.path.open("ab") as file:
            file.truncate(offset)
        limit = self._emulator.settings.limits.google_file_bytes - offset
        try:
            upload.received = offset + await spool(call.stream(), upload.path, limit)
        except TooLarge:
            raise refuse(400, "The file is larger than the allowed size.") from None

    async def _added(self, upload: _Upload) -> File:
        now = self._emulator.clock.now()
        return self._emulator.store(File(
            id=upload.name, provider="google", name=upload.label, path=upload.path, size=upload.received, created=now,
            expires=now + 2 * DAY, purpose=upload.mime, sha256=await asyncio.to_thread(sha256, upload.path),
        ))  # fmt: skip

    def found(self, name: str) -> File:
        """Return the file of that name; raise a 404."""
        if file := self._emulator.stored("google").get(name):
            return file
        raise refuse(404, f"The file {name} does not exist, or you have no permission to access it.")

    async def get(self, call: Call) -> Reply:
        """GET /{v}/files/{id}."""
        return Reply(self._rendered(self.found(f"files/{call.path_params['id']}"), call))

    async def delete(self, call: Call) -> Reply:
        """DELETE /{v}/files/{id}."""
        del self._emulator.files[self.found(f"files/{call.path_params['id']}").id]
        return Reply({})

    async def listed(self, call: Call) -> Reply:
        """GET /{v}/files."""
        limit, token = call.number(10, 100, "pageSize", "page_size"), call.query("pageToken", "page_token")
        page, more = page_after([*reversed(self._emulator.stored("google").values())], limit, token)
        body: Json = {"files": [self._rendered(file, call) for file in page]} if page else {}
        return Reply({**body, "nextPageToken": page[-1].id} if more else body)

    async def download(self, call: Call) -> Download:
        """GET …:download?alt=media, the raw bytes."""
        file = self.found(f"files/{call.path_params['id']}")
        return Download(file.path, file.purpose, file.size)

    def _rendered(self, file: File, call: Call) -> Json:
        uri = f"{call.base}/{call.path_params['v']}/{file.id}"
        body: Json = {
            "name": file.id,
            "mimeType": file.purpose,
            "sizeBytes": str(file.size),
            "createTime": rfc3339(file.created),
            "updateTime": rfc3339(file.created),
            "expirationTime": rfc3339(file.expires),
            "sha256Hash": base64.b64encode(file.sha256.encode()).decode(),
            "uri": uri,
            "state": "ACTIVE",
            "source": "GENERATED" if file.generated else "UPLOADED",
        }
        if file.name:
            body["displayName"] = file.name
        if file.generated:
            body["downloadUri"] = f"{uri}:download?alt=media"
        return body


def sha256(path: Path) -> str:
    """Return the hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
