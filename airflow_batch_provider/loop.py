"""Running a coroutine from a plain function."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the coroutine's result, from an event loop of its own; in another thread where this one runs a loop already.

    Plain functions of this package stay usable in a notebook and inside an async task.
    """
    if not _is_inside_a_loop():
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


def _is_inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
