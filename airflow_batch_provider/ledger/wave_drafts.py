"""Request files of the waves of a task: drafted on disk, and counted once a record names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.chunks import ChunkLimits, ChunkWriter
from airflow_batch_provider.ledger.records import Wave

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.ledger.bad_rows import SkippedRows
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.pricing import Forecast


class WaveDrafts:
    """Writes request files, and deletes those that do not count."""

    def __init__(self, context: LedgerContext) -> None:
        self._context = context
        self._files = context.files

    def write(
        self,
        number: int,
        nonce: str,
        blocks: Iterable[list[PlannedRow]],
        skipped: SkippedRows | None = None,
        forecast: Forecast | None = None,
        canary: int = 0,
    ) -> Wave:
        """Write the chunks of a wave.

        Args:
            skipped: gets the rows that fit into no batch.
            forecast: gets what each row may use and cost.
            canary: rows of the first chunk, for which the others wait; 0 for none.
        """
        context = self._context
        writer = ChunkWriter(
            self._files.wave_directory(number),
            context.provider,
            context.spec,
            self._chunk_limits(nonce, canary),
            draft=context.new_id()[:8],
            skipped=skipped,
        )
        chunks = writer.write(blocks, forecast)
        now = context.clock.now()
        canary = min(canary, chunks[0].requests) if len(chunks) > 1 else 0
        return Wave(nonce=nonce, number=number, attempt=context.attempt, opened_at=now, chunks=chunks, canary=canary)

    def others(self, wave: Wave) -> list[str]:
        """Return the request files that go once this wave counts.

        They are listed before it does: files that come later may be of a plan that has replaced this one.
        """
        ours = {name for batch in self._files.batches(wave) for name in (batch.requests_name, batch.uses_name)}
        drafts = self._files.drafts(wave.number)
        return [name for name in drafts if name not in ours and not self._files.is_beside(wave.nonce, name)]

    def delete(self, number: int, names: list[str]) -> None:
        """Delete request files of a wave by their names."""
        directory = self._files.wave_directory(number)
        for name in names:
            directory.delete(name)

    def discard(self, wave: Wave) -> None:
        """Delete the request files of a wave that does not count."""
        for batch in self._files.batches(wave):
            batch.delete_requests()
        if wave.number == 0:
            drafts = self._files.drafts(0)
            self.delete(0, [name for name in drafts if self._files.is_beside(wave.nonce, name)])

    def _chunk_limits(self, nonce: str, canary: int) -> ChunkLimits:
        """Return the provider's, a little lowered where only its size tells a batch: then those of two tasks differ."""
        context = self._context
        limits = context.provider.limits(context.spec)
        spare = 0 if context.provider.keeps_tags else int(nonce, 16) % max(1, limits.requests // 20)
        requests = min(limits.requests - spare, context.policy.batch_size or limits.requests)
        realtime = canary > 0 and context.policy.canary_realtime and context.spec.kind in context.provider.in_realtime
        return ChunkLimits(requests, limits.bytes, context.policy.enqueued_tokens, canary, realtime)
