"""The hub that all triggers of a triggerer process share: one client and one poller per connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_batch_provider.hooks.accounts import open_account_in_triggerer
from airflow_batch_provider.hub import Hub

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock


@dataclass
class _Shared:
    hub: Hub
    users: set[int] = field(default_factory=set)


# By event loop: a triggerer has one for its whole life, `dag.test` a new one for each trigger.
_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


def join(user: object, clock: Clock) -> Hub:
    """The running loop's hub, whose looks get old by this clock; `leave` when done."""
    loop = asyncio.get_running_loop()
    shared = _SHARED.get(loop)
    if shared is None:
        shared = _SHARED[loop] = _Shared(Hub(open_account_in_triggerer, now=clock.now))
    shared.users.add(id(user))
    return shared.hub


async def leave(user: object) -> None:
    """Give the hub back; the last user closes it. Leaving twice is no error."""
    loop = asyncio.get_running_loop()
    shared = _SHARED.get(loop)
    if shared is None or id(user) not in shared.users:
        return
    shared.users.discard(id(user))
    if not shared.users:
        del _SHARED[loop]
        await shared.hub.aclose()
