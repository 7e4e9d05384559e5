"""The emulator's time: the real one moved forward, or one that only moves when told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 1_790_000_000.0
"""Where a virtual clock starts: 2026-09-21T14:13:20Z."""


@dataclass(slots=True)
class Clock:
    """Seconds since 1970 from `source`, plus what was added by `advance`."""

    source: Callable[[], float] = time.time
    ahead: float = 0.0

    @classmethod
    def virtual(cls, start: float = EPOCH) -> Clock:
        """Return a clock that stands still until it is advanced."""
        return cls(source=lambda: start)

    def now(self) -> float:
        """Return seconds since 1970."""
        return self.source() + self.ahead

    def advance(self, seconds: float) -> None:
        """Move time forward by so many seconds; raise `ValueError` for a negative number."""
        if seconds < 0:
            raise ValueError(f"Time goes forward only, not by {seconds!r} seconds.")
        self.ahead += seconds


def rfc3339(moment: float | None) -> str | None:
    """Return the moment as Anthropic and Google write it, or nothing."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def unix(moment: float | None) -> int | None:
    """Return the moment as OpenAI writes it, or nothing."""
    return None if moment is None else int(moment)
