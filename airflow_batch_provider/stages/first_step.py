"""The first step of a coroutine, taken at once: most polls are answered by the newest sweep and wait for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

_T = TypeVar("_T")


class FirstStep(Generic[_T]):
    """A coroutine that has begun in the running task: it has returned or raised already, or goes on when this is awaited.

    What it waits for then must be awaited before anything else is, as with the coroutine itself.

    Attributes:
        is_over: True when it has returned; awaiting this then gives the value without a wait.
    """

    __slots__ = ("_coroutine", "_value", "_waits_for", "is_over")

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine
        self._waits_for: Any = None
        self._value: _T | None = None
        self.is_over = False
        try:
            self._waits_for = coroutine.send(None)
        except StopIteration as end:
            self._value, self.is_over = end.value, True

    def __await__(self) -> Generator[Any, Any, _T]:
        """Go on to the end."""
        if self.is_over:
            return self._value  # type: ignore[return-value]  # the coroutine's own
        waits_for = self._waits_for
        while True:
            try:
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001 — a cancellation, above all, is the coroutine's to see
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(sent)
            except StopIteration as end:
                value: _T = end.value
                return value
