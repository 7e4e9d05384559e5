"""The common base of the adapters for Anthropic and OpenAI, whose SDKs come from the same generator.

Replies are read here and not by the SDKs' models, which stumble over fields of other types than they declare.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from airflow_batch_provider.exceptions import BatchError, Rejected, Unavailable, Unresolved
from airflow_batch_provider.providers.base import BatchProvider
from airflow_batch_provider.providers.faults import Unreadable, read_reply, unreachable
from airflow_batch_provider.providers.http import api_key, base_url, http_client, timeouts
from airflow_batch_provider.providers.list_records import RawPage, Records, raw_page
from airflow_batch_provider.providers.listing import PAGE, ListPage, one_by_one, sendable
from airflow_batch_provider.providers.untrusted import (
    StatusTable,
    as_objects,
    as_text,
    checked_id,
    moment,
    one_line,
    without_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Container, Mapping
    from datetime import datetime
    from types import ModuleType

    from airflow_batch_provider.models import Account, BatchState, BatchStatus

log = logging.getLogger(__name__)


class StainlessProvider(BatchProvider):
    """One account, over an SDK with `list`, `retrieve` and `cancel` of batches and cursors from page to page."""

    title: ClassVar[str]
    """The provider's name, for people."""
    address: ClassVar[str]
    states: ClassVar[Mapping[str, BatchState]]
    sdk: ClassVar[ModuleType]
    """Where the SDK's exceptions are."""
    cursor: ClassVar[str]
    """Name of the parameter that says after which id a page begins."""
    stopping: ClassVar[str]
    """Status word of a batch that is being cancelled."""
    longest_page: ClassVar[int] = PAGE
    """Most batches that one page of the list may hold."""

    def __init__(self, account: Account, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(account)
        self._address, self._key = base_url(account, self.address), api_key(account)
        self._http = http_client(account, transport)
        self._states = StatusTable(self.title, self.states)
        self._records = Records(self._status)

    @property
    @abstractmethod
    def _batches(self) -> Any:
        """Return the SDK's resource of batches that gives raw replies."""

    @abstractmethod
    def _status(self, record: dict[str, Any]) -> BatchStatus:
        """Return what the provider's record of a batch says."""

    @abstractmethod
    def _refused(self, error: Any) -> BatchError:
        """Return the exception for the SDK's error over a refusing reply."""

    def now(self) -> datetime | None:
        """Return the time of the `date` header of the last reply, as it has gone on since."""
        return self._http.now()

    async def check(self) -> str:
        """List one batch, which costs nothing and needs the same right as creating one."""
        await self._page(self._batches, "Listing one batch", limit=1)
        return f"{self.title} at {self._address} accepts the key."

    async def status(self, batch_id: str) -> BatchStatus:
        """GET the batch."""
        return self._status(await self._retrieve(batch_id))

    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus | BatchError]:
        """Read pages of the list for more than two ids, then poll those that they lack, each by itself."""
        wanted, seen = sendable(batch_ids)
        found: dict[str, BatchStatus] = {}
        if len(wanted) > 2:
            try:
                found = await self._picked(wanted)
            except Unreadable as error:
                log.info("%s Polling each batch by itself.", error)
        return seen | found | await one_by_one(self, wanted - found.keys())

    async def _picked(self, wanted: Collection[str]) -> dict[str, BatchStatus]:
        """Return those of the wanted batches that the first pages show; read no further than needed."""
        found: dict[str, BatchStatus] = {}
        async for record in self._listed(self._batches, 2 + len(wanted) // PAGE):
            if as_text(record.get("id")) in wanted:
                found[record["id"]] = self._status(record)
                if len(found) == len(wanted):
                    break
        return found

    async def pages(self, wanted: Container[str]) -> AsyncGenerator[ListPage, None]:
        """Yield pages of the list, newest first; compatible services may leave out `has_more`."""
        query: dict[str, Any] = {"limit": self.longest_page}
        self._records.begin()
        while True:
            page = await self._raw_page(**query)
            records = [self._records.record(raw, wanted) for raw in page.data]
            statuses = [one.status for one in records if one.status is not None and one.batch_id in wanted]
            yield ListPage(statuses, [one.created for one in records if one.created is not None])
            last = records[-1].batch_id if records else ""
            if page.has_more is False or last in {"", query.get(self.cursor)}:
                return
            query[self.cursor] = last

    async def cancel(self, batch_id: str) -> None:
        """POST cancel; a refusal is ignored if the batch is already cancelling or has ended."""
        checked_id(batch_id)
        try:
            async with self._talking(f"Cancelling {batch_id}"):
                await self._batches.cancel(batch_id)
        except (Rejected, Unavailable):
            status = await self.status(batch_id)
            if not status.ended and status.provider_status != self.stopping:
                raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _retrieve(self, batch_id: str) -> dict[str, Any]:
        what = f"Polling {checked_id(batch_id)}"
        record = await self._reply(self._batches.retrieve(batch_id), what)
        if record.get("id") != batch_id:
            # The JSON of a proxy, say, which would show no results.
            raise Unreadable(f"{what} got an object that is not this batch: {one_line(repr(record.get('id')), 80)}.")
        return record

    async def _answer(self, client: Any, path: str, body: bytes) -> bytes:
        """POST a body to a path below the address, and return the JSON object of the reply."""
        what = "Asking one row"
        async with self._talking(what):
            reply = await client.post(
                path,
                cast_to=httpx2.Response,
                content=body,
                options={
                    "max_retries": 0,
                    "timeout": timeouts(self.account, times=5),
                    "headers": {"Content-Type": "application/json"},
                },
            )
        answer = without_key(reply.content, self._key)
        read_reply(answer, what)
        return answer

    async def _reply(self, call: Awaitable[Any], what: str) -> dict[str, Any]:
        """Return the JSON object of a raw reply."""
        return read_reply(await self._body(call, what), what)

    async def _body(self, call: Awaitable[Any], what: str) -> bytes:
        async with self._talking(what):
            reply = await call
        return without_key(reply.http_response.content, self._key)

    async def _raw_page(self, **query: Any) -> RawPage:
        what = "Listing batches"
        page = raw_page(await self._body(self._batches.list(**query), what), what)
        if page is None:
            raise Unreadable(f"{what} got an object where a list belongs.")
        return page

    async def _page(self, resource: Any, what: str, **query: Any) -> dict[str, Any]:
        page = await self._reply(resource.list(**query), what)
        if not isinstance(page.get("data"), list):
            raise Unreadable(f"{what} got an object where a list belongs.")
        return page

    async def _listed(
        self, resource: Any, most: int, since: datetime | None = None, **query: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the records of at most so many pages, newest first; with `since`, all that were created then or later.

        Raises:
            Unresolved: so many pages do not reach back to `since`; what they lack may exist nevertheless.
        """
        query = {"limit": PAGE, **query}
        for _ in range(most):
            page = await self._page(resource, "Listing", **query)
            records = as_objects(page["data"])
            for record in records:
                created = moment(record.get("created_at"))
                if since is not None and created is not None and created < since:
                    return
                yield record
            if page.get("has_more") is False or not records or not isinstance(last := records[-1].get("id"), str):
                return
            query[self.cursor] = last
        if since is not None:
            raise Unresolved(
                f"{most} pages of the list do not reach back to {since:%Y-%m-%d %H:%M}, so nobody can tell whether a "
                "batch was created then. Look for its tag in the provider's console; nothing was bought meanwhile."
            )

    @asynccontextmanager
    async def _talking(self, what: str) -> AsyncIterator[None]:
        """Raise the SDK's errors during `what` as ours."""
        try:
            yield
        except self.sdk.APIStatusError as error:
            # The SDK's error quotes the whole reply, which may quote a prompt.
            raise self._refused(error) from None
        except (self.sdk.APIConnectionError, httpx2.HTTPError, httpx2.StreamError) as error:
            raise unreachable(error, what) from error
