"""The batches that a suspended task waits for: one value, from the worker by Airflow's database to trigger and page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import AwareDatetime

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.places import PlaceWait

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_batch_provider.ledger.current_wave import WaveProgress


class Waiting(FrozenModel):
    """Nothing to do before the provider has done something.

    Attributes:
        batch_ids: batches at the provider that have not ended, oldest first.
        queued: chunks that wait for a place.
        started_at: when the deadline began to count.
        seen_at: when this was found.
        resume_at: when to come back although no batch ended, because the provider failed for a passing reason.
        must_wait: True when coming back before `resume_at` cannot help.
        tentative: those of `batch_ids` that may turn out to be somebody else's.
        place: what the first queued chunk waits for, where other tasks have all places at the provider.
        newest_at: when the last of them was bought, by the provider's clock.
    """

    batch_ids: tuple[str, ...]
    queued: int
    started_at: AwareDatetime
    seen_at: AwareDatetime
    resume_at: AwareDatetime | None = None
    must_wait: bool = False
    tentative: tuple[str, ...] = ()
    newest_at: AwareDatetime | None = None
    place: PlaceWait | None = None

    @classmethod
    def at(cls, progress: WaveProgress, *, started_at: datetime, now: datetime) -> Self:
        """Return what is waited for at this progress of the last wave."""
        receipts = progress.receipts
        return cls(
            batch_ids=tuple(receipt.batch_id for receipt in receipts),
            queued=len(progress.queued) + len(progress.delayed),
            started_at=started_at,
            seen_at=now,
            resume_at=progress.resume_at,
            must_wait=progress.must_wait,
            tentative=tuple(receipt.batch_id for receipt in receipts if receipt.tentative),
            place=progress.place,
            newest_at=max((receipt.bought_at for receipt in receipts), default=None),
        )

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is time to come back although no batch ended."""
        return self.resume_at is not None and now >= self.resume_at

    def wakes(self, ended: int, now: datetime) -> bool:
        """Tell whether the worker has something to do, as so many of the batches have ended.

        True when a batch ended and a chunk is queued, when all batches ended, or at `resume_at`.
        """
        if self.must_wait or self.is_due(now):
            return self.is_due(now)
        return ended == len(self.batch_ids) > 0 or (ended > 0 and self.queued > 0)
