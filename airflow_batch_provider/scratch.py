"""Files of one process, on the worker's disk: drafts of what is published, and what does not fit in memory.

Nobody else reads them, and they are gone with their block. A disk that is full is told with its place, and with what to do.
"""

from __future__ import annotations

import errno
import io
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from airflow_batch_provider.exceptions import DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

_PREFIX = "batch-"
# A full disk, and a full quota (write(2)).
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def told_if_full(told: Callable[[OSError], DiskFull]) -> Iterator[None]:
    """Raise what says where there is no room and what to do, when what is written in the block finds none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise told(error) from error


def told_of_scratch() -> AbstractContextManager[None]:
    """Raise `DiskFull`, with the folder of temporary files, when what is written in the block finds no room there."""
    return told_if_full(_no_room_for_scratch)


def _no_room_for_scratch(error: OSError) -> DiskFull:
    return DiskFull(
        f"Temporary files go to {tempfile.gettempdir()} on this machine: {error.strerror}. Make room there, or set TMPDIR to "
        "a disk that has room, then clear the task: all that was bought is kept."
    )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the length of the block."""
    with told_of_scratch():
        folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
    with folder as path:
        yield Path(path)


def lasting_folder() -> Path:
    """Return a new folder, which the caller removes."""
    with told_of_scratch():
        return Path(tempfile.mkdtemp(prefix=_PREFIX))


def scratch_file() -> BinaryIO:
    """Return an empty file without a name, to write and to read, which is gone when it is closed."""
    with told_of_scratch():
        handle, name = tempfile.mkstemp(prefix=_PREFIX)
        Path(name).unlink()
    return io.BufferedRandom(_Raw(handle, "r+b"))


def written(path: Path, block: int = io.DEFAULT_BUFFER_SIZE) -> BinaryIO:
    """Open a file in a scratch folder to write it, in blocks of so many bytes."""
    with told_of_scratch():
        return io.BufferedWriter(_Raw(path, "wb"), block)


class SpooledFile:
    """A file to write to its end, and then to read: in memory as long as it is small.

    Args:
        most: bytes in memory.
    """

    def __init__(self, most: int) -> None:
        self._file: BinaryIO = io.BytesIO()
        self._room = most

    def write(self, data: bytes | bytearray) -> int:
        """Write bytes, and return how many."""
        self._room -= len(data)
        if self._room < 0 and isinstance(self._file, io.BytesIO):
            gathered, self._file = self._file.getbuffer(), scratch_file()
            self._file.write(gathered)
        return self._file.write(data)

    def line(self, start: int) -> bytes:
        """Return the line that begins here."""
        self._file.seek(start)
        return self._file.readline()

    def __enter__(self) -> Self:
        """Return it; it is gone at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forget what was written."""
        self._file.close()


class _Raw(io.FileIO):
    """A file whose writes tell of a full disk, also those that a buffer around it makes late."""

    def write(self, data: Buffer) -> int:
        with told_of_scratch():
            return super().write(data)
