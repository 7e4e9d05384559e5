"""What one waiting task is to the pollers: it polls at its own pace, and pauses until one of its batches ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchStatus, ConnectionRef
    from airflow_batch_provider.polling.poller import Poller
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """One batch of the task: what the task was told of it last.

    Attributes:
        told: turn of the newest answer that the task has had.
        heard_only: True while the task has not asked for it; then only others' polls are heard.
        woken: True once its end has cut a pause short, which happens once.
    """

    poller: Poller
    name: str
    told: int = 0
    heard_only: bool = False
    woken: bool = False
    ended: BatchStatus | None = None

    @property
    def is_open(self) -> bool:
        """True when the task would want to hear of its end."""
        return self.ended is None and not self.woken

    def has_ended_since(self) -> bool:
        """Return True when the batch has ended and the task does not know."""
        newest = self.poller.newest(self.name) if self.is_open else None
        return newest is not None and newest.ended and newest.turn.number > self.told


@dataclass(eq=False)
class _Pause:
    """A sleep that the end of a batch cuts short."""

    watched: _Watched
    interval: timedelta | None
    sleeping: asyncio.Future[None]

    def wake(self) -> None:
        self.watched.woken = True
        self.sleeping.cancel()


@dataclass
class Subscription:
    """A hub as one waiting task sees it: a poll costs no request of its own where a sweep has been made anyway.

    Args:
        interval: how old a status may be.
        sleep: waits seconds, on the task's own clock.
    """

    hub: Hub
    interval: timedelta
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _watched: dict[tuple[ConnectionRef, str], _Watched] = field(default_factory=dict, init=False)
    _before: dict[tuple[ConnectionRef, str], _Watched] = field(default_factory=dict, init=False)
    _paused: bool = field(default=False, init=False)

    async def provider(self, connection: ConnectionRef) -> BatchProvider:
        """Return the connection's provider, as `Hub.provider`."""
        return await self.hub.provider(connection)

    async def renewed(self, connection: ConnectionRef, refused: BatchProvider) -> BatchProvider | None:
        """Return the provider with the key that the connection holds now, as `Hub.renewed`."""
        return await self.hub.renewed(connection, refused)

    async def status(self, connection: ConnectionRef, batch_id: str) -> BatchStatus:
        """Poll one batch, through the newest sweep since this task's last poll.

        Raises:
            NotFound: the provider does not know the batch (yet).
            BatchError: what the provider's client raises.
        """
        poller = self.hub.poller(connection)
        name = await poller.name(batch_id)
        watched = self._noted(connection, poller, name)
        if watched.ended is not None:
            return watched.ended
        answer = await poller.recent(name, self.interval, watched.told)
        watched.told = answer.turn.number
        status = answer.status()
        if status.ended:
            watched.ended = status  # nothing that is asked later can change it
        return status

    def _noted(self, connection: ConnectionRef, poller: Poller, name: str) -> _Watched:
        """Return what is known of the batch; after a pause, only those count that are asked for again."""
        if self._paused:
            self._before, self._watched, self._paused = self._watched, {}, False
        key = (connection, name)
        watched = self._watched.get(key) or self._before.get(key) or _Watched(poller, name)
        watched.heard_only = False
        self._watched[key] = watched
        return watched

    async def listen(self, connection: ConnectionRef, batch_id: str) -> None:
        """Let `pause` end early when others' polls see this batch end; makes no poll of its own.

        A connection that cannot be opened, or an id that is none, is for the first poll to tell.
        """
        poller = self.hub.poller(connection)
        try:
            name = await poller.name(batch_id)
        except Exception as error:  # noqa: BLE001 — whatever it is, the poll meets it as well and has somebody to tell
            log.debug("Not listening for %r: %r", batch_id, error)
            return
        self._watched.setdefault((connection, name), _Watched(poller, name, heard_only=True))

    async def pause(self, seconds: float) -> None:
        """Sleep, or less when a batch that this task asked for has ended; its batches are polled meanwhile."""
        self._paused = True
        ended = [watched for watched in self._watched.values() if watched.has_ended_since()]
        for watched in ended:
            watched.woken = True
        if not ended:
            await self._sleep(seconds, [watched for watched in self._watched.values() if watched.is_open])

    async def _sleep(self, seconds: float, watching: list[_Watched]) -> None:
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        pauses = [_Pause(one, None if one.heard_only else self.interval, sleeping) for one in watching]
        for pause in pauses:
            pause.watched.poller.watch(pause.watched.name, pause)
        try:
            await asyncio.wait({sleeping})
        finally:
            for pause in pauses:
                pause.watched.poller.unwatch(pause.watched.name, pause)
            sleeping.cancel()
        if not sleeping.cancelled():
            sleeping.result()
