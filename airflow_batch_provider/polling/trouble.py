"""How long a connection that fails as a whole is left alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_LONGEST = timedelta(minutes=15)


@dataclass
class Trouble:
    """The fault of one connection, and the pause after it, which doubles with each fault in a row.

    Attributes:
        first: the first pause.
        fault: what the connection said last, None while it works.
    """

    now: Callable[[], datetime]
    first: timedelta = timedelta(seconds=30)
    fault: Unavailable | None = None
    _since: datetime | None = field(default=None, init=False)
    _pause: timedelta = field(default=timedelta(0), init=False)
    _faults: int = field(default=0, init=False)

    def begin(self, fault: Exception) -> None:
        """Leave the connection alone, at least as long as the provider asks; other faults than passing ones need none."""
        if not isinstance(fault, Unavailable):
            return
        doubled = min(self.first * 2 ** min(self._faults, 10), max(_LONGEST, self.first))
        asked = timedelta(seconds=fault.retry_after or 0.0)
        self._pause = max(doubled, asked) * random.uniform(1.0, 1.1)  # noqa: S311 — nothing secret
        self._since, self.fault = self.now(), fault
        self._faults += 1

    def end(self) -> None:
        """The connection has answered."""
        self.fault, self._since, self._faults = None, None, 0

    def left(self) -> timedelta:
        """Return how long the pause lasts; a clock that was set back ends it."""
        if self._since is None:
            return timedelta(0)
        left = self._since + self._pause - self.now()
        return left if timedelta(0) < left <= self._pause else timedelta(0)
