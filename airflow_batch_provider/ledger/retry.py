"""Waiting on a worker for a provider that fails for a passing reason."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.timing import COME_BACK, RETRY_PAUSE, WORKER_RETRY_BUDGET

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.exceptions import Unavailable

log = logging.getLogger(__name__)


def come_back_after(error: Unavailable) -> timedelta:
    """Return how long a task stays away that gave up its slot: as long as the provider asks."""
    return timedelta(seconds=error.retry_after) if error.retry_after else COME_BACK


class RetryBudget:
    """Time to spend on a provider in all, counted from now on.

    Args:
        provider: its name, for the log.
    """

    def __init__(self, provider: str, clock: Clock, budget: timedelta = WORKER_RETRY_BUDGET) -> None:
        self._provider = provider
        self._clock = clock
        self._give_up_at = clock.now() + budget
        self._said = ""

    async def waited(self, error: Unavailable) -> bool:
        """Sleep as long as the provider asks; return False when that is more than is left of the budget."""
        wait = timedelta(seconds=error.retry_after) if error.retry_after else RETRY_PAUSE
        if self._clock.now() + wait > self._give_up_at:
            return False
        if str(error) != self._said:  # the same fault is told once, not at each try
            left = (self._give_up_at - self._clock.now()).total_seconds()
            log.info("%s is not ready: %s Trying again, for %.0f s at most.", self._provider, error, left)
            self._said = str(error)
        await self._clock.sleep(wait.total_seconds())
        return True

    async def wait(self, error: Unavailable) -> None:
        """Sleep as long as the provider asks.

        Raises:
            Unavailable: that is more than is left of the budget; the error that was given.
        """
        if not await self.waited(error):
            raise error
