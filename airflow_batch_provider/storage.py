"""Stage storage: one task instance's directory on any filesystem; the files that are there are the state.

Nothing half-written is ever visible under its final name: bytes are gathered in a local file and published whole.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import msgspec
from pydantic import BaseModel

from airflow_batch_provider.blocks import line_blocks
from airflow_batch_provider.exceptions import DiskFull, UsageError
from airflow_batch_provider.scratch import scratch_folder, told_if_full, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from fsspec import AbstractFileSystem
    from upath import UPath
    from upath.extensions import ProxyUPath

_ARTIFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BLOCK = 1 << 20

# What a filesystem without hard links answers (link(2): EPERM; FUSE and CIFS the others).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})

# Filesystems on which an object appears whole when its upload completes; on others a rename makes it so.
_WHOLE_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})
# s3fs (2026.9) sends ten parts of 50 MB at a time by default, all of them in memory.
_SMALL_PARTS = {"chunksize": 8 << 20, "max_concurrency": 2}


class Directory:
    """Blocking reads and atomic writes below one root.

    Args:
        root: any fsspec path (`UPath`, Airflow's `ObjectStoragePath`); made when first written to.

    Attributes:
        is_exclusive: False where two workers that create the same file may both be told that they were first: fsspec's
            own `mode="create"` checks first and writes then (2026.9, `spec.py`).
    """

    def __init__(self, root: UPath | ProxyUPath) -> None:
        self.root = root
        self._fs = root.fs
        protocol = self._fs.protocol
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        self._whole = bool(names & _WHOLE_OBJECTS)
        self._local = bool(names & {"file", "local"})
        self._put_options = _SMALL_PARTS if names & {"s3", "s3a"} else {}
        self.is_exclusive = self._local or self._whole

    def __str__(self) -> str:
        """The address of the root, for messages."""
        return str(self.root)

    def uri(self, name: str) -> str:
        """Where a file is, for people and for the manifest."""
        return str(self.root / name)

    def sub(self, name: str) -> Directory:
        """A directory below this one."""
        return Directory(self.root / name)

    @property
    def _fresh(self) -> AbstractFileSystem:
        """The filesystem, without what it remembers of earlier listings: another worker may have written since."""
        self._fs.invalidate_cache()
        return self._fs

    def _path(self, name: str) -> str:
        return str((self.root / name).path)

    def exists(self, name: str) -> bool:
        """True when the file or directory is there."""
        return bool(self._fresh.exists(self._path(name)))

    def names(self, name: str = "") -> list[str]:
        """Names directly below a directory, sorted; empty when there is none."""
        path = self._path(name) if name else str(self.root.path)
        try:
            entries = self._fresh.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(
            entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.rstrip("/") != path.rstrip("/")
        )

    def read(self, name: str) -> bytes | None:
        """The whole of a small file, None when there is none."""
        try:
            return bytes(self._fresh.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """The length of a file in bytes, None when there is none."""
        try:
            return int(self._fresh.size(self._path(name)))
        except FileNotFoundError:
            return None

    def modified(self, name: str) -> datetime:
        """When a file was last written, aware; by the clock of the filesystem."""
        moment: datetime = self._fresh.modified(self._path(name))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def write(self, name: str, data: bytes) -> None:
        """Put a small file in place, whole."""
        with self.writer(name) as file:
            file.write(data)

    def create(self, name: str, data: bytes) -> bool:
        """Put a small file in place only if there is none; False when somebody was first, with other data."""
        with self._told_if_full(name):
            self._make_parent(name)
            return self._is_first(name, data)

    def _is_first(self, name: str, data: bytes) -> bool:
        try:
            if self._local:
                _create_locally(Path(self._path(name)), data)
            else:
                self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            # s3fs and gcsfs (2026.10) send it again when the answer is lost, and then find what they wrote themselves.
            return self.read(name) == data
        except OSError:
            # s3fs (2026.9, `errors.py`) raises `FileExistsError` only where the answer names the condition that did not
            # hold, as Amazon's does; MinIO's, for one, does not (its `cmd/api-errors.go`).
            found = None if self._local else self.read(name)
            if found is None:
                raise
            return found == data
        return True

    def delete(self, name: str) -> None:
        """Remove a file or a directory with all below it; ignore what is not there."""
        try:
            self._fresh.rm(self._path(name), recursive=True)
        except FileNotFoundError:
            return

    def move(self, name: str, to: str) -> None:
        """Move a file or directory within this one; on an object store object by object."""
        source, target = self._path(name), self._path(to)
        if not self._whole:
            with self._told_if_full(to):
                self._make_parent(to)
                self._fs.mv(source, target)
            return
        for path in self._fresh.find(source):
            self._fs.cp_file(path, target + path.removeprefix(source))
        self._fs.rm(source, recursive=True)

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """A file to write to, published whole at the end of the block and not at all when the block raises."""
        with scratch_folder() as scratch:
            local = scratch / "file"
            with written(local, _BLOCK) as file:
                yield file
            self.publish(local, name)

    def publish(self, local: Path, name: str) -> None:
        """Copy a local file to its final name, atomically; replaces what was there."""
        with self._told_if_full(name):
            self._make_parent(name)
            self._publish(local, self._path(name))

    def _publish(self, local: Path, path: str) -> None:
        if self._whole:
            self._fs.put_file(str(local), path, **self._put_options)
            return
        draft = f"{path}.draft-{uuid4().hex}"
        try:
            self._fs.put_file(str(local), draft)
            self._fs.mv(draft, path)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                self._fs.rm(draft)
            raise

    @contextmanager
    def reader(self, name: str) -> Iterator[BinaryIO]:
        """A file to read, in blocks."""
        with self._fresh.open(self._path(name), "rb", block_size=_BLOCK) as file:
            yield file

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield lines without their newlines. Only a line feed ends one: JSON strings may hold U+2028 and U+0085."""
        for block in self.line_blocks(name):
            for line in block:
                yield line.removesuffix(b"\n")

    def line_blocks(self, name: str) -> Iterator[list[bytes]]:
        """Yield lines with their newlines, some hundred at once, fewer where they are long."""
        with self.reader(name) as file:
            yield from line_blocks(file)

    def fetch(self, name: str, local: Path) -> None:
        """Copy a file here to a local one."""
        with self.reader(name) as source, written(local) as target:
            shutil.copyfileobj(source, target, _BLOCK)

    def _told_if_full(self, name: str) -> AbstractContextManager[None]:
        return told_if_full(
            lambda error: DiskFull(
                f"{self.uri(name)} cannot be written: {error.strerror}. Make room there, then clear the task: all that was "
                "bought is kept."
            )
        )

    def _make_parent(self, name: str) -> None:
        """Make the folders above a file; never on an object store, which needs none and would make the bucket."""
        if self._whole:
            return
        self._fs.makedirs(self._path(name).rsplit("/", 1)[0], exist_ok=True)


def _create_locally(path: Path, data: bytes) -> None:
    """Make a file, whole, or raise `FileExistsError`.

    fsspec's local `mode="create"` checks first and writes then (2026.9, `spec.py`), so that two workers are both first.
    """
    draft = path.with_name(f"{path.name}.draft-{uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _link(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise UsageError(
            f"{path.parent} is on a filesystem without hard links ({error.strerror}), which cannot tell two workers which "
            "was first. Set storage_path to another disk, S3, Google Cloud Storage or Azure."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class StageStorage:
    """Artifacts of a stage: `save`, `load`, `exists`, `delete`, awaitable, never blocking the event loop.

    Values are anything JSON or pydantic; keys are `[A-Za-z0-9._-]`, at most 128 characters.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def save(self, key: str, value: Any) -> str:
        """Keep a value under a key, replacing what was there; returns where it is.

        Raises:
            UsageError: the value is not JSON.
        """
        name = self.get_stage_key(key)
        await asyncio.to_thread(self.directory.write, name, _to_json(key, value))
        return self.directory.uri(name)

    async def load(self, key: str) -> Any:
        """The value under a key, None when there is none."""
        data = await asyncio.to_thread(self.directory.read, self.get_stage_key(key))
        return None if data is None else msgspec.json.decode(data)

    async def exists(self, key: str) -> bool:
        """True when something is kept under the key."""
        return await asyncio.to_thread(self.directory.exists, self.get_stage_key(key))

    async def delete(self, key: str) -> None:
        """Forget a key; ignore one that is not there."""
        await asyncio.to_thread(self.directory.delete, self.get_stage_key(key))

    def get_stage_key(self, key: str) -> str:
        """The file, relative to the task instance's directory, that keeps this key."""
        if not _ARTIFACT.fullmatch(key):
            raise UsageError(f"Storage key {key!r} is not usable. Use letters, digits, '.', '_' and '-'.")
        return f"artifacts/{key}.json"


def _to_json(key: str, value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_dump_model)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The value for storage key {key!r} is not JSON: {error}. Save dicts, lists or models."
        ) from error


def _dump_model(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
