"""One client and one poller per connection, shared by everything in a process that looks at batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.clock import Clock, utc_now
from airflow_batch_provider.polling import Connection, Poller, Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta
    from types import TracebackType

    from airflow_batch_provider.models import Account, BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider

# Looks asked for within this time share one sweep; seconds. Short against any poll interval.
WINDOW = 0.5


class Hub:
    """The open providers of one event loop, by connection id.

    Args:
        open_account: turns a connection id into an account; raises `UsageError` when there is none.
        sleep: waits seconds; injected in tests.
        now: the clock by which looks get old; injected in tests.
    """

    def __init__(
        self,
        open_account: Callable[[str], Awaitable[Account]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._open_account = open_account
        self._clock = Clock(now, sleep)
        self._connections: dict[str, Connection] = {}
        self._pollers: dict[str, Poller] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def provider(self, conn_id: str) -> BatchProvider:
        """Return the connection's provider, opened once.

        Raises:
            UsageError: the connection is missing or incomplete.
        """
        return await self._connection(conn_id).provider()

    async def status(self, conn_id: str, batch_id: str, *, max_age: timedelta | None = None) -> BatchStatus:
        """Look at one batch; looks of the same moment at the same connection share a sweep.

        Args:
            max_age: a look that was made within this time will do; None asks anew.

        Raises:
            NotFound: the provider does not know the batch (yet).
            BatchError: what the provider's client raises.
        """
        poller = self.poller(conn_id)
        name = await poller.name(batch_id)
        answer = await (poller.look(name) if max_age is None else poller.recent(name, max_age, after=0))
        return answer.status()

    def subscribe(self, interval: timedelta, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Subscription:
        """Return this hub for one task that waits and looks every `interval`."""
        return Subscription(self, interval, sleep)

    def poller(self, conn_id: str) -> Poller:
        """Return the poller that serves everybody who waits at this connection."""
        if conn_id not in self._pollers:
            self._pollers[conn_id] = Poller(self._connection(conn_id), self._clock, WINDOW)
        return self._pollers[conn_id]

    async def forget(self, conn_id: str) -> None:
        """Close a connection's client, so that the next use reads the connection anew (a key may have changed)."""
        if conn_id in self._connections:
            await self._connections[conn_id].aclose()

    async def aclose(self) -> None:
        """End every poller and close every client."""
        for poller in self._pollers.values():
            poller.aclose()
        self._pollers.clear()
        for conn_id in list(self._connections):
            await self.forget(conn_id)
        self._connections.clear()

    def _connection(self, conn_id: str) -> Connection:
        if conn_id not in self._connections:
            self._connections[conn_id] = self._open(conn_id)
        return self._connections[conn_id]

    def _open(self, conn_id: str) -> Connection:
        return Connection(conn_id, self._open_account)
