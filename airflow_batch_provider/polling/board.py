"""The newest answer about each batch of one connection, and everybody who waits for one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, Self

from airflow_batch_provider.models import BatchStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Turn:
    """When a request to the provider began; a later request has a higher number."""

    number: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one poll of a batch: its status, or why there is none.

    Attributes:
        ended: True when no later poll can say anything else; every pause of every task looks at it.
    """

    turn: Turn
    outcome: BatchStatus | Exception
    ended: bool

    @classmethod
    def of(cls, turn: Turn, outcome: BatchStatus | Exception) -> Self:
        """Return the answer that this outcome is."""
        return cls(turn, outcome, isinstance(outcome, BatchStatus) and outcome.ended)

    def status(self) -> BatchStatus:
        """Return the status; raises the error where there is none."""
        if isinstance(self.outcome, Exception):
            raise self.outcome.with_traceback(None)  # many raise the same one
        return self.outcome


class Watcher(Protocol):
    """Somebody who pauses until a batch ends."""

    @property
    def interval(self) -> timedelta | None:
        """How old a status may get; None asks for no poll and only listens."""

    def wake(self) -> None:
        """The batch has ended."""


@dataclass(slots=True)
class Board:
    """Answers by batch, those who wait for a newer one, and those who pause until the batch ends.

    Batches are named as the provider's lists name them. `news` is set when the poller should see whether there is work.
    """

    now: Callable[[], datetime]
    answers: dict[str, Answer] = field(default_factory=dict)
    waiting: dict[str, list[tuple[int, asyncio.Future[Answer]]]] = field(default_factory=dict)
    watchers: dict[str, list[Watcher]] = field(default_factory=dict)
    last: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self) -> Turn:
        """Begin a request."""
        self.last += 1
        return Turn(self.last, self.now())

    def newer(self, name: str, than: int) -> asyncio.Future[Answer]:
        """Return what will be the answer to a request that begins after turn `than`."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(name, []).append((than, future))
        self.news.set()
        return future

    def post(self, name: str, turn: Turn, outcome: BatchStatus | Exception) -> None:
        """Tell everybody; an answer that comes late does not replace a newer one."""
        known = self.answers.get(name)
        if known is None or known.turn.number < turn.number:
            is_same = known is not None and known.outcome == outcome  # then one object is kept for all who have it
            self.answers[name] = known = Answer.of(turn, known.outcome if known and is_same else outcome)
        still = [(than, future) for than, future in self.waiting.pop(name, ()) if not _settled(than, future, known)]
        if still:
            self.waiting[name] = still
        if known.ended:
            for watcher in self.watchers.pop(name, ()):
                watcher.wake()

    def abort(self, names: Iterable[str], error: BaseException) -> None:
        """Raise in everybody who waits for these batches: no answer will come."""
        for name in names:
            for _, future in self.waiting.pop(name, ()):
                if not future.done():
                    future.set_exception(error)

    def post_all(self, names: Iterable[str], turn: Turn, outcome: BatchStatus | Exception) -> None:
        """Tell everybody who asks for one of these batches the same."""
        for name in names:
            self.post(name, turn, outcome)

    def watch(self, name: str, watcher: Watcher) -> None:
        """Wake the watcher when the batch ends."""
        self.watchers.setdefault(name, []).append(watcher)

    def unwatch(self, name: str, watcher: Watcher) -> None:
        """Stop watching; no error when the batch ended meanwhile."""
        watching = self.watchers.get(name)
        if watching is None or watcher not in watching:
            return
        watching.remove(watcher)
        if not watching:
            del self.watchers[name]
        if not self.watchers:
            self.news.set()

    def known(self) -> set[str]:
        """Return every batch that somebody waits for, watches, or asked for lately."""
        return self.answers.keys() | self.watchers.keys() | self.waiting.keys()

    def unanswered(self) -> set[str]:
        """Return the batches that somebody waits for now; a cancelled waiter counts no more."""
        for name, waiting in list(self.waiting.items()):
            if all(future.done() for _, future in waiting):
                del self.waiting[name]
        return set(self.waiting)

    def intervals(self) -> dict[str, timedelta]:
        """Return the shortest interval that a watcher wants of each batch, without those that are only listened to."""
        found: dict[str, timedelta] = {}
        for name, watchers in self.watchers.items():
            for watcher in watchers:
                wanted = watcher.interval
                if wanted is not None and (name not in found or wanted < found[name]):
                    found[name] = wanted
        return found

    def older(self, ages: Mapping[str, timedelta]) -> set[str]:
        """Return those of these batches whose newest answer has reached this age, or that have none."""
        now, answers = self.now(), self.answers
        return {name for name, age in ages.items() if name not in answers or now - answers[name].turn.at >= age}

    def age(self, name: str) -> timedelta:
        """Return how old the newest answer is."""
        known = self.answers.get(name)
        return timedelta.max if known is None else self.now() - known.turn.at

    def drop(self, age: timedelta) -> None:
        """Forget answers which are older and which nobody waits for."""
        kept = self.watchers.keys() | self.waiting.keys()
        for name in [name for name in self.answers if name not in kept and self.age(name) > age]:
            del self.answers[name]


def _settled(than: int, future: asyncio.Future[Answer], answer: Answer) -> bool:
    if future.done():
        return True
    if answer.turn.number <= than:
        return False
    future.set_result(answer)
    return True
