"""Bytes on disk: bodies and result files live in one temporary folder, never in memory."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_PIECE = 1 << 16


class TooLarge(Exception):
    """More bytes arrived than the limit allows."""


class NotJson(Exception):
    """The text is not the JSON that was expected; the message says where."""


class Blobs:
    """Numbered files in a folder that goes away with this object."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="airflow-batch-emulator-"))
        self._numbers = itertools.count()
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def new(self) -> Path:
        """A path nobody uses yet."""
        return self._folder / f"{next(self._numbers):08}"


async def spool(stream: AsyncIterator[bytes], path: Path, limit: int) -> int:
    """Write a stream behind what the file holds; returns the number of bytes, raises `TooLarge` beyond `limit`."""
    size = 0
    with path.open("ab") as file:
        async for piece in stream:
            size += len(piece)
            if size > limit:
                raise TooLarge
            file.write(piece)
    return size


@dataclass(frozen=True, slots=True)
class Slice:
    """One line of a file."""

    offset: int
    length: int

    def read(self, path: Path) -> bytes:
        """The bytes of the line."""
        with path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def slices(path: Path) -> Iterator[tuple[int, Slice, bytes]]:
    """Every line that is not blank, with its number from 1 and its place."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, Slice(offset, len(line)), line
            offset += len(line)


class _Window:
    """A JSON text that is read piece by piece, as far as the value at hand needs it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False

    def _grow(self) -> None:
        piece = self._stream.read(max(_PIECE, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + piece, 0
        self._ended = not piece

    def peek(self) -> str:
        """The next character that is not blank, or nothing at the end."""
        while True:
            while self._at < len(self._text):
                if not (char := self._text[self._at]).isspace():
                    return char
                self._at += 1
            if self._ended:
                return ""
            self._grow()

    def take(self, expected: str) -> str:
        """Pass over one of the expected characters; raises `NotJson` for any other."""
        if not (char := self.peek()) or char not in expected:
            raise NotJson(f"expected one of {expected!r}, found {char!r}")
        self._at += 1
        return char

    def value(self) -> tuple[Any, str]:
        """The next value and its text."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._ended or isinstance(error, RecursionError):
                    raise NotJson(str(error)) from None
            else:
                if end < len(self._text) or self._ended:
                    text, self._at = self._text[self._at : end], end
                    return value, text
            self._grow()


def elements(path: Path, name: str) -> Iterator[tuple[Any, str]]:
    """The elements of the list `name` in the JSON object a file holds, one at a time; raises `NotJson`."""
    with path.open(encoding="utf-8", newline="") as stream:
        window = _Window(stream)
        try:
            yield from _elements(window, name)
        except UnicodeDecodeError as error:
            raise NotJson(str(error)) from None


def _elements(window: _Window, name: str) -> Iterator[tuple[Any, str]]:
    window.take("{")
    if window.peek() == "}":
        return
    following = ","
    while following == ",":
        key, _ = window.value()
        window.take(":")
        if key == name and window.peek() == "[":
            yield from _items(window)
        else:
            window.value()
        following = window.take(",}")


def _items(window: _Window) -> Iterator[tuple[Any, str]]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    following = ","
    while following == ",":
        yield window.value()
        following = window.take(",]")
