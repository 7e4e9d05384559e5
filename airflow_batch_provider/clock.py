"""Time as an argument, so that a day of waiting takes a test no time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


def random_id() -> str:
    """Return 32 hex digits that nobody else has; an argument wherever one is drawn, so that a test can repeat itself."""
    return uuid4().hex


@dataclass(frozen=True)
class Clock:
    """How code that waits learns the time and sleeps; unit of `sleep`: seconds."""

    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
