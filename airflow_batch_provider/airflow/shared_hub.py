"""The hub that all triggers of a triggerer process share: one client and one poller per connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_batch_provider.airflow.connections import open_account_in_triggerer
from airflow_batch_provider.airflow.signals import hub_signals
from airflow_batch_provider.hub import Hub

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock


@dataclass
class _Shared:
    hub: Hub
    users: int = 0


# By event loop: a triggerer has one for its whole life, `dag.test` a new one for each trigger.
_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


class SharedHub:
    """Lends the running loop's hub. The first user's clock decides how old a status is; the last user closes the hub.

    No generator, because a triggerer keeps one of these for each of its thousands of waits.
    """

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def __aenter__(self) -> Hub:
        """Join."""
        loop = asyncio.get_running_loop()
        shared = _SHARED.get(loop)
        if shared is None:
            hub = Hub(open_account_in_triggerer, now=self._clock.now, signals=hub_signals())
            shared = _SHARED[loop] = _Shared(hub)
        shared.users += 1
        return shared.hub

    async def __aexit__(self, *_why: object) -> None:
        """Leave."""
        loop = asyncio.get_running_loop()
        shared = _SHARED[loop]
        shared.users -= 1
        if shared.users == 0:
            del _SHARED[loop]
            await shared.hub.aclose()
