"""What one waiting task is to the pollers: it polls at its own pace, and pauses until one of its batches ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from datetime import timedelta

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchStatus, ConnectionRef
    from airflow_batch_provider.polling.board import Answer
    from airflow_batch_provider.polling.poller import Poller
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

# Seconds from which on nobody minds that a pause takes up to one more.
_LONG = 10.0


@dataclass(eq=False, slots=True)
class _Watched:
    """One batch of the task, as the board sees it while the task pauses.

    Attributes:
        interval: how old its status may get in a pause; None while the task has not asked for it, so that only others'
            polls are heard.
        is_wanted: False when the task has not asked for it since its last pause.
        told: turn of the newest answer that the task has had.
        woken: True once its end has cut a pause short, which happens once.
        pause: what its end cuts short.
    """

    poller: Poller
    name: str
    interval: timedelta | None = None
    is_wanted: bool = True
    told: int = 0
    woken: bool = False
    ended: BatchStatus | None = None
    pause: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Cut the pause short."""
        self.woken = True
        if self.pause is not None:
            _end(self.pause)

    @property
    def is_open(self) -> bool:
        """True when the task would want to hear of its end."""
        return self.is_wanted and self.ended is None and not self.woken

    def has_ended_since(self) -> bool:
        """Return True when the batch has ended and the task does not know."""
        newest = self.poller.newest(self.name) if self.is_open else None
        return newest is not None and newest.ended and newest.turn.number > self.told

    def take(self, answer: Answer) -> BatchStatus:
        """Note that the task has this answer; raises the error where it is one."""
        self.told = answer.turn.number
        status = answer.status()
        if answer.ended:
            self.ended = status  # nothing that is asked later can change it
        return status


@dataclass(slots=True)
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
        watched = self._noted(connection, batch_id) or await self._begun(connection, batch_id)
        if watched.ended is not None:
            return watched.ended
        answer = watched.poller.fresh(watched.name, self.interval, watched.told)
        if answer is None:
            answer = await watched.poller.recent(watched.name, self.interval, watched.told)
        return watched.take(answer)

    async def statuses(
        self, connection: ConnectionRef, batch_ids: Collection[str]
    ) -> list[BatchStatus | BaseException]:
        """Poll many as `status` does, and return an error in its batch's place; those that a sweep answered cost no wait."""
        found: dict[str, BatchStatus | BaseException] = {}
        for one in batch_ids:
            if (status := self._known(connection, one)) is not None:
                found[one] = status
        if waiting := [one for one in batch_ids if one not in found]:
            polls = (self.status(connection, one) for one in waiting)
            found |= zip(waiting, await asyncio.gather(*polls, return_exceptions=True), strict=True)
        return [found[one] for one in batch_ids]

    def _known(self, connection: ConnectionRef, batch_id: str) -> BatchStatus | None:
        """Return the status when the newest sweep is an answer to this task's poll."""
        watched = self._noted(connection, batch_id)
        if watched is None:
            return None
        if watched.ended is not None:
            return watched.ended
        answer = watched.poller.fresh(watched.name, self.interval, watched.told)
        return None if answer is None or isinstance(answer.outcome, Exception) else watched.take(answer)

    def _noted(self, connection: ConnectionRef, batch_id: str) -> _Watched | None:
        """Return what is known of the batch; after a pause, only those count that are asked for again."""
        if self._paused:
            self._paused = False
            for one in self._watched.values():
                one.is_wanted = False
        watched = self._watched.get((connection, batch_id))
        if watched is not None:
            watched.interval, watched.is_wanted = self.interval, True
        return watched

    async def _begun(self, connection: ConnectionRef, batch_id: str) -> _Watched:
        """Note a batch that is polled for the first time."""
        poller = self.hub.poller(connection)
        watched = _Watched(poller, await poller.name(batch_id), self.interval)
        return self._watched.setdefault((connection, batch_id), watched)

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
        self._watched.setdefault((connection, batch_id), _Watched(poller, name))

    async def pause(self, seconds: float) -> None:
        """Sleep, or less when a batch that this task asked for has ended; its batches are polled meanwhile."""
        self._paused = True
        ended = [watched for watched in self._watched.values() if watched.has_ended_since()]
        for watched in ended:
            watched.woken = True
        if not ended:
            await self._sleep(seconds, [watched for watched in self._watched.values() if watched.is_open])

    async def _sleep(self, seconds: float, watching: list[_Watched]) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = self._alarm(seconds, over)
        for watched in watching:
            watched.pause = over
            watched.poller.watch(watched.name, watched)
        try:
            await over
        finally:
            for watched in watching:
                watched.poller.unwatch(watched.name, watched)
                watched.pause = None
            alarm.cancel()

    def _alarm(self, seconds: float, over: asyncio.Future[None]) -> asyncio.TimerHandle | asyncio.Future[None]:
        """End the pause when its time has come; on the real clock without a task of its own, for thousands may pause."""
        if self.sleep is asyncio.sleep:
            loop = asyncio.get_running_loop()
            return loop.call_at(_moment(loop.time(), seconds), _end, over)
        sleeping = asyncio.ensure_future(self.sleep(seconds))
        sleeping.add_done_callback(partial(_end, over))
        return sleeping


def _moment(now: float, seconds: float) -> float:
    """When a pause ends: long ones of the same second end together, for a thousand wake-ups cost more than the polls."""
    return ceil(now + seconds) if seconds >= _LONG else now + seconds


def _end(over: asyncio.Future[None], slept: asyncio.Future[None] | None = None) -> None:
    """End a pause, unless it has ended, with what became of the sleep."""
    if over.done():
        return
    if slept is not None and slept.cancelled():
        over.cancel()
    elif slept is not None and (error := slept.exception()) is not None:
        over.set_exception(error)
    else:
        over.set_result(None)
