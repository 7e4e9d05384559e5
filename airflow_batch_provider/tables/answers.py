"""The cells that a result table has beside the source's columns: the answer, and what became of the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.tables.columns import ADDED, OUTPUT, answer_fields

if TYPE_CHECKING:
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.rows import Row

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = msgspec.Raw(b"null")


class Cells:
    """Makes the cells of JSONL tables, in which a good answer that lacks a field lacks its cell.

    `raw_output` holds, as JSON, an answer that the other cells would not give back exactly: one that is not good, or that
    has more fields than the schema.

    Attributes:
        names: of all these columns, in order.
        is_text: True where answers are plain text or vectors.
        added: column of what became of the row → its name in `ADDED`.
        fields: field of the answers → name of its column; None where `output` holds the whole answer.
    """

    def __init__(self, spec: Spec, prefix: str) -> None:
        self.kinds = answer_fields(spec)
        self.fields = None if self.kinds is None else {name: f"{prefix}{name}" for name in self.kinds}
        self.output = f"{prefix}{OUTPUT}"
        self.is_text = spec.output_schema is None
        self.added = {f"{prefix}{name}": name for name in ADDED}
        self.names = (*(self.fields.values() if self.fields else [self.output]), *self.added)
        self._none = dict.fromkeys(self.names[: -len(ADDED)], _NULL)

    def of(self, row: Row) -> dict[str, Any]:
        """Return the cells of one row."""
        answer, raw = self._whole(row) if self.fields is None else self._by_field(row)
        return {**answer, **self.became(row, raw)}

    def became(self, row: Row, raw: str | None) -> dict[str, Any]:
        """Return the cells of what became of a row."""
        error, usage = row.error, row.usage
        values = (
            row.status,
            error and error.code,
            error and error.message,
            error and error.retryable,
            row.finish_reason,
            usage.input_tokens,
            usage.output_tokens,
            row.model,
            row.wave,
            row.batch_id,
            row.same_as or None,
            row.cached_at or None,
            raw,
        )
        return dict(zip(self.added, values, strict=True))

    def _whole(self, row: Row) -> tuple[dict[str, Any], str | None]:
        return ({self.output: row.output}, None) if self.is_whole(row) else (self._none, raw_of(row))

    def _by_field(self, row: Row) -> tuple[dict[str, Any], str | None]:
        assert self.fields is not None
        found = fields_of(row)
        if found is None:
            return self._none, raw_of(row)
        cells = {self.fields[name]: value for name, value in found.items() if name in self.fields}
        return cells, None if len(cells) == len(found) else raw_of(row)

    def is_whole(self, row: Row) -> bool:
        """Tell whether one cell holds the answer: text of plain tasks, vectors, and what fits the schema."""
        if not row.has_output:
            return False
        start = bytes(memoryview(row.output)[:1])
        return start in (b'"', b"[") if self.is_text else row.status == "succeeded"


def fields_of(row: Row) -> dict[str, msgspec.Raw] | None:
    """Return the fields of a good answer; None where there is none, or no object."""
    if row.status != "succeeded" or not row.has_output:
        return None
    try:
        return _FIELDS.decode(row.output)
    except msgspec.ValidationError:
        return None


def raw_of(row: Row) -> str | None:
    """Return the answer as JSON, None without one."""
    return bytes(row.output).decode() if row.has_output else None
