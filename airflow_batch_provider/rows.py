"""One row of the results as it passes through landing, merging and finishing: its answer stays the JSON it landed as."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 — msgspec reads annotations
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_batch_provider.models import BatchRow, RowError, RowStatus, Usage

NO_OUTPUT = msgspec.Raw(b"null")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the results: what became of one request; the fields of `BatchRow`, whose values say what they mean.

    Attributes:
        output: the answer as JSON, which nobody reads on the way: so it is made once, and may hold anything.
        choices: of `Reply`, until a schema has chosen; no part of the results.
        batch_id: None also where the row was asked in realtime, which costs what it does without a batch.
    """

    custom_id: str
    index: int
    status: RowStatus
    output: msgspec.Raw = NO_OUTPUT
    error: RowError | None = None
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: str | None = None
    wave: int = 0
    batch_id: str | None = None
    choices: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    same_as: str | msgspec.UnsetType | None = msgspec.UNSET
    cached_at: datetime | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def value(self) -> Any:
        """Return the answer: str, list, dict …, None without one."""
        return msgspec.json.decode(self.output)

    @property
    def has_output(self) -> bool:
        """Tell whether there is an answer, good or not."""
        return self.output != NO_OUTPUT


_ROWS = msgspec.json.Decoder(Row)
_JSON = msgspec.json.Encoder()


def decode_row(line: bytes) -> Row:
    """Read one line.

    Raises:
        msgspec.DecodeError: it is not a row.
    """
    return _ROWS.decode(line)


def encode_row(row: Row) -> bytes:
    """Return a row as a line, newline included."""
    return _JSON.encode(row) + b"\n"


def settled(row: Row) -> Row:
    """Return a row as it stands in the results, where nothing is left to choose."""
    return row if row.choices is msgspec.UNSET else replace(row, choices=msgspec.UNSET)


def public(row: Row) -> BatchRow:
    """Return a row as users get it, with its answer as a value."""
    fields = {name: getattr(row, name) for name in Row.__struct_fields__ if name != "choices"}
    found = {"output": row.value, "same_as": row.same_as or None, "cached_at": row.cached_at or None}
    return BatchRow(**fields | found)
