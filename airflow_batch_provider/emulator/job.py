"""One batch, of any provider: its requests, its phase, the faults that are ordered for it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from airflow_batch_provider.emulator.answers import Ask, Refusal
    from airflow_batch_provider.emulator.jsonl import Json, Slice
    from airflow_batch_provider.emulator.outcomes import Directive, Outcome
    from airflow_batch_provider.emulator.pace import Phase

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(slots=True)
class Row:
    """One request of a job; its text stays on disk."""

    index: int
    key: str
    place: Slice
    digest: bytes
    tokens: int
    directives: tuple[Directive, ...] = ()
    refusal: Refusal | None = None
    """Why the service refuses the request, if so."""
    outcome: Outcome | None = None


@dataclass(slots=True)
class Hidden:
    """A thing that cannot be seen yet: for so many polls, or until a moment."""

    polls: int = 0
    until: float | None = None

    def covers(self, now: float) -> bool:
        """Return whether it is still hidden; asking is a poll."""
        if self.until is not None:
            return now < self.until
        self.polls -= 1
        return self.polls >= 0


@dataclass(slots=True)
class JobFaults:
    """The faults that are ordered for one job."""

    stuck: bool = False
    expire: float | None = None
    """The share of rows that run before the job expires."""
    fail: tuple[str, str] | None = None
    """Code and message the whole job fails with."""
    row_error: str | None = None
    """The error every row fails with."""
    hidden: Hidden | None = None
    unlisted: Hidden | None = None


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in a job's life, in both ways to count."""

    moment: float
    polls: int


class Codec(Protocol):
    """The requests and results of one endpoint of one provider."""

    def check(self, request: Json) -> None:
        """Raise `Unacceptable` for what the real service refuses; do nothing when the settings are lenient."""
        ...

    def ask(self, request: Json) -> Ask:
        """Return what a request asks; raise `Unacceptable`."""
        ...

    def write_results(self, job: Job) -> None:
        """Write the result files of a job that has ended."""
        ...


@dataclass
class Job:
    """One batch, of any provider."""

    id: str
    provider: str
    codec: Codec
    path: Path
    """Its requests, a JSON document a line."""
    created: float
    window: float
    model: str = ""
    label: str = ""
    metadata: Json = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    extra: Json = field(default_factory=dict)
    """Values that only the provider's own code reads."""
    phase: Phase = "pending"
    stamps: dict[str, float] = field(default_factory=dict)
    polls: int = 0
    executed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    faults: JobFaults = field(default_factory=JobFaults)
    cancelled: Instant | None = None
    written: bool = False
    single: bool = False
    """Whether it is a call for one answer, outside any batch, which costs twice as much."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.phase in ENDED

    @property
    def tokens(self) -> int:
        """The tokens of all its questions."""
        return sum(row.tokens for row in self.rows)

    def results(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Outcome, Json]]:
        """Yield those of its rows that have a result line, each with its outcome and its request."""
        with self.path.open("rb") as source:
            for row in rows:
                if row.outcome is not None and row.outcome.kind != "missing":
                    yield row, row.outcome, row.place.load(source)

    def enter(self, phase: Phase, moment: float) -> None:
        """Change the phase and remember when."""
        self.phase = phase
        self.stamps[phase] = moment
