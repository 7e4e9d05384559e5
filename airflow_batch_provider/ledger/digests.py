"""Numbers under digests of 16 bytes, on local disk: as many as there are rows, in memory that does not grow with them."""

from __future__ import annotations

import os
import sys
from array import array
from mmap import mmap
from typing import TYPE_CHECKING

from airflow_batch_provider.scratch import scratch_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

_BUCKETS = 1 << 21
_SIZE = 16
# Records that wait in memory for their write, 24 bytes each.
_FULL = 8192
_NUMBER = (1 << 32) - 1


class DigestTable:
    """Keeps a number under each digest that it is told.

    On disk are 24 bytes for each: the digest, and a link to the one before it in its bucket. In memory are the buckets, 8 MiB,
    of which the system gives out what is touched. Of the first two million digests, most are found to be new without a
    read of the file; of ten million, after two reads or three.
    """

    def __init__(self) -> None:
        self._memory = mmap(-1, _BUCKETS * 4)
        self._last = memoryview(self._memory).cast("I")
        self._count = 0
        self._digests = bytearray()
        self._links = array("Q")  # the place of the record before, and the number
        self._spool: BinaryIO | None = None

    def first(self, digests: Iterable[bytes], numbers: Iterable[int]) -> list[int]:
        """Return the number that was kept under each digest; keep the given one where there is none.

        Args:
            digests: 16 bytes each, as a cryptographic hash gives them.
            numbers: one for each digest, from 0, less than 2^32.
        """
        last_of, buckets, found = self._last, _BUCKETS, []
        for digest, number in zip(digests, numbers, strict=True):
            bucket = hash(digest) % buckets
            last = last_of[bucket]
            if last and (known := self._found(digest, last)) is not None:
                found.append(known)
                continue
            self._digests += digest
            self._links.append(last << 32 | number)
            self._count = last_of[bucket] = self._count + 1
            if len(self._links) == _FULL:
                self._write()
            found.append(number)
        return found

    def get(self, digest: bytes) -> int | None:
        """Return the number that is kept under a digest, None where there is none."""
        return self._found(digest, self._last[hash(digest) % _BUCKETS])

    def _found(self, digest: bytes, place: int) -> int | None:
        """Look through a bucket from its last record on; places count from 1, 0 is none."""
        while place:
            known, link = self._record(place - 1)
            if known == digest:
                return link & _NUMBER
            place = link >> 32
        return None

    def _record(self, place: int) -> tuple[bytes, int]:
        block, within = divmod(place, _FULL)
        if block == self._count // _FULL:
            return bytes(self._digests[within * _SIZE : (within + 1) * _SIZE]), self._links[within]
        assert self._spool is not None  # the block was written
        handle, start = self._spool.fileno(), block * _FULL * (_SIZE + 8)
        link = os.pread(handle, 8, start + _FULL * _SIZE + within * 8)
        return os.pread(handle, _SIZE, start + within * _SIZE), int.from_bytes(link, sys.byteorder)

    def _write(self) -> None:
        """Put a full block on disk: its digests, then its links."""
        if self._spool is None:
            self._spool = scratch_file()
        self._spool.write(self._digests)
        self._spool.write(self._links)
        self._spool.flush()
        self._digests, self._links = bytearray(), array("Q")

    def close(self) -> None:
        """Delete what is on disk, and give the memory back."""
        self._last.release()
        self._memory.close()
        if self._spool is not None:
            self._spool.close()
