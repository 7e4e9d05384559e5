"""One client and one poller per connection, shared by everything in a process that polls batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_batch_provider.clock import Clock, utc_now
from airflow_batch_provider.polling import Connection, Poller, Subscription
from airflow_batch_provider.signals import SILENT, Signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from datetime import datetime, timedelta

    from airflow_batch_provider.models import Account, BatchStatus, ConnectionRef
    from airflow_batch_provider.providers.base import BatchProvider

# Polls asked for within this time share one sweep; seconds. Short against any poll interval.
WINDOW = 0.5


class Hub:
    """The open providers of one event loop, by connection.

    Args:
        open_account: turns a connection into an account; raises `UsageError` when there is none.
        sleep: waits seconds; injected in tests.
        now: the clock by which statuses get old; injected in tests.
        signals: told of every sweep.
    """

    def __init__(
        self,
        open_account: Callable[[ConnectionRef], Awaitable[Account]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = utc_now,
        signals: Signals = SILENT,
    ) -> None:
        self._open_account = open_account
        self._signals = signals
        self._clock = Clock(now, sleep)
        self._connections: dict[ConnectionRef, Connection] = {}
        self._pollers: dict[ConnectionRef, Poller] = {}

    async def provider(self, connection: ConnectionRef) -> BatchProvider:
        """Return the connection's provider, opened once.

        Raises:
            UsageError: the connection is missing or incomplete.
        """
        return await self._connection(connection).provider()

    async def renewed(self, connection: ConnectionRef, refused: BatchProvider) -> BatchProvider | None:
        """Return the provider with the key that the connection holds now; None when that key was refused as well.

        Raises:
            UsageError: the connection is missing or incomplete.
        """
        fresh = await self._connection(connection).renew(refused)
        return None if fresh is None or fresh.account == refused.account else fresh

    async def status(self, connection: ConnectionRef, batch_id: str) -> BatchStatus:
        """Poll one batch; polls of the same moment at the same connection share a sweep.

        Raises:
            NotFound: the provider does not know the batch (yet).
            BatchError: what the provider's client raises.
        """
        poller = self.poller(connection)
        answer = await poller.poll(await poller.name(batch_id))
        return answer.status()

    async def statuses(
        self, connection: ConnectionRef, batch_ids: Collection[str]
    ) -> list[BatchStatus | BaseException]:
        """Poll many as `status` does, side by side; an error stands in its batch's place."""
        polls = (self.status(connection, one) for one in batch_ids)
        return await asyncio.gather(*polls, return_exceptions=True)

    def subscribe(self, interval: timedelta, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Subscription:
        """Return this hub for one task that waits and polls every `interval`."""
        return Subscription(self, interval, sleep)

    def poller(self, connection: ConnectionRef) -> Poller:
        """Return the poller that serves everybody who waits at this connection."""
        if connection not in self._pollers:
            self._pollers[connection] = Poller(self._connection(connection), self._clock, WINDOW, self._signals)
        return self._pollers[connection]

    async def aclose(self) -> None:
        """End every poller and close every client."""
        for poller in self._pollers.values():
            poller.aclose()
        self._pollers.clear()
        connections = list(self._connections.values())
        self._connections.clear()
        for connection in connections:
            await connection.aclose()

    def _connection(self, connection: ConnectionRef) -> Connection:
        if connection not in self._connections:
            self._connections[connection] = self._open(connection)
        return self._connections[connection]

    def _open(self, connection: ConnectionRef) -> Connection:
        return Connection(connection, self._open_account)
