"""Runs an async test on an event loop whose time jumps to the next moment somebody waits for."""

from __future__ import annotations

import asyncio
from functools import wraps

from virtual_time import VirtualLoop


def in_virtual_time(test):
    """Run the test on a loop of its own, on which a sleep of hours takes no time."""

    @wraps(test)
    def run(*args, **kwargs):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
