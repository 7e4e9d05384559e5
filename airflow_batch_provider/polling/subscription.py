"""What one waiting task is to the pollers: it asks at its own pace, and rests until one of its batches ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import Rejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.polling.poller import Poller
    from airflow_batch_provider.providers.base import BatchProvider


@dataclass(eq=False)
class _Rest:
    """A sleep that the end of a batch cuts short."""

    interval: timedelta | None
    sleeping: asyncio.Future[None]

    def wake(self) -> None:
        self.sleeping.cancel()


@dataclass
class _Asked:
    """One batch of the task: what the task was told of it last."""

    poller: Poller
    name: str
    told: int = 0
    heard_only: bool = False
    ended: BatchStatus | None = None

    def has_ended_since(self) -> bool:
        """Return True when the batch has ended and the task does not know."""
        if self.ended is not None:
            return False
        newest = self.poller.newest(self.name)
        return newest is not None and newest.ended and newest.turn.number > self.told


@dataclass
class Subscription:
    """A hub as one waiting task sees it: a look costs no request of its own where a sweep has been made anyway.

    Args:
        interval: how old a look may be.
        sleep: waits seconds, on the task's own clock.
    """

    hub: Hub
    interval: timedelta
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _asked: dict[tuple[str, str], _Asked] = field(default_factory=dict, init=False)
    _before: dict[tuple[str, str], _Asked] = field(default_factory=dict, init=False)
    _rested: bool = field(default=False, init=False)

    async def provider(self, conn_id: str) -> BatchProvider:
        """Return the connection's provider, as `Hub.provider`."""
        return await self.hub.provider(conn_id)

    async def status(self, conn_id: str, batch_id: str) -> BatchStatus:
        """Look at one batch, through the newest sweep since this task's last look.

        Raises:
            NotFound: the provider does not know the batch (yet).
            BatchError: what the provider's client raises.
        """
        poller = self.hub.poller(conn_id)
        name = await poller.name(batch_id)
        asked = self._noted(conn_id, poller, name)
        if asked.ended is not None:
            return asked.ended
        answer = await poller.recent(name, self.interval, asked.told)
        asked.told = answer.turn.number
        status = answer.status()
        if status.ended:
            asked.ended = status  # nothing that is asked later can change it
        return status

    def _noted(self, conn_id: str, poller: Poller, name: str) -> _Asked:
        """Return what is known of the batch; after a rest, only those count that are asked for again."""
        if self._rested:
            self._before, self._asked, self._rested = self._asked, {}, False
        key = (conn_id, name)
        asked = self._asked.get(key) or self._before.get(key) or _Asked(poller, name)
        asked.heard_only = False
        self._asked[key] = asked
        return asked

    def listen(self, conn_id: str, batch_id: str) -> None:
        """Let `rest` end early when others' looks see this batch end; asks for no look."""
        poller = self.hub.poller(conn_id)
        try:
            name = poller.opened_name(batch_id)
        except Rejected:
            return  # the first look says so to the task
        if name is not None:
            self._asked.setdefault((conn_id, name), _Asked(poller, name, heard_only=True))

    async def rest(self, seconds: float) -> None:
        """Sleep, or less when a batch that this task asked for has ended; its batches are looked at meanwhile."""
        self._rested = True
        if any(asked.has_ended_since() for asked in self._asked.values()):
            return
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        watching = [
            (asked, _Rest(None if asked.heard_only else self.interval, sleeping))
            for asked in self._asked.values()
            if asked.ended is None
        ]
        for asked, rest in watching:
            asked.poller.watch(asked.name, rest)
        try:
            await asyncio.wait({sleeping})
        finally:
            for asked, rest in watching:
                asked.poller.unwatch(asked.name, rest)
            sleeping.cancel()
        if not sleeping.cancelled():
            sleeping.result()
