"""What keeps the next chunk of a wave from being bought now: no place, a canary, or the most that the task may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.canary import canary_of
from airflow_batch_provider.ledger.limit import CostLimit, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_batch_provider.exceptions import OverBudget
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.canary import Canary
    from airflow_batch_provider.ledger.current_wave import CurrentWave
    from airflow_batch_provider.ledger.records import Chunk
    from airflow_batch_provider.places import PlaceWait


@dataclass
class Gate:
    """Admits the queued chunks of a wave, one after the other.

    One that was admitted has its place and its share of the money from then on, also while it is only on its way.

    Attributes:
        at_provider: chunks that are there, and those that were admitted.
        withheld: what is not bought because of the cost, once a chunk was refused for it.
        canary: the one that failed, once a chunk was refused for it.
        place: what a chunk waits for, once it was refused because other tasks have all places.
    """

    wave: CurrentWave
    at_provider: list[Chunk]
    withheld: Withheld | None = field(default=None, init=False)
    canary: Canary | None = field(default=None, init=False)
    place: PlaceWait | None = field(default=None, init=False)

    def admitted(self, queued: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
        """Return the chunks that may be bought, each with those behind it and when it is asked for, until one may not."""
        for number, chunk in enumerate(queued):
            if self.withheld is not None or not self._admits(queued[number:]):
                return
            self.at_provider.append(chunk)
            yield queued[number:]

    def _admits(self, queued: Sequence[Chunk]) -> bool:
        """Tell whether the first of these chunks may be bought now."""
        first = queued[0]
        is_due = self._has_place(first) and self._canary_lives(first) and self._is_within_cost(queued)
        return is_due and self._is_let_in(first)

    def refuse(self, queued: Sequence[Chunk], why: OverBudget) -> None:
        """Note that a budget of the deployment has no room for the first of these chunks."""
        self.withheld = Withheld(rows=sum(chunk.requests for chunk in queued), why=str(why))

    def has_landed(self, chunk: Chunk) -> None:
        """Count an admitted chunk by its rows from now on: they are here already."""
        self.at_provider.remove(chunk)
        self.__dict__.pop("_limit", None)

    def _has_place(self, chunk: Chunk) -> bool:
        policy, provider = self.wave.context.policy, self.wave.context.provider
        tokens = sum(one.tokens for one in self.at_provider) + chunk.tokens
        if policy.enqueued_tokens is not None and self.at_provider and tokens > policy.enqueued_tokens:
            return False
        return len(self.at_provider) < (policy.in_flight or provider.limits(self.wave.context.spec).in_flight)

    def _canary_lives(self, chunk: Chunk) -> bool:
        if not self.wave.last.canary or chunk.number == 0:
            return True
        canary = canary_of(self.wave.context.files, self.wave.last)
        if canary is None:
            return False
        self.canary = canary if canary.failed else None
        return not canary.failed

    def _is_within_cost(self, queued: Sequence[Chunk]) -> bool:
        limit, wave = self._limit, self.wave.last
        if limit is None:
            return True
        if self._is_claimed(queued[0]):
            limit.commit(wave, queued[:1])
            return True
        if limit.withhold(wave, queued[:1]) is None:
            return True
        self.withheld = limit.withhold(wave, queued)
        return False

    def _is_let_in(self, chunk: Chunk) -> bool:
        """Tell whether the deployment has a place for the chunk, or had one when it was claimed."""
        places = self.wave.places
        if places is None:
            return True
        files, tag = self._under_tag(chunk)
        if files.claim_under(tag) is None:
            waits = self.wave.context.policy.waits_for_place
            self.place = places.ask(tag, chunk.tokens, self.wave.context.label, waits=waits)
        return self.place is None

    def _is_claimed(self, chunk: Chunk) -> bool:
        """Tell whether the chunk may have been bought already, so that its batch must be looked for."""
        files, tag = self._under_tag(chunk)
        return files.claim_under(tag) is not None

    def _under_tag(self, chunk: Chunk) -> tuple[BatchFiles, str]:
        """Return the files of a chunk's batch, and the tag under which it is bought next."""
        files = self.wave.files_of(chunk)
        return files, self.wave.plan.tag(self.wave.number, chunk.number, files.failures(files.names()))

    @cached_property
    def _limit(self) -> CostLimit | None:
        limit = CostLimit.of(self.wave.context, self.wave.plan, self.wave.waves)
        if limit is not None:
            limit.commit(self.wave.last, self.at_provider)
        return limit
