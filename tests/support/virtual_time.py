"""An event loop whose time stands still while anything can run, and then jumps to the next moment somebody waits for.

Hours of polling take no time, and workers that wait at once wait at once: a sleep of one does not age the others. What
would run in a thread runs in place, so that nothing but the seed decides who goes first.
"""

from __future__ import annotations

import asyncio
import selectors
from contextlib import contextmanager
from datetime import timedelta

import anyio.to_thread
import pytest
from fakes import START


class VirtualLoop(asyncio.SelectorEventLoop):
    """Seconds since the loop was made."""

    def __init__(self):
        self.moment = 0.0
        super().__init__(_Jumping(self))

    def time(self):
        return self.moment


class _Jumping(selectors.DefaultSelector):
    """Where a loop would wait for a timer, the time comes to it."""

    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("Everybody waits, and nothing will ever happen.")
        self._loop.moment += timeout
        return super().select(0)


class VirtualClock:
    """The loop's time as a date; `advance` lets it leap, as on a machine that was suspended."""

    def __init__(self, ahead=0.0):
        self._ahead = timedelta(seconds=ahead)

    def now(self):
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self._ahead

    async def sleep(self, seconds):
        await asyncio.sleep(max(0.0, seconds))

    def advance(self, seconds):
        self._ahead += timedelta(seconds=seconds)


@contextmanager
def without_threads(turns):
    """Calls that go to a thread are made in place, after letting others go first for `turns()` turns of the loop."""

    async def in_place(call, *args, **kwargs):
        for _ in range(turns()):
            await asyncio.sleep(0)
        return call(*args, **kwargs)

    async def in_place_of_anyio(call, *args, **_how):
        return await in_place(call, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", in_place)
        patch.setattr(anyio.to_thread, "run_sync", in_place_of_anyio)
        yield
