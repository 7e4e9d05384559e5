"""A disk without room, at the lowest calls by which this package writes: temporary files, and stage storage on a disk."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_batch_provider import scratch


@dataclass
class Disk:
    """Has no room at its nth write; counts the writes when `at` is None.

    Attributes:
        stays: it has none at the later ones either.
    """

    at: int | None = None
    stays: bool = False
    moment: int = 0
    where: str = ""

    def has_room(self, where: str) -> bool:
        at, self.moment = self.moment, self.moment + 1
        if self.at is None or not (at == self.at or (self.stays and at > self.at)):
            return True
        self.where = self.where or where
        return False

    def write(self, where: str) -> None:
        if not self.has_room(where):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def on(disk: Disk):
    """Everything is written to this disk; of a file that finds no room half is there."""

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if not disk.has_room("write to a temporary file"):
                super().write(memoryview(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def half_put(self, source, target, **options):
        if not disk.has_room(f"put {target}"):
            Path(target).write_bytes(Path(source).read_bytes()[: Path(source).stat().st_size // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return put(self, source, target, **options)

    put = LocalFileSystem.put_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_Raw", type("_Raw", (scratch._Raw, Full), {}))
        patch.setattr(LocalFileSystem, "put_file", half_put)
        for holder, name in (
            (tempfile, "mkdtemp"),
            (tempfile, "mkstemp"),
            (LocalFileSystem, "makedirs"),
            (LocalFileSystem, "mv"),
            (os, "fsync"),
            (os, "link"),
        ):
            patch.setattr(holder, name, _needing_room(disk, name, getattr(holder, name)))
        yield


def _needing_room(disk: Disk, name: str, call: Any) -> Any:
    def with_room(*args: Any, **options: Any) -> Any:
        disk.write(name)
        return call(*args, **options)

    return with_room
