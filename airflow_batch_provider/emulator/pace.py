"""How a batch moves through its phases as it ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.settings import Progress

Phase = Literal["pending", "running", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"]
ORDER: tuple[Phase, ...] = ("pending", "running", "finalizing", "completed")


@dataclass(frozen=True, slots=True)
class Pace:
    """The ages at which a batch enters its phases, in seconds or polls."""

    progress: Progress
    finalizes: bool
    """Whether the provider has a phase between the last row and the end."""

    def start(self, phase: Phase) -> float:
        """Return the age at which the phase begins."""
        ran = self.progress.pending + self.progress.running
        ends = ran + self.progress.finalizing if self.finalizes else ran
        return {"pending": 0.0, "running": self.progress.pending, "finalizing": ran}.get(phase, ends)

    def after(self, phase: Phase, age: float) -> Phase | None:
        """Return the next phase, when that age has reached it."""
        coming = ORDER[ORDER.index(phase) + 1]
        return coming if age >= self.start(coming) else None

    def share(self, age: float) -> float:
        """Return the part of the rows that has run at that age."""
        if age < self.progress.pending:
            return 0.0
        return min(1.0, (age - self.progress.pending) / self.progress.running) if self.progress.running else 1.0
