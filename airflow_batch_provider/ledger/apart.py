"""The rows of a draft that are not asked: bad ones, copies of others, and those whose answers the row cache has."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.bad_rows import SkippedRows, refuse_bad, skipped_rows
from airflow_batch_provider.ledger.cached import CachedRows, cached_rows
from airflow_batch_provider.ledger.copies import Copies, copies_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.blocks import Blocks, Rows
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.requests import Fingerprint


@dataclass(frozen=True)
class RowsApart:
    """Keeps these rows while a draft is written.

    Attributes:
        skipped: None refuses bad rows.
        copies: None asks each row.
        cached: None where there is no cache.
    """

    fingerprint: Fingerprint
    skipped: SkippedRows | None
    copies: Copies | None
    cached: CachedRows | None

    def without(self, rows: Rows) -> Blocks:
        """Return the rows that are asked; all are taken into the fingerprint: another bad row makes another plan."""
        blocks = self.fingerprint.taking(refuse_bad(rows) if self.skipped is None else rows)
        for kept in (self.skipped, self.copies, self.cached):
            blocks = blocks if kept is None else kept.without(blocks)
        return blocks

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows are copies and how many were answered before, as the plan has it."""
        return {
            "copies": self.copies.count if self.copies else 0,
            "cached": self.cached.count if self.cached else 0,
        }

    def save(self, files: TaskFiles, nonce: str) -> None:
        """Write the files of these rows beside those of the requests."""
        directory = files.wave_directory(0)
        if self.skipped is not None:
            self.skipped.save(directory, files.skipped_name(nonce))
        if self.copies is not None:
            self.copies.save(directory, files.copies_name(nonce))
        if self.cached is not None:
            self.cached.save(directory, files.cached_name(nonce))


@contextmanager
def rows_apart(context: LedgerContext, fingerprint: Fingerprint) -> Iterator[RowsApart]:
    """Return an empty collection for the length of the block."""
    policy, cache = context.policy, context.row_cache
    with ExitStack() as stack:
        yield RowsApart(
            fingerprint,
            stack.enter_context(skipped_rows()) if policy.skip_bad_rows else None,
            stack.enter_context(copies_of(context.provider.codec)) if policy.dedup_rows else None,
            stack.enter_context(cached_rows(cache, context.answers(context.spec))) if cache else None,
        )
