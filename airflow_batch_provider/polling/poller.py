"""The loop that polls every watched batch of one connection, as often as the most impatient watcher wants."""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import Context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound, Rejected, Unavailable
from airflow_batch_provider.polling.board import Answer, Board, Turn
from airflow_batch_provider.polling.listing import FEW, Listing
from airflow_batch_provider.polling.singles import Singles, as_batch_error
from airflow_batch_provider.polling.trouble import Trouble
from airflow_batch_provider.signals import SILENT, Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.polling.board import Watcher
    from airflow_batch_provider.polling.connection import Connection
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

# A sweep comes a little before the statuses get older than is wanted, at a moment of its own for each connection and time.
_EARLIEST, _LATEST = 0.85, 0.95

# Polls that become due soon go with the sweep of now.
_SOON = 0.8

# Where a list is read anyway, no watched batch goes unseen for longer, whatever interval it wants.
_UNSEEN = timedelta(seconds=45)

# Answers that nobody watches are remembered for so long, or for the longest interval that anybody watches with.
_KEPT = timedelta(minutes=5)


class Poller:
    """Everybody's polls of the batches of one connection.

    Args:
        window: polls asked for within this time share a sweep; seconds.
        signals: told of every sweep.
    """

    def __init__(self, connection: Connection, clock: Clock, window: float, signals: Signals = SILENT) -> None:
        self._connection = connection
        self._signals = signals
        self._clock = clock
        self._window = window
        self._board = Board(clock.now)
        self._listing = Listing(self._board)
        self._trouble = Trouble(clock.now)
        self._singles = Singles(self._board, connection, self._trouble)
        self._jitter: Callable[[], float] = random.random
        self._lists = True
        self._early = _LATEST
        self._wake_at: datetime | None = None
        self._loop: asyncio.Task[None] | None = None

    async def name(self, batch_id: str) -> str:
        """Return the batch's name in the provider's lists.

        Raises:
            Rejected: it is not an id of a batch.
        """
        return (await self._connection.provider()).listed_id(batch_id)

    async def poll(self, name: str) -> Answer:
        """Return an answer to a request that begins after this call."""
        return await self._newer(name, self._board.last)

    async def recent(self, name: str, age: timedelta, after: int) -> Answer:
        """Return the newest answer when it is not older than `age` and came after turn `after`, else wait for one.

        Raises:
            BatchError: the connection as a whole fails at present.
        """
        if (fresh := self.fresh(name, age, after)) is not None:
            return fresh
        if self._trouble.fault is not None and self._trouble.left():
            raise self._trouble.fault.with_traceback(None)
        known = self._board.answers.get(name)
        return await self._newer(name, known.turn.number if known is not None else 0)

    def fresh(self, name: str, age: timedelta, after: int) -> Answer | None:
        """Return the newest answer when it is not older than `age` and came after turn `after`, or can never change."""
        known = self._board.answers.get(name)
        if known is None or known.ended:
            return known
        is_fresh = known.turn.number > after and self._clock.now() - known.turn.at <= age
        return known if is_fresh else None

    def newest(self, name: str) -> Answer | None:
        """Return the newest answer, of any age."""
        return self._board.answers.get(name)

    def watch(self, name: str, watcher: Watcher) -> None:
        """Keep polling the batch, and wake the watcher when it ends."""
        self._board.watch(name, watcher)
        now = self._clock.now()
        due = self._due(name, watcher.interval, now)
        if due is not None and (self._loop is None or self._wake_at is None or self._allowed(due, now) < self._wake_at):
            self._go_on()

    def unwatch(self, name: str, watcher: Watcher) -> None:
        """Stop watching; the last one ends the loop."""
        self._board.unwatch(name, watcher)

    def aclose(self) -> None:
        """End the loop; whoever waits is told so."""
        if self._loop is not None:
            self._loop.cancel()
        self._singles.cancel()
        closed = Unavailable("The connections of this process were closed in the middle of a poll.", ambiguous=False)
        self._board.post_all(self._board.unanswered(), self._board.turn(), closed)

    async def _newer(self, name: str, than: int) -> Answer:
        future = self._board.newer(name, than)
        self._go_on()
        return await future

    def _go_on(self) -> None:
        self._board.news.set()
        if self._loop is None:
            # In a context of its own: it serves many tasks, and must not write into the log of one of them.
            self._loop = asyncio.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        try:
            while self._board.watchers or self._board.unanswered():
                if self._asked():
                    await self._clock.sleep(self._window)
                    is_time = self._is_time()
                elif not (is_time := self._is_time()):
                    await self._pause()
                    continue
                if wanted := self._asked() | (self._soon_due() if is_time else set()):
                    await self._sweep(wanted)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the end of the process, or a fault of ours; those who wait must not hang
            self._board.abort(self._board.unanswered(), error)
            raise
        finally:
            self._loop = None

    def _asked(self) -> set[str]:
        """Return the batches that somebody waits for and nobody is asking about."""
        return self._board.unanswered() - self._singles.pending

    async def _pause(self) -> None:
        """Wait until a poll is due or there is news."""
        self._board.news.clear()
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._board.news.wait())}
        if self._wake_at is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(self._seconds_left(self._wake_at))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _seconds_left(self, moment: datetime) -> float:
        return max((moment - self._clock.now()).total_seconds(), 0.0)

    def _is_time(self) -> bool:
        """Plan the next sweep; True when it is due."""
        now = self._clock.now()
        planned = (self._due(name, interval, now) for name, interval in self._board.intervals().items())
        first = min(filter(None, planned), default=None)
        self._wake_at = None if first is None else self._allowed(first, now)
        return self._wake_at is not None and self._wake_at <= now

    def _due(self, name: str, interval: timedelta | None, now: datetime) -> datetime | None:
        """Return when the batch wants to be polled again, None when nobody wants that or a poll is under way."""
        if interval is None or self._singles.will_answer(name):
            return None
        answer = self._board.answers.get(name)
        if answer is None or answer.turn.at > now:  # never polled, or the clock was set back
            return now
        return answer.turn.at + interval * self._early

    def _allowed(self, due: datetime, now: datetime) -> datetime:
        """Return when the connection may be asked, which is later than due while it is in trouble."""
        return max(due, now + self._trouble.left())

    async def _sweep(self, wanted: set[str]) -> None:
        """Poll these batches: in the list, then one by one."""
        self._early = _EARLIEST + (_LATEST - _EARLIEST) * self._jitter()
        intervals = self._board.intervals().values()
        self._board.drop(max(intervals, default=_KEPT))
        self._trouble.first = min(intervals, default=self._trouble.first)
        turn, self._singles.proven = self._board.turn(), False
        fault = await self._read_list(wanted)
        if (opened := self._connection.opened) is not None:
            self._signals.swept(opened.name, answered=fault is None)
        rest = self._unseen(wanted, turn)
        if fault is not None:
            self._board.post_all(rest, turn, fault)
            self._trouble.begin(fault)
            return
        self._singles.add(sorted(rest, key=self._board.age, reverse=True))

    def _soon_due(self) -> set[str]:
        """Return the watched batches that this sweep is for: what is due, and what would be soon after."""
        watched = self._board.intervals().items()
        return self._board.older(
            {name: wanted * _SOON for name, wanted in watched if not self._singles.will_answer(name)}
        )

    def _unseen(self, wanted: set[str], since: Turn) -> list[str]:
        answers = self._board.answers
        return [name for name in wanted if name not in answers or answers[name].turn.number <= since.number]

    async def _read_list(self, wanted: set[str]) -> BatchError | None:
        """Post what the list shows; return the fault that single polls would meet as well."""
        try:
            provider = await self._connection.provider()
            try:
                await self._walk(provider, wanted)
            except Denied:
                fresh = await self._connection.renew(provider)
                if fresh is None:
                    raise
                await self._walk(fresh, wanted)
        except Exception as error:  # noqa: BLE001 — a list that no adapter foresaw must not end the polls
            return self._judged(as_batch_error(error, "Listing batches"))
        return None

    async def _walk(self, provider: BatchProvider, wanted: set[str]) -> None:
        sought = self._listing.shows(wanted)
        if not self._lists or not sought or len(self._board.watchers.keys() | self._board.waiting.keys()) <= FEW:
            return
        await self._listing.walk(provider, sought | self._listing.shows(self._long_unseen()))
        self._connection.accept(provider)
        self._singles.prove()
        self._trouble.end()

    def _long_unseen(self) -> set[str]:
        """Return the watched batches for which a walk goes on: a long list is read once for all, not for each page."""
        watched = {name: min(_UNSEEN, interval / 4) for name, interval in self._board.intervals().items()}
        return self._board.older(dict.fromkeys(self._board.watchers, _UNSEEN) | watched)

    def _judged(self, error: BatchError) -> BatchError | None:
        """Return the list's fault unless single polls may do better: without the right to list, or beside a bad page."""
        if isinstance(error, Denied):
            return None if error.http_status == 403 else error
        if isinstance(error, NotFound | Rejected):
            self._lists = False  # a service without this list
            return None
        if isinstance(error, Unavailable) and error.ambiguous and error.retry_after is None:
            log.info("%s Polling each batch by itself.", error)
            return None
        return error
