"""One client and one poller per connection, shared by everything in a process that looks at batches."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import BatchError, Denied, NotFound
from airflow_batch_provider.providers import connect, provider_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_batch_provider.models import Account, BatchStatus, ConnectionRef
    from airflow_batch_provider.providers.base import BatchProvider

# Looks asked for within this time share one call; seconds. Short against any poll interval.
WINDOW = 0.5


class Hub:
    """The open providers of one event loop, by connection.

    Args:
        open_account: turns a connection into an account; raises `UsageError` when there is none.
        sleep: waits seconds; injected in tests.
    """

    def __init__(
        self,
        open_account: Callable[[ConnectionRef], Awaitable[Account]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._open_account = open_account
        self._sleep = sleep
        self._providers: dict[ConnectionRef, BatchProvider] = {}
        self._locks: dict[ConnectionRef, asyncio.Lock] = {}
        self._asked: dict[ConnectionRef, dict[str, asyncio.Future[BatchStatus]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def provider(self, connection: ConnectionRef) -> BatchProvider:
        """The connection's provider, opened once; its SDK is imported in a thread so that the loop goes on."""
        async with self._locks.setdefault(connection, asyncio.Lock()):
            if connection not in self._providers:
                account = await self._open_account(connection)
                await asyncio.to_thread(provider_class, account.provider)
                self._providers[connection] = connect(account)
            return self._providers[connection]

    async def status(self, connection: ConnectionRef, batch_id: str) -> BatchStatus:
        """A look at one batch; looks of the same moment at the same connection share a call.

        Raises:
            NotFound: the provider does not know the batch (yet).
            BatchError: what the provider's client raises.
        """
        waiting = self._asked.setdefault(connection, {})
        if not waiting:
            # In a context of its own: the look serves many tasks, and must not write into the log of the first of them.
            task = asyncio.create_task(self._look(connection), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if batch_id not in waiting:
            waiting[batch_id] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiting[batch_id])

    async def forget(self, connection: ConnectionRef) -> None:
        """Close a connection's client, so that the next use reads the connection anew (a key may have changed)."""
        provider = self._providers.pop(connection, None)
        if provider is not None:
            await provider.aclose()

    async def aclose(self) -> None:
        """Close every client."""
        for connection in list(self._providers):
            await self.forget(connection)

    async def _look(self, connection: ConnectionRef) -> None:
        """Ask for everything that gathered in the window, and tell every waiter, whatever happens."""
        waiting = self._asked[connection]
        try:
            await self._sleep(WINDOW)
            del self._asked[connection]
            provider = await self.provider(connection)
            answers = await provider.statuses(list(waiting))
            if any(isinstance(answer, Denied) for answer in answers.values()):
                await self.forget(connection)
            _answer(waiting, answers)
        except BaseException as error:
            if self._asked.get(connection) is waiting:
                del self._asked[connection]
            if isinstance(error, Denied):
                await self.forget(connection)
            _fail(waiting, error)
            if not isinstance(error, Exception):  # cancellation and the like end this task too
                raise


def _answer(waiting: dict[str, asyncio.Future[BatchStatus]], seen: dict[str, BatchStatus | BatchError]) -> None:
    for batch_id, future in waiting.items():
        if future.done():
            continue
        answer = seen.get(batch_id)
        if isinstance(answer, BatchError):
            _fail({batch_id: future}, answer)
        elif answer is not None:
            future.set_result(answer)
        else:
            _fail({batch_id: future}, NotFound(f"the provider does not list batch {batch_id!r}"))


def _fail(waiting: dict[str, asyncio.Future[BatchStatus]], error: BaseException) -> None:
    for future in waiting.values():
        if not future.done():
            future.set_exception(error)
            future.exception()  # a waiter that was cancelled meanwhile never retrieves it
