"""Lines of a draft on local disk, until the draft is whole and they become a file beside its request files."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from airflow_batch_provider.scratch import scratch_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.storage import Directory


class Spool:
    """Lines in the order in which they were added.

    Attributes:
        count: number of lines.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def add(self, line: bytes) -> None:
        """Keep one line, newline included."""
        self._file.write(line)
        self.count += 1

    def save(self, directory: Directory, name: str) -> None:
        """Write the file of these lines, if there are any."""
        if not self.count:
            return
        self._file.seek(0)
        with directory.writer(name) as file:
            shutil.copyfileobj(self._file, file)


@contextmanager
def spooled() -> Iterator[Spool]:
    """Return an empty spool for the length of the block."""
    with scratch_file() as file:
        yield Spool(file)
