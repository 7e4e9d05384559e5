"""The canary: the first rows of a wave, bought alone, whose answers decide whether the others are bought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import RowsFailed
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.ledger.merge import Tally
from airflow_batch_provider.models import ErrorDigest

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.records import Wave


class Canary(FrozenModel):
    """The outcome of a canary.

    Attributes:
        rows: asked alone.
        good: those of them with a good answer.
        rest: rows of the wave that wait for it.
        may_pass: True when asking again may help a row.
    """

    rows: int
    good: int
    rest: int
    errors: ErrorDigest
    may_pass: bool

    @property
    def failed(self) -> bool:
        """Tell whether more rows failed than have a good answer."""
        return self.good * 2 < self.rows

    def error(self) -> RowsFailed:
        """Return the error that stops the task before the rest is bought."""
        return RowsFailed(
            f"The canary failed: only {self.good} of the {self.rows} rows that were asked first have a good answer, so the "
            f"other {self.rest:,} were not bought. Fix the cause, then clear the task: it asks those without an answer first "
            f"again, and buys the rest when most are good. Reasons: {self.errors.in_one_line}",
            digest=self.errors,
            retryable=self.may_pass,
        )


def canary_of(files: TaskFiles, wave: Wave) -> Canary | None:
    """Return what became of a wave's canary; None when it has none, or before it has landed."""
    first = next(iter(files.batches(wave)), None)
    if not wave.canary or first is None or not first.has_landed():
        return None
    tally = Tally()
    for row in first.landed_rows():
        tally.settled(row)
    return Canary(
        rows=wave.canary,
        good=tally.counts["succeeded"],
        rest=wave.requests - wave.canary,
        errors=tally.digest,
        may_pass=tally.open > 0,
    )
