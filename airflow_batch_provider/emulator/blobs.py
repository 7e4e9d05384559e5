"""Bytes on disk: bodies and result files live in one temporary folder, never in memory."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TooLarge(Exception):
    """More bytes arrived than the limit allows."""


class Blobs:
    """Numbered files in a folder that is removed with this object."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="airflow-batch-emulator-"))
        self._numbers = itertools.count()
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def new(self) -> Path:
        """Return a path that is not in use."""
        return self._folder / f"{next(self._numbers):08}"


async def spool(stream: AsyncIterator[bytes], path: Path, limit: int) -> int:
    """Append a stream to a file; return the number of its bytes, raise `TooLarge` beyond `limit`."""
    size = 0
    with path.open("ab") as file:
        async for piece in stream:
            size += len(piece)
            if size > limit:
                raise TooLarge
            file.write(piece)
    return size
