"""Several submits under way at once: while one uploads, the next one packs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_batch_provider.exceptions import Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    _Submit: TypeAlias = Coroutine[Any, Any, object]

log = logging.getLogger(__name__)


async def side_by_side(submits: Iterator[_Submit], most: int) -> None:
    """Run submits, each as soon as one before it makes room; the first one alone.

    So what is wrong with all of them is found out before a second one is bought. After a fault no other begins; those under
    way come to their end, each with its receipt or a fault of its own. A process that dies leaves all of them where they are.

    Args:
        submits: made one by one, when there is room.
        most: at once.

    Raises:
        Exception: the fault; of several, one that does not pass by itself.
    """
    faults: list[Exception] = []
    running: set[asyncio.Task[object]] = set()
    try:
        first = _next(submits, faults)
        if first is not None:
            await first
        while (submit := _next(submits, faults)) is not None:
            running.add(asyncio.create_task(submit))
            if len(running) >= most:
                running = await _without_ended(running, faults)
        while running:
            running = await _without_ended(running, faults)
    finally:
        await _leave(running)
    if faults:
        raise _gravest(faults)


def _next(submits: Iterator[_Submit], faults: list[Exception]) -> _Submit | None:
    """Return the next submit; None when there is none, or none may begin any more."""
    if faults:
        return None
    try:
        return next(submits, None)
    except Exception as error:  # noqa: BLE001 — raised below: what is under way ends all the same
        faults.append(error)
        return None


async def _without_ended(running: set[asyncio.Task[object]], faults: list[Exception]) -> set[asyncio.Task[object]]:
    """Wait until at least one has ended, and return the others."""
    ended, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        error = task.exception()
        if isinstance(error, Exception):
            faults.append(error)
        elif error is not None:
            raise error
    return left


async def _leave(running: set[asyncio.Task[object]]) -> None:
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


def _gravest(faults: list[Exception]) -> Exception:
    gravest = min(faults, key=lambda fault: isinstance(fault, Unavailable))
    for fault in faults:
        if fault is not gravest:
            log.warning("%s", fault)
    return gravest
