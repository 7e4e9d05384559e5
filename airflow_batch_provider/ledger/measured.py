"""How large planned rows are as they are sent, and what they will use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.blocks import are_plain, body_size
from airflow_batch_provider.ledger.records import PlainRow, planned_lines
from airflow_batch_provider.pricing import expected, text_tokens

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.envelope import Envelope
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.pricing import Expected, Uses


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """A block of rows, measured.

    Attributes:
        sizes: bytes of what is sent of each.
        tokens: estimate of the input of each.
        uses: what each will use; one alone stands for all, which are plain.
    """

    rows: list[PlannedRow]
    sizes: list[int]
    tokens: list[int]
    uses: list[Expected] | Expected

    def are_within(self, size: int, tokens: int | None) -> bool:
        """Tell whether each row alone is within these limits."""
        return max(self.sizes) <= size and (tokens is None or max(self.tokens) <= tokens)

    def part(self, start: int, end: int) -> MeasuredRows:
        """Return the rows between two places."""
        if not start and end == len(self.rows):
            return self
        within = slice(start, end)
        uses = self.uses[within] if isinstance(self.uses, list) else self.uses
        return MeasuredRows(self.rows[within], self.sizes[within], self.tokens[within], uses)

    def lines(self) -> bytes:
        """Return the rows as their file keeps them."""
        return planned_lines(self.rows)

    def count(self, uses: Uses) -> None:
        """Count what the rows will use."""
        if not isinstance(self.uses, list):
            uses.add_alike(self.uses, self.tokens)
            return
        for use, tokens in zip(self.uses, self.tokens, strict=True):
            uses.add(use, tokens)


class Measure:
    """Tells how large rows are. Plain ones differ in their length only, so one of them is read for all."""

    def __init__(self, envelope: Envelope, spec: Spec) -> None:
        self._envelope = envelope
        self._spec = spec
        self._plain: tuple[int, Expected] | None = None

    def of(self, rows: list[PlannedRow]) -> MeasuredRows:
        """Return rows measured."""
        if not are_plain(rows):
            sizes, tokens, uses = zip(*map(self._one, rows), strict=True)
            return MeasuredRows(rows, list(sizes), list(tokens), list(uses))
        around, use = self._around_plain(rows[0])
        sent = [around + memoryview(row.body).nbytes for row in rows]
        return MeasuredRows(rows, sent, list(map(text_tokens, sent)), use)

    def _one(self, row: PlannedRow) -> tuple[int, int, Expected]:
        """Return the size of one row, its tokens, and what it will use."""
        if type(row) is PlainRow:
            around, use = self._around_plain(row)
            size = around + body_size(row)
            return size, text_tokens(size), use
        sent = self._envelope.longest(row.body)
        use = expected(sent, self._spec)
        return len(sent), use.usage.input_tokens, use

    def _around_plain(self, row: PlannedRow) -> tuple[int, Expected]:
        """Return what is sent around the body of a plain row, in bytes, and what stands for the use of any."""
        if self._plain is None:
            sent = self._envelope.longest(row.body)
            self._plain = len(sent) - body_size(row), expected(sent, self._spec)
        return self._plain
