"""The queue for places: one small value that many workers change without a lock.

```
=registry/places/SCOPE/000000000042.json   a queue: who has a place and who waits for one; the last number counts
=registry/places/SCOPE/seen/TAG.json       when a task that waits was seen last
```

A queue is a file that is never changed. Whoever asks, gets in or leaves makes the next one, which only one worker can; the others
read it and try again. So no lock is held, and nobody who dies keeps one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.records import create, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# Queues that stay behind the last one: a worker that read one of them and slept finds the next one taken, and reads again.
_KEPT = 50


class Place(FrozenModel):
    """One batch that has a place, or waits for one.

    Attributes:
        tag: of the batch.
        label: whose it is: `dag/run/task[/map_index]`.
        tokens: estimate of its input.
        given_at: None while it waits.
    """

    tag: str
    label: str
    tokens: int
    asked_at: AwareDatetime
    given_at: AwareDatetime | None = None


class Queue(FrozenModel):
    """Everybody who has a place or waits for one, in the order of asking."""

    places: tuple[Place, ...] = ()

    def has(self, tag: str) -> bool:
        """Tell whether a batch has a place or waits for one."""
        return any(place.tag == tag for place in self.places)

    def gives(self, tag: str) -> bool:
        """Tell whether a batch has a place."""
        return any(place.tag == tag and place.given_at for place in self.places)


class _Seen(FrozenModel):
    at: AwareDatetime


@dataclass(frozen=True)
class QueueFiles:
    """The files of one queue.

    Attributes:
        directory: of one connection and model, shared by all workers.
    """

    directory: Directory

    def change(self, change: Callable[[Queue], Queue], only_if: str | None = None) -> Queue:
        """Make the next queue; when another worker was first, do the same to theirs.

        Args:
            only_if: leaves a queue as it is that does not have this tag.
        """
        while True:
            number, queue = self.latest()
            changed = queue if only_if is not None and not queue.has(only_if) else change(queue)
            if changed == queue or self._made(number + 1, changed):
                return changed

    def _made(self, number: int, queue: Queue) -> bool:
        """Make a queue; False when it does not follow the last one."""
        directory = self.directory
        if not create(directory, _name(number), queue):
            return False
        numbers = self._numbers()
        if number > 1 and number - 1 not in numbers:  # others have gone on for long, and removed this number
            directory.delete(_name(number))
            return False
        for old in numbers:
            if old < number - _KEPT:
                directory.delete(_name(old))
        return True

    def latest(self) -> tuple[int, Queue]:
        """Return the queue that counts, and its number; one that cannot be read is empty, and all ask again."""
        directory = self.directory
        while numbers := self._numbers():
            data = directory.read(_name(numbers[-1]))
            if data is None:
                continue  # it was removed just now
            try:
                return numbers[-1], Queue.model_validate_json(data)
            except ValidationError:
                log.warning("%s cannot be read: all who wait ask again.", directory.uri(_name(numbers[-1])))
                return numbers[-1], Queue()
        return 0, Queue()

    def _numbers(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self.directory.names() if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def note_seen(self, tag: str, now: datetime) -> None:
        """Note that somebody waits for a place for this batch."""
        save(self.directory, _seen_name(tag), _Seen(at=now))

    def seen_at(self, tag: str) -> datetime | None:
        """Return when somebody who waits for it was seen last, None where that cannot be told."""
        data = self.directory.read(_seen_name(tag))
        try:
            return None if data is None else _Seen.model_validate_json(data).at
        except ValidationError:
            return None

    def forget_seen(self, tag: str) -> None:
        """Note that nobody waits any more."""
        self.directory.delete(_seen_name(tag))


def _name(number: int) -> str:
    return f"{number:012d}.json"


def _seen_name(tag: str) -> str:
    return f"seen/{tag}.json"
