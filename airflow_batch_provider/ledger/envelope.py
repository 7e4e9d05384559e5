"""The lines of a batch as they are sent: what stands around key and body is made once, and no body is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.ledger.records import PlannedRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import Codec

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

    def packing(self, tag: str) -> Callable[[bytes], bytes]:
        """Return what makes, of a line of a request file, the line that is sent under a tag, newline included."""
        head, middle, tail = self._head + f"{tag}-".encode(), self._middle, self._tail

        def packed(planned: bytes) -> bytes:
            before, _, rest = planned.partition(_BEFORE_BODY)
            # A schema may hold anything, also what stands before a body; and a person may have written the file again.
            if not before.startswith(_BEFORE_INDEX) or not rest or b'"schema":' in before:
                row = _ROWS.decode(planned)
                return b"".join((head, b"%d" % row.index, middle, row.body, tail))
            return b"".join((head, before[len(_BEFORE_INDEX) : before.index(b",")], middle, rest[:-1], tail))

        return packed
