"""Files that are compressed as a whole, by the ending of their names: gzip (`.gz`) and Zstandard (`.zst`)."""

from __future__ import annotations

import gzip
import io
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

COMPRESSED = (".gz", ".zst")
_BLOCK = 1 << 20


def without_compression(name: str) -> str:
    """Return the name that a file has when it is not compressed, in lower case."""
    lower = name.lower()
    return next((lower.removesuffix(ending) for ending in COMPRESSED if lower.endswith(ending)), lower)


@contextmanager
def reading(raw: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as its name says; a file of several gzip members or Zstandard frames is one.

    Raises:
        OSError, EOFError, zlib.error: it is damaged, or ends too soon.
    """
    lower = name.lower()
    if lower.endswith(".gz"):
        with gzip.GzipFile(fileobj=raw, mode="rb") as file:
            yield cast("BinaryIO", io.BufferedReader(file, _BLOCK))
    elif lower.endswith(".zst"):
        zstd = _zstd()
        try:
            with zstd.ZstdFile(raw, "rb") as file:
                yield file
        except zstd.ZstdError as error:
            raise OSError(str(error)) from error
    else:
        yield raw


@contextmanager
def writing(raw: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A file whose bytes go to another one, compressed as its name says; the same bytes make the same file."""
    lower = name.lower()
    if lower.endswith(".gz"):
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            yield cast("BinaryIO", file)
    elif lower.endswith(".zst"):
        with _zstd().ZstdFile(raw, "wb") as file:
            yield file
    else:
        yield raw


def _zstd() -> ModuleType:
    """Return Python's own module, which backports.zstd brings to Pythons before 3.14."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 — only files of this kind need it
    else:
        from backports import zstd  # noqa: PLC0415
    return zstd
