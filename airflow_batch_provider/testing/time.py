"""Time for tests of stages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_batch_provider.clock import Clock

_START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Time that only passes while somebody sleeps, or by hand."""

    def __init__(self, start: datetime = _START) -> None:
        self._now = start

    @property
    def clock(self) -> Clock:
        """Now and sleep, as the package takes them."""
        return Clock(self.now, self.sleep)

    def now(self) -> datetime:
        """Return the virtual time, aware."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


def virtual_clock() -> Clock:
    """Return a clock of its own."""
    return VirtualClock().clock
