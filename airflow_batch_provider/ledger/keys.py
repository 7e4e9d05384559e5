"""Whether two rows have the same key, in memory that does not grow with their number."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING

from airflow_batch_provider.scratch import scratch_file

if TYPE_CHECKING:
    from typing import BinaryIO

_PARTS = 256
# Hashes that are in memory, 8 bytes each; more go to disk.
_FULL = 1 << 19


class Doubled:
    """The hashes that several keys have; keys of one hash are, but for a rare chance, the same."""

    def __init__(self, hashes: set[int]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._hashes)

    def __contains__(self, key: str) -> bool:
        """Tell whether this key may be one of those."""
        return hash(key) in self._hashes


class Keys:
    """Gathers keys by their hash, in parts that are each small enough to be looked through at once.

    Ten million keys take 80 MB of disk, and some 8 MB of memory.
    """

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]
        self._written: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]  # place and number of hashes
        self._room = _FULL
        self._spool: BinaryIO | None = None

    def add(self, keys: list[str]) -> None:
        """Take in the keys of some rows."""
        parts = self._parts
        for digest in map(hash, keys):  # Python's own, of 64 bits: it is the same within one process, and at hand
            parts[digest % _PARTS].append(digest)
        self._room -= len(keys)
        if self._room <= 0:
            self._write()

    def _write(self) -> None:
        """Put what is in memory on disk."""
        if self._spool is None:
            self._spool = scratch_file()
        for part, places in zip(self._parts, self._written, strict=True):
            places.append((self._spool.tell(), len(part)))
            part.tofile(self._spool)
            del part[:]
        self._room = _FULL

    def doubled(self) -> Doubled:
        """Return what several keys have in common."""
        found: set[int] = set()
        for number in range(_PARTS):
            part = self._whole(number)
            if len(set(part)) < len(part):
                found |= _repeated(part)
        return Doubled(found)

    def _whole(self, number: int) -> array[int]:
        """Return a part as it is on disk and in memory, to be let go of before the next one."""
        part = self._parts[number][:]
        if self._spool is None:
            return part
        for start, count in self._written[number]:
            self._spool.seek(start)
            part.fromfile(self._spool, count)
        return part

    def close(self) -> None:
        """Delete what is on disk."""
        if self._spool is not None:
            self._spool.close()


def _repeated(part: array[int]) -> set[int]:
    return {digest for digest, count in Counter(part).items() if count > 1}
