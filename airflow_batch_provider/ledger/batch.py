"""One batch to buy: a chunk of a wave of a plan, and how its rows are written on the wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Chunk, Plan, Wave
    from airflow_batch_provider.providers.base import Candidate


@dataclass(frozen=True, kw_only=True)
class BatchToBuy:
    """One chunk of the last of these waves.

    Attributes:
        waves: all waves of the plan up to the chunk's.
        failed: number of its batches that have failed as a whole.
        pack_turn: held while it is packed; the batches of one task share it.
    """

    context: LedgerContext
    plan: Plan
    waves: tuple[Wave, ...]
    chunk: Chunk
    failed: int = 0
    pack_turn: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)

    @property
    def wave(self) -> Wave:
        """Return the wave of the chunk."""
        return self.waves[-1]

    @property
    def files(self) -> BatchFiles:
        """Return the files of the batch."""
        return BatchFiles.of(self.context.files.wave_directory(self.wave.number), self.chunk)

    @property
    def tag(self) -> str:
        """Return our name for the batch; used only when no earlier claim names another."""
        return self.plan.tag(self.wave.number, self.chunk.number, self.failed)

    @property
    def is_due_in_realtime(self) -> bool:
        """Tell whether its rows must be asked by single calls: that is tried once, and by one worker only."""
        return self.chunk.realtime and self.context.policy.canary_realtime and self.files.next_claim() == 0

    def is_outdated(self, tag: str) -> bool:
        """Tell whether a claim or a receipt under this tag does not count any more.

        Its batch failed as a whole, or is of other requests, which were set aside.
        """
        *failed, _ = self.plan.tags(self.wave.number, self.chunk.number, self.failed)
        return tag in failed or not self.wave.owns(tag)

    def is_current(self) -> bool:
        """Tell whether the plan still counts: another worker may have set it aside for other requests."""
        return self.context.files.is_current(self.plan)

    def without_siblings(self, found: list[Candidate]) -> list[Candidate]:
        """Return those batches at the provider that are not known as another batch of this task."""
        known = {receipt.batch_id for receipt in self.context.files.receipts(self.waves)} if found else set()
        return [one for one in found if one.batch_id not in known]

    def lines(self, tag: str) -> Iterator[bytes]:
        """Return the rows as they are sent under a tag, a line each, newline included, a block of them at a time."""
        # Anthropic takes keys of at most 64 letters, digits, `_` and `-`, the others document no rule
        # (https://platform.claude.com/docs/en/build-with-claude/batch-processing, 2026-09); a tag has far fewer.
        packed = Envelope(self.context.provider.codec, self.plan.spec).packing(tag)
        return map(packed, self.files.request_blocks())
