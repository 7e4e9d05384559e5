"""Polls batches one by one, a few side by side: one that hangs or fails holds up no other."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Denied, Paused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.polling.board import Board
    from airflow_batch_provider.polling.connection import Connection
    from airflow_batch_provider.polling.trouble import Trouble
    from airflow_batch_provider.providers.base import BatchProvider

log = logging.getLogger(__name__)

# Less than half of the connections that a client may open (`providers.http.http_client`).
SIDE_BY_SIDE = 8

# So many faults in a row are the connection's, not the batches'.
IN_A_ROW = 8


class Singles:
    """The single polls of one connection that are due or under way.

    Attributes:
        proven: the list has just been read, so that no number of faults here is the connection's.
    """

    def __init__(self, board: Board, connection: Connection, trouble: Trouble) -> None:
        self._board = board
        self._connection = connection
        self._trouble = trouble
        self._queue: dict[str, None] = {}
        self._asking: set[str] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._streak = 0
        self.proven = False

    @property
    def pending(self) -> AbstractSet[str]:
        """The batches that will be answered without anybody's doing."""
        return self._queue.keys() | self._asking

    def will_answer(self, name: str) -> bool:
        """Return whether the batch is one of `pending`."""
        return name in self._queue or name in self._asking

    def prove(self) -> None:
        """Take the connection for a good one: the list has just been read."""
        self.proven, self._streak = True, 0

    def add(self, names: Iterable[str]) -> None:
        """Poll each, in this order; not one that is under way."""
        self._queue |= dict.fromkeys(name for name in names if name not in self._asking)
        while len(self._workers) < min(SIDE_BY_SIDE, len(self._queue) + len(self._asking)):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def cancel(self) -> None:
        """Ask nothing more."""
        self._queue.clear()
        for worker in self._workers:
            worker.cancel()

    async def _work(self) -> None:
        while self._queue:
            name = next(iter(self._queue))
            del self._queue[name]
            self._asking.add(name)
            turn = self._board.turn()
            try:
                outcome = await self._poll(name)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # the end of the process; those who wait must hear of it, and not hang
                self._board.abort((name, *self._queue), error)
                self._queue.clear()
                raise
            finally:
                self._asking.discard(name)
            self._board.post(name, turn, outcome)
            self._judge(outcome)
        self._board.news.set()

    async def _poll(self, name: str) -> BatchStatus | Exception:
        try:
            provider = await self._connection.provider()
            try:
                return await self._ask(provider, name)
            except Denied:
                fresh = await self._connection.renew(provider)
                if fresh is None:
                    raise
                return await self._ask(fresh, name)
        except Exception as error:  # noqa: BLE001 — a fault of one poll stays with its batch, whatever it is
            return as_batch_error(error, f"Polling {name}")

    async def _ask(self, provider: BatchProvider, name: str) -> BatchStatus:
        status = await provider.status(name)
        self._connection.accept(provider)
        self._trouble.end()
        return status

    def _judge(self, outcome: BatchStatus | Exception) -> None:
        """Spare the provider the rest of the polls where one after the other fails; they get the same answer."""
        if self.proven or not isinstance(outcome, Unavailable | Denied | Paused):
            self._streak = 0
            return
        self._streak += 1
        if self._streak >= IN_A_ROW and not self._trouble.left():
            self._trouble.begin(outcome)
            self._board.post_all(list(self._queue), self._board.turn(), outcome)
            self._queue.clear()


def as_batch_error(error: Exception, what: str) -> BatchError:
    """Return the error in our terms; what no adapter foresaw is a passing fault, for the batch runs on."""
    if isinstance(error, BatchError):
        return error
    log.warning("%s failed.", what, exc_info=error)
    return Unavailable(f"{what} failed: {type(error).__name__}: {error}")
