"""Waiting on a worker for a provider that fails for a passing reason."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from airflow_batch_provider.exceptions import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_batch_provider.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")

# Time that a worker spends waiting for such a provider, before it gives up its slot.
PATIENCE = timedelta(seconds=60)

# Seconds until the next try, when the provider does not say.
_PAUSE = 5.0


class Patience:
    """A budget of time, which runs from now on.

    Args:
        who: name of the provider, for the log.
    """

    def __init__(self, who: str, clock: Clock, budget: timedelta = PATIENCE) -> None:
        self._who = who
        self._clock = clock
        self._give_up = clock.now() + budget

    async def waited(self, error: Unavailable) -> bool:
        """Sleep as long as the provider asks; False when that is more than is left of the budget."""
        wait = error.retry_after or _PAUSE
        if self._clock.now() + timedelta(seconds=wait) > self._give_up:
            return False
        log.info("%s is not ready: %s Trying again in %.0f s.", self._who, error, wait)
        await self._clock.sleep(wait)
        return True

    async def repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What an ask that costs nothing comes to, repeated until it is answered.

        Raises:
            Unavailable: it was not within the budget.
        """
        while True:
            try:
                return await ask()
            except Unavailable as error:
                if not await self.waited(error):
                    raise
