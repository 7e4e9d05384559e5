"""A disk of a megabyte that can be full: for processes that nobody can patch."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SIZE = 1 << 20
# Room for what `tempfile` writes to see whether it may use a folder; it would go to another disk.
_LEFT = 4096


@dataclass(frozen=True)
class SmallDisk:
    path: Path

    def fill(self) -> None:
        with (self.path / "filling").open("wb", buffering=0) as file:
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                file.writelines(repeat(bytes(_LEFT)))
            file.truncate(file.tell() - _LEFT)

    def make_room(self) -> None:
        (self.path / "filling").unlink()


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Needs root, because it is mounted."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(path)], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
