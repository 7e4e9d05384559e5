"""JSON and JSON lines as the services write and read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Json = dict[str, Any]


def dump(value: object) -> str:
    """Return JSON with every character as itself, as the services write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    """Return the same as bytes; a lone surrogate is written as it came."""
    return dump(value).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Slice:
    """The place of one line in a file."""

    offset: int
    length: int

    def load(self, source: BinaryIO) -> Any:
        """Return the value that the line holds."""
        source.seek(self.offset)
        return json.loads(source.read(self.length))


def slices(path: Path) -> Iterator[tuple[int, Slice, bytes]]:
    """Yield every line that is not blank, with its number from 1 and its place."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, Slice(offset, len(line)), line
            offset += len(line)


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines, each with its newline; return the number of bytes."""
    with path.open("wb") as file:
        return sum(file.write(line + b"\n") for line in lines)
