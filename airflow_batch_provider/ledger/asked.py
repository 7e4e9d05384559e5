"""What landing must know of the rows that were asked: read at the beginnings of their lines, never out of their bodies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from airflow_batch_provider.ledger.records import NO_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.batch_files import BatchFiles

# How a planned row without a schema of its own begins, see `planned_lines`.
_PLAIN = re.compile(
    rb'{"index":(\d{1,18}),"custom_id":("[^"\\]*(?:\\.[^"\\]*)*"),(?:"first_asked":"[0-9a-f]*",)?"body":'
)
_NAMELESS = len(b'{"custom_id":""')


class Asked(msgspec.Struct, gc=False):
    """A row that was asked.

    Attributes:
        key: its `custom_id` as JSON.
        schema: its own one; empty takes the plan's.
    """

    index: int
    key: bytes
    schema: msgspec.Raw = NO_SCHEMA

    @property
    def custom_id(self) -> str:
        """Return the user's key."""
        return msgspec.json.decode(self.key, type=str)

    def named(self, line: bytes) -> bytes:
        """Return the line of a result whose key is empty with the key of this row."""
        return b'{"custom_id":%b%b' % (self.key, line[_NAMELESS:])


class _Line(msgspec.Struct):
    index: int
    custom_id: str
    schema: msgspec.Raw = NO_SCHEMA


_LINES = msgspec.json.Decoder(_Line)


def asked_rows(files: BatchFiles) -> Iterator[Asked]:
    """Return the rows that a batch asks, in order."""
    for line in files.request_lines():
        if plain := _PLAIN.match(line):
            yield Asked(int(plain[1]), plain[2])
        else:  # one with a schema, or a person has written the file again
            read = _LINES.decode(line)
            yield Asked(read.index, msgspec.json.encode(read.custom_id), read.schema)
