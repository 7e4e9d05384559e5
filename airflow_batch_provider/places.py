"""Places for batches at a provider, shared by all tasks of the deployment and given in the order of asking.

A place is kept as long as the registry has its batch; one that was given and not used, or asked for and not wanted any more, is
free after a lease. So nobody who dies keeps others waiting.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.place_queue import Place, Queue, QueueFiles
from airflow_batch_provider.timing import PLACE_LEASE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow_batch_provider.models import Account
    from airflow_batch_provider.registry import Registry

log = logging.getLogger(__name__)


class PlaceLimits(FrozenModel):
    """The most that all tasks of the deployment together may have at a provider, for one connection and model.

    Attributes:
        batches: None means any number.
        tokens: estimated input tokens of those batches; a larger batch is let in alone. None means any number.
    """

    batches: int | None = None
    tokens: int | None = None

    @classmethod
    def of(cls, account: Account, model: str) -> Self | None:
        """Return the limits that a connection or the configuration sets, None where there is none for this model.

        Raises:
            UsageError: one is not a number above 0, or a mapping of models to such.
        """
        found = cls(
            batches=_limit(account.options, "max_in_flight", model),
            tokens=_limit(account.options, "max_enqueued_tokens", model),
        )
        return None if found == cls() else found

    def admit(self, held: Sequence[Place], one: Place) -> bool:
        """Tell whether a batch may go to the provider beside those that are there."""
        if self.batches is not None and len(held) >= self.batches:
            return False
        return self.tokens is None or not held or sum(place.tokens for place in held) + one.tokens <= self.tokens


def _limit(options: dict[str, Any], name: str, model: str) -> int | None:
    given = options.get(name)
    limit = given.get(model) if isinstance(given, dict) else given
    if limit is None:
        return None
    try:
        number = int(limit)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1 or number != float(limit):
        raise UsageError(
            f"{name} of the connection, or of [batch_provider], is {limit!r}. Give a whole number above 0, or an object of "
            "such numbers by model in the connection's extra."
        )
    return number


class PlaceWait(FrozenModel):
    """What a batch without a place waits for.

    Attributes:
        scope: of connection and model.
        held: batches that have a place.
        tokens: estimated input tokens of those.
        ahead: batches that asked before and wait, too.
    """

    scope: str
    tag: str
    held: int
    tokens: int
    ahead: int
    limits: PlaceLimits

    def __str__(self) -> str:
        """Return it as a sentence."""
        limit = (
            f"max_in_flight={self.limits.batches}"
            if self.limits.batches is not None and self.held >= self.limits.batches
            else f"max_enqueued_tokens={self.limits.tokens}"
        )
        ahead = f", and {self.ahead} asked before" if self.ahead else ""
        batches = "1 batch" if self.held == 1 else f"{self.held} batches"
        return (
            f"Waiting for a place: the deployment has {batches} of this connection and model at the provider "
            f"(about {self.tokens:,} tokens), the most that {limit} allows{ahead}."
        )


@dataclass(frozen=True)
class Places:
    """The places of one connection and model.

    Attributes:
        now: tells all workers the same time: the provider's.
    """

    registry: Registry
    scope: str
    limits: PlaceLimits
    now: Callable[[], datetime]

    @classmethod
    def of(
        cls, registry: Registry, connection: object, account: Account, model: str, now: Callable[[], datetime]
    ) -> Self | None:
        """Return the places of a connection and model, None where no limit is set for them."""
        limits = PlaceLimits.of(account, model)
        return None if limits is None else cls(registry, scope_of(connection, account.provider, model), limits, now)

    @property
    def _queue(self) -> QueueFiles:
        return QueueFiles(self.registry.places(self.scope))

    def ask(self, tag: str, tokens: int, label: str, *, waits: bool = True) -> PlaceWait | None:
        """Take a place, or a place in the queue; None when the batch has one at the provider now.

        Args:
            tokens: estimate of its input.
            label: whose it is.
            waits: False takes a place though none is left; the others wait the longer.
        """
        own = Place(tag=tag, label=label, tokens=tokens, asked_at=self.now())
        self._queue.note_seen(tag, self.now())
        queue = self._queue.change(lambda queue: self._asked(queue, own, waits=waits))
        return None if queue.gives(tag) else self._wait(queue, tag)

    def wait(self, tag: str) -> PlaceWait | None:
        """Tell what a batch still waits for, None when `ask` would let it in; notes that somebody waits."""
        self._queue.note_seen(tag, self.now())
        queue = self._queue.latest()[1]
        is_free = not queue.has(tag) or self._may_enter(queue, tag)[0]
        return None if is_free else self._wait(queue, tag)

    def leave(self, tag: str) -> None:
        """Give a place up, or stop waiting for one."""
        self._queue.change(
            lambda queue: Queue(places=tuple(place for place in queue.places if place.tag != tag)), only_if=tag
        )
        self._queue.forget_seen(tag)

    # the queue

    def _asked(self, queue: Queue, own: Place, *, waits: bool) -> Queue:
        """Return the queue in which a batch has asked, and has a place if there is one for it."""
        if not queue.has(own.tag):
            queue = Queue(places=(*queue.places, own))
        may_enter, over = self._may_enter(queue, own.tag)
        given = {"given_at": self.now()} if may_enter or not waits else {}
        return Queue(
            places=tuple(
                place.model_copy(update=given) if place.tag == own.tag and place.given_at is None else place
                for place in queue.places
                if place.tag not in over
            )
        )

    def _may_enter(self, queue: Queue, tag: str) -> tuple[bool, set[str]]:
        """Tell whether a batch has a place or may take one, and which others do not need theirs any more."""
        over = self._unused(queue, tag)
        held = [place for place in queue.places if place.given_at and place.tag not in over]
        for place in queue.places:
            if place.tag == tag:
                return place.given_at is not None or self.limits.admit(held, place), over
            if place.given_at is not None:
                continue
            if not self.limits.admit(held, place):
                break  # who asked first goes first, also where a smaller batch behind it had room
            if self._is_gone(place):
                over.add(place.tag)
            else:
                held.append(place)  # it is free, and somebody else's who has not come back yet
        return queue.gives(tag), over

    def _unused(self, queue: Queue, tag: str) -> set[str]:
        """Return the tags of the places that were given a lease ago and whose batches the registry does not have."""
        oldest = self.now() - PLACE_LEASE
        old = {place.tag for place in queue.places if place.given_at and place.given_at < oldest and place.tag != tag}
        return old.difference(self.registry.tags()) if old else set()

    def _is_gone(self, place: Place) -> bool:
        """Tell whether nobody asks any more for a batch that might have a place."""
        seen = self._queue.seen_at(place.tag) or place.asked_at
        if self.now() - seen <= PLACE_LEASE:
            return False
        log.warning("%s waited for a place and was not seen since %s: others go first.", place.label, seen)
        return True

    def _wait(self, queue: Queue, tag: str) -> PlaceWait:
        held = [place for place in queue.places if place.given_at]
        before = [place.tag for place in queue.places if place.given_at is None]
        return PlaceWait(
            scope=self.scope,
            tag=tag,
            held=len(held),
            tokens=sum(place.tokens for place in held),
            ahead=before.index(tag) if tag in before else len(before),
            limits=self.limits,
        )


def scope_of(connection: object, provider: str, model: str) -> str:
    """Return 16 hex digits for one connection and model."""
    return hashlib.blake2b(f"{connection}\n{provider}\n{model}".encode(), digest_size=8, person=b"places").hexdigest()
