"""One wave on its way: land what has ended, submit what has a place."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import OverBudget, Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.ledger.batch import BatchToBuy
from airflow_batch_provider.ledger.budget_check import budgets_of
from airflow_batch_provider.ledger.ended_batches import EndedBatches
from airflow_batch_provider.ledger.gate import Gate
from airflow_batch_provider.ledger.realtime import RealtimeCanary
from airflow_batch_provider.ledger.retry import come_back_after
from airflow_batch_provider.ledger.side_by_side import side_by_side
from airflow_batch_provider.ledger.submit import submit_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_batch_provider.ledger.current_wave import CurrentWave, WaveProgress
    from airflow_batch_provider.ledger.records import Chunk

log = logging.getLogger(__name__)

_UPLOADS = 2
"""Batches of one task that are uploaded and created at once; each is on the worker's disk meanwhile, up to 200 MB."""


class WaveRun:
    """The batches of the wave that a task is in."""

    def __init__(self, wave: CurrentWave) -> None:
        self._wave = wave
        self._context = wave.context
        # One batch is packed while another is uploaded: two at once would be no sooner (Python runs one), and in any order.
        self._pack_turn = asyncio.Lock()

    async def drive(self) -> WaveProgress:
        """Land and submit until the provider refuses; after a passing fault, say when to come back."""
        try:
            late_at = await EndedBatches(self._wave).land()
            gate = await self._submit_queued()
        except Unavailable as error:
            progress = self._wave.progress()
            progress.must_wait = True
            progress.resume_at = self._context.clock.now() + come_back_after(error)
            name = self._context.provider.name
            log.warning("%s does not answer now: %s Coming back at %s.", name, error, progress.resume_at)
            return progress
        progress = self._wave.progress()
        progress.withheld, progress.canary, progress.place = gate.withheld, gate.canary, gate.place
        if late_at is not None:
            progress.must_wait, progress.resume_at = True, late_at
        elif progress.must_return:
            progress.resume_at = self._context.clock.now()  # its delay has just ended, and no batch would wake us
        return progress

    async def _submit_queued(self) -> Gate:
        """Buy the chunks that have no receipt, in order, as far as the gate and the deployment's budgets admit them."""
        progress = self._wave.progress()
        gate = Gate(self._wave, [chunk for chunk, _ in progress.in_flight])
        submits = (self._submit(gate, queued) for queued in gate.admitted(progress.queued))
        await side_by_side(submits, self._most_at_once)
        return gate

    @property
    def _most_at_once(self) -> int:
        """How many submits may be under way at once.

        Without tags one: what is seen after a lost reply can then only be the last one. One, too, where budgets are asked about
        each: the one that they refuse says how many rows are withheld.
        """
        return (
            _UPLOADS
            if self._context.provider.keeps_tags and not budgets_of(self._context, self._context.clock.now())
            else 1
        )

    async def _submit(self, gate: Gate, queued: Sequence[Chunk]) -> None:
        """Buy the first of these chunks."""
        self._context.files.start_clock(self._context.clock.now())
        try:
            await self._bought(gate, self._batch(queued[0]))
        except OverBudget as error:
            gate.refuse(queued, error)

    async def _bought(self, gate: Gate, batch: BatchToBuy) -> None:
        try:
            if batch.is_due_in_realtime and await RealtimeCanary(self._wave, batch).landed():
                gate.has_landed(batch.chunk)
            else:
                await submit_once(batch)
        except (Rejected, Paused, UsageError):  # surely not bought, and nobody comes back for it by himself
            self._wave.leave_place(batch.tag)
            raise

    def _batch(self, chunk: Chunk) -> BatchToBuy:
        wave, files = self._wave, self._wave.files_of(chunk)
        return BatchToBuy(
            context=wave.context,
            plan=wave.plan,
            waves=tuple(wave.waves),
            chunk=chunk,
            failed=files.failures(wave.directory.names()),
            pack_turn=self._pack_turn,
        )
