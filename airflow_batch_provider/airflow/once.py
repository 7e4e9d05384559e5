"""What all triggers of a triggerer share is made once for each event loop."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def once_per_loop(make: Callable[[], _T]) -> Callable[[], _T]:
    """Return `make` as a function that calls it once for each event loop in which it is called.

    A triggerer has one loop for its whole life, `dag.test` a new one for each trigger.
    """
    made: WeakKeyDictionary[asyncio.AbstractEventLoop, _T] = WeakKeyDictionary()

    @wraps(make)
    def of_this_loop() -> _T:
        loop = asyncio.get_running_loop()
        if loop not in made:
            made[loop] = make()
        return made[loop]

    return of_this_loop
