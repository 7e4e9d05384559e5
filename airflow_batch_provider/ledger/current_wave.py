"""The wave that a task is in, as its files show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.batch_files import BatchFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_batch_provider.ledger.canary import Canary
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.ledger.records import Chunk, FailedBatch, Plan, Receipt, Wave
    from airflow_batch_provider.places import Places, PlaceWait
    from airflow_batch_provider.storage import Directory


@dataclass
class WaveProgress:
    """How far the chunks of a wave are; those that have landed are not in it.

    Attributes:
        queued: chunks that wait for a place at the provider.
        delayed: chunks whose batch failed as a whole and which are not due yet.
        resume_at: when to come back although no batch ended.
        must_wait: True when coming back earlier cannot help, even if a batch ends: the provider asked for time.
        withheld: queued rows that are not bought because of their cost.
        canary: the one for whose failure the queued chunks are not bought.
        place: what the first queued chunk waits for, where other tasks have all places at the provider.
    """

    in_flight: list[tuple[Chunk, Receipt]] = field(default_factory=list)
    queued: list[Chunk] = field(default_factory=list)
    delayed: list[FailedBatch] = field(default_factory=list)
    resume_at: datetime | None = None
    must_wait: bool = False
    withheld: Withheld | None = None
    canary: Canary | None = None
    place: PlaceWait | None = None

    @property
    def is_done(self) -> bool:
        """Tell whether every chunk has landed, or those that have not are not bought in this attempt."""
        is_held = self.withheld is not None or self.canary is not None
        return not (self.in_flight or self.delayed) and (is_held or not self.queued)

    @property
    def must_return(self) -> bool:
        """Tell whether the worker must come back by itself: a chunk is queued, and nothing that is waited for wakes it."""
        wakes = self.in_flight or self.place is not None or self.resume_at is not None
        return bool(self.queued) and not wakes and not self.is_done

    @property
    def receipts(self) -> list[Receipt]:
        """Return the batches at the provider."""
        return [receipt for _, receipt in self.in_flight]


@dataclass(frozen=True)
class CurrentWave:
    """The last wave of a task.

    Attributes:
        waves: all waves up to this one.
    """

    context: LedgerContext
    plan: Plan
    waves: Sequence[Wave]

    @property
    def last(self) -> Wave:
        """Return its record."""
        return self.waves[-1]

    @property
    def number(self) -> int:
        """Return its number, from 0."""
        return self.last.number

    @property
    def directory(self) -> Directory:
        """Return where the files of its batches are."""
        return self.context.files.wave_directory(self.number)

    def progress(self) -> WaveProgress:
        """Read from the files how far the chunks are."""
        directory = self.directory
        names = set(directory.names())
        progress = WaveProgress()
        for chunk in self.last.chunks:
            files = BatchFiles.of(directory, chunk)
            if files.has_landed(names):
                continue
            receipt = self.receipt(files) if files.has_receipt(names) else None
            failed = files.failure(files.failures(names))
            if receipt is not None:
                progress.in_flight.append((chunk, receipt))
            elif failed is not None and failed.again_at > self.context.clock.now():
                progress.delayed.append(failed)
            else:
                progress.queued.append(chunk)
        progress.resume_at = min((failed.again_at for failed in progress.delayed), default=None)
        return progress

    def landed_tags(self) -> list[str]:
        """Return our names for the batches whose rows are here, those asked in realtime among them."""
        names = set(self.directory.names())
        landed = (files for files in map(self.files_of, self.last.chunks) if files.has_landed(names))
        return [tag for files in landed if (tag := self._landed_tag(files))]

    def _landed_tag(self, files: BatchFiles) -> str | None:
        if receipt := self.receipt(files):
            return receipt.tag
        return self.plan.tag(self.number, files.number, failed=0) if files.realtime else None

    def files_of(self, chunk: Chunk) -> BatchFiles:
        """Return the files of a chunk's batch."""
        return BatchFiles.of(self.directory, chunk)

    def receipt(self, files: BatchFiles) -> Receipt | None:
        """Return the receipt of a batch of this wave; None where there is none, or another task's."""
        receipt = files.receipt()
        return receipt if receipt and self.last.owns(receipt.tag) else None

    @property
    def places(self) -> Places | None:
        """Return the places at the provider that the tasks of the deployment share."""
        return self.context.places(self.plan.spec.model)

    def leave_place(self, tag: str) -> None:
        """Let another task have the place of a batch."""
        if (places := self.places) is not None:
            places.leave(tag)

    def unregister(self, tag: str) -> None:
        """Let the deployment forget a batch that has landed."""
        if self.context.registry is not None:
            self.context.registry.leave(tag)
            self.leave_place(tag)
