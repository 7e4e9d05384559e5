"""The hub that all triggers of a triggerer process share: one client and one poller per connection."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_batch_provider.airflow.connections import open_account_in_triggerer
from airflow_batch_provider.airflow.signals import hub_signals
from airflow_batch_provider.hub import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_batch_provider.clock import Clock


@dataclass
class _Shared:
    hub: Hub
    users: int = 0


# By event loop: a triggerer has one for its whole life, `dag.test` a new one for each trigger.
_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


@asynccontextmanager
async def shared_hub(clock: Clock) -> AsyncIterator[Hub]:
    """Lend the running loop's hub. The first user's clock decides how old a status is; the last user closes the hub."""
    loop = asyncio.get_running_loop()
    shared = _SHARED.get(loop)
    if shared is None:
        shared = _SHARED[loop] = _Shared(Hub(open_account_in_triggerer, now=clock.now, signals=hub_signals()))
    shared.users += 1
    try:
        yield shared.hub
    finally:
        shared.users -= 1
        if shared.users == 0:
            del _SHARED[loop]
            await shared.hub.aclose()
