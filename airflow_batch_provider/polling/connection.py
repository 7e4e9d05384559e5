"""One connection of the deployment, opened once and read again when its key is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_batch_provider.providers import connect, provider_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_batch_provider.models import Account, ConnectionRef
    from airflow_batch_provider.providers.base import BatchProvider


class Connection:
    """The open provider of one connection, on one event loop."""

    def __init__(self, ref: ConnectionRef, open_account: Callable[[ConnectionRef], Awaitable[Account]]) -> None:
        self._ref = ref
        self._open_account = open_account
        self._lock = asyncio.Lock()
        self._proven = False
        self._retired: list[BatchProvider] = []
        self.opened: BatchProvider | None = None

    async def provider(self) -> BatchProvider:
        """Return the provider; its SDK is imported in a thread so that the loop goes on.

        Raises:
            UsageError: the connection is missing or incomplete.
        """
        async with self._lock:
            if self.opened is None:
                self.opened = await self._connect()
                self._proven = True
            return self.opened

    async def _connect(self) -> BatchProvider:
        account = await self._open_account(self._ref)
        await asyncio.to_thread(provider_class, account.provider)
        return connect(account)

    def accept(self, provider: BatchProvider) -> None:
        """Note that the provider accepted the key: a later refusal makes it worth reading the connection again."""
        if provider is self.opened:
            self._proven = True

    async def renew(self, refused: BatchProvider) -> BatchProvider | None:
        """Read the connection again after its key was refused; None when that was done and the fresh key is refused too.

        Calls that others have under way at the old client go on; it is closed with the connection.
        """
        if refused is not self.opened:
            return await self.provider()
        if not self._proven:
            return None
        self.opened = None
        self._retired.append(refused)
        fresh = await self.provider()
        self._proven = False
        return fresh

    async def aclose(self) -> None:
        """Close the clients; the next use reads the connection again."""
        closing = [*self._retired, *([self.opened] if self.opened is not None else [])]
        self._retired.clear()
        self.opened = None
        for provider in closing:
            await provider.aclose()
