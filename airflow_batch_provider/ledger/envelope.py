"""The lines of a batch as they are sent: what stands around key and body is made once, and no body is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.ledger.records import PlannedRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.codec import Codec

# As long as any key of a plan: nonce, wave, chunk, index.
_LONGEST_KEY = "0" * 12 + "-000-00000-0000000000"
# Stands for the body; no provider's envelope holds it.
_BODY = b'"\xee\x80\x80 the body \xee\x80\x81"'

_BEFORE_INDEX, _BEFORE_BODY = b'{"index":', b',"body":'
_ROWS = msgspec.json.Decoder(PlannedRow)


class Envelope:
    """What a provider wants around each body of one spec."""

    def __init__(self, codec: Codec, spec: Spec) -> None:
        line = codec.line(_LONGEST_KEY, _BODY, spec)
        self._head, rest = line.split(_LONGEST_KEY.encode())
        self._middle, self._tail = rest.split(_BODY)
        self._tail += b"\n"

    def longest(self, body: msgspec.Raw) -> bytes:
        """Return the line of a body under a key as long as any, newline included."""
        return b"%b%b%b%b%b" % (self._head, _LONGEST_KEY.encode(), self._middle, body, self._tail)

    def packing(self, tag: str) -> Callable[[list[bytes]], bytes]:
        """Return what makes, of lines of a request file, the lines that are sent under a tag; all with their newlines."""
        head, middle, tail = self._head + f"{tag}-".encode(), self._middle, self._tail
        start, end = len(_BEFORE_INDEX), len(_BEFORE_BODY)

        def packed(planned: list[bytes]) -> bytes:
            pieces: list[bytes] = []
            for line in planned:
                body = line.find(_BEFORE_BODY)
                if _is_as_written(line, body):
                    pieces += (head, line[start : line.index(b",", start, body)], middle, line[body + end : -2], tail)
                else:
                    row = _ROWS.decode(line)
                    pieces += (head, b"%d" % row.index, middle, row.body, tail)
            return b"".join(pieces)

        return packed


def _is_as_written(line: bytes, body: int) -> bool:
    """Tell whether a line can be taken apart unread: a schema may hold what stands before a body, and a person may have edited it."""
    return (
        body > 0 and line.startswith(_BEFORE_INDEX) and line.endswith(b"}\n") and line.find(b'"schema":', 0, body) < 0
    )
