"""A provider whose list and single polls are counted, on an event loop whose time jumps."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from fakes import FakeProvider
from virtual_time import VirtualClock

from airflow_batch_provider.exceptions import NotFound, Rejected
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import BatchStatus
from airflow_batch_provider.polling.connection import Connection
from airflow_batch_provider.providers.listing import ListPage

INTERVAL = timedelta(seconds=30)


class SweptProvider(FakeProvider):
    """Batches by id, newest last; faults by id, for the list, and by key.

    page: batches on a page; 0 for a provider without a list.
    latency: seconds that every request takes.
    """

    def __init__(self, clock, *, page=100, latency=0.0):
        super().__init__(clock)
        self.page, self.latency = page, latency
        self.records: dict[str, BatchStatus] = {}
        self.unlisted: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.asked: list[tuple[float, str]] = []
        self.faults: dict[str, object] = {}
        self.list_faults: list[Exception | None] = []
        self.closed = False
        self.running = self.most_at_once = 0

    def add(self, *ids, status="processing", created=True):
        for batch_id in ids:
            moment = self.clock.now() + timedelta(milliseconds=len(self.records)) if created else None
            self.records[batch_id] = BatchStatus(batch_id=batch_id, status=status, created_at=moment)

    def end(self, *ids):
        for batch_id in ids:
            self.records[batch_id] = self.records[batch_id].model_copy(update={"status": "completed"})

    @property
    def total(self):
        return sum(self.requests.values())

    def listed_id(self, batch_id):
        if "/" in batch_id or " " in batch_id or len(batch_id) > 512 or batch_id in ("", ".", ".."):
            raise Rejected(f"{batch_id[:20]!r} is not an id")
        return batch_id

    async def status(self, batch_id):
        await self._request("single", batch_id)
        fault = self.faults.get(batch_id)
        if isinstance(fault, BaseException):
            raise fault
        if callable(fault):
            return fault(batch_id)
        if batch_id not in self.records:
            raise NotFound(batch_id)
        return self.records[batch_id]

    async def pages(self, wanted):
        start, newest_first = 0, None
        while self.page:
            await self._request("page", str(start))
            if self.list_faults and (fault := self.list_faults.pop(0)) is not None:
                raise fault
            newest_first = newest_first or [one for one in reversed(self.records) if one not in self.unlisted]
            shown = newest_first[start : start + self.page]
            created = [self.records[one].created_at for one in shown if self.records[one].created_at is not None]
            yield ListPage([self.records[one] for one in shown if one in wanted and one not in self.faults], created)
            start += self.page
            if start >= len(newest_first):
                return

    async def _request(self, kind, what):
        self.requests[kind] += 1
        self.asked.append((asyncio.get_running_loop().time(), what))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.running -= 1

    async def aclose(self):
        self.closed = True


class SweptHub(Hub):
    """A hub whose connections are providers of the test; `keys` are opened one after the other at a renewal."""

    def __init__(self, **keys):
        self.keys = {name: list(value) if isinstance(value, list) else [value] for name, value in keys.items()}
        self.opened = Counter()
        self.clock = VirtualClock()
        super().__init__(self._nobody, sleep=self.clock.sleep, now=self.clock.now)

    async def _nobody(self, conn_id):
        raise AssertionError(conn_id)

    def _open(self, conn_id):
        return _Opened(conn_id, self)


class _Opened(Connection):
    def __init__(self, conn_id, hub):
        super().__init__(conn_id, hub._nobody)
        self._conn_id = conn_id
        self._hub = hub

    async def _connect(self):
        self._hub.opened[self._conn_id] += 1
        keys = self._hub.keys[self._conn_id]
        found = keys.pop(0) if len(keys) > 1 else keys[0]
        if isinstance(found, Exception):
            raise found
        return found


class Task:
    """A waiting task as the trigger is: it pauses, polls its batch, and is done when the batch has ended."""

    def __init__(self, hub, conn_id, batch_id, *, interval=INTERVAL, start=0.0):
        self.subscription = hub.subscribe(interval, asyncio.sleep)
        self.conn_id, self.batch_id, self.interval, self.start = conn_id, batch_id, interval, start
        self.checks = 0
        self.faults = []
        self.noticed = None

    async def run(self):
        await self.subscription.listen(self.conn_id, self.batch_id)
        pause = self.start
        while True:
            await self.subscription.pause(pause)
            self.checks += 1
            try:
                status = await self.subscription.status(self.conn_id, self.batch_id)
            except Exception as error:  # noqa: BLE001 — as a trigger does
                self.faults.append(error)
            else:
                if status.ended:
                    self.noticed = asyncio.get_running_loop().time()
                    return
            pause = self.interval.total_seconds() * 1.05


def spread(hub, conn_id, ids, interval=INTERVAL):
    """Tasks whose polls are spread evenly over the interval."""
    step = interval.total_seconds() / len(ids)
    return [Task(hub, conn_id, one, interval=interval, start=step * number) for number, one in enumerate(ids)]
