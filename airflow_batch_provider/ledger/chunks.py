"""Planned rows cut into chunks, the request files of one batch each, within what a provider takes at once."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from airflow_batch_provider.ledger.bad_rows import Problems
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.envelope import Envelope
from airflow_batch_provider.ledger.measured import Measure
from airflow_batch_provider.ledger.records import Chunk
from airflow_batch_provider.ledger.uses import keep_uses
from airflow_batch_provider.pricing import Uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.bad_rows import SkippedRows
    from airflow_batch_provider.ledger.measured import MeasuredRows
    from airflow_batch_provider.ledger.records import PlannedRow
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.pricing import Forecast
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True)
class ChunkLimits:
    """The most that one request file may hold.

    Attributes:
        tokens: estimated input tokens; None means any number.
        first: requests of the first file; 0 takes `requests`.
        first_realtime: the first file is asked in realtime if there is a second one.
    """

    requests: int
    bytes: int
    tokens: int | None = None
    first: int = 0
    first_realtime: bool = False

    def requests_of(self, number: int) -> int:
        """Return the most requests of the file of this number, from 0."""
        return self.requests if number or not self.first else min(self.first, self.requests)


class ChunkWriter:
    """Writes planned rows to the request files of one wave, opening a new one when a limit is reached.

    Args:
        directory: the wave's.
        draft: tells the files from those that another worker may write at the same time.
        skipped: takes the rows that alone are over a limit; None refuses them.
    """

    def __init__(
        self,
        directory: Directory,
        provider: BatchProvider,
        spec: Spec,
        limits: ChunkLimits,
        draft: str,
        skipped: SkippedRows | None = None,
    ) -> None:
        self._directory = directory
        self._measure = Measure(Envelope(provider.codec, spec), spec)
        self._limits = limits
        self._skipped = skipped
        self._filling = _Filling(0, draft, limits.requests_of(0))

    def write(self, blocks: Iterable[list[PlannedRow]], forecast: Forecast | None = None) -> tuple[Chunk, ...]:
        """Write every row and return the chunks.

        Args:
            blocks: of rows; they may be empty.
            forecast: takes in every row that is written.

        Raises:
            UsageError: rows that alone are over a limit, unless those are skipped; names them.
        """
        chunks: list[Chunk] = []
        source = self._fitting(blocks)
        waiting = next(source, None)
        while waiting is not None:
            files, uses = BatchFiles.of(self._directory, self._filling.done()), Uses()
            with self._directory.writer(files.requests_name) as file:
                waiting = self._fill(file, uses, waiting, source)
            keep_uses(files, uses)
            chunk = self._filling.done(realtime=self._limits.first_realtime and not chunks and waiting is not None)
            if forecast:
                uses.add_to(forecast, realtime=chunk.realtime)
            chunks.append(chunk)
            number = self._filling.number + 1
            self._filling = _Filling(number, self._filling.draft, self._limits.requests_of(number))
        return tuple(chunks)

    def _fitting(self, blocks: Iterable[list[PlannedRow]]) -> Iterator[MeasuredRows]:
        """Return the rows that have room in a chunk of their own."""
        problems = Problems()
        for rows in blocks:
            if not rows:
                continue
            measured = self._measure.of(rows)
            if measured.are_within(self._limits.bytes, self._limits.tokens):
                if not problems:
                    yield measured
                continue
            for place in range(len(rows)):
                one = measured.part(place, place + 1)
                if self._fits(one, problems) and not problems:
                    yield one
        problems.check()

    def _fits(self, one: MeasuredRows, problems: Problems) -> bool:
        """Tell whether a row has room; skip it, or note why not, where it has none."""
        problem = self._too_large(one)
        if problem is not None and self._skipped is not None:
            self._skipped.add(one.rows[0], problem)
        elif problem is not None:
            problems.add(problem)
        return problem is None

    def _fill(
        self, file: BinaryIO, uses: Uses, rows: MeasuredRows | None, source: Iterator[MeasuredRows]
    ) -> MeasuredRows | None:
        """Put rows into one chunk until it is full; return those that found no room."""
        while rows is not None:
            taken = self._filling.take(rows, self._limits)
            if taken:
                within = rows.part(0, taken)
                file.write(within.lines())
                within.count(uses)
            if taken < len(rows.rows):
                return rows.part(taken, len(rows.rows))
            rows = next(source, None)
        return rows

    def _too_large(self, one: MeasuredRows) -> str | None:
        (row,), (size,), (tokens,), limits = one.rows, one.sizes, one.tokens, self._limits
        over_tokens = limits.tokens is not None and tokens > limits.tokens
        if size <= limits.bytes and not over_tokens:
            return None
        limit = f"max_enqueued_tokens={limits.tokens}" if over_tokens else f"{limits.bytes} bytes a batch"
        return (
            f"Row {row.index} ({row.custom_id!r}) alone is {size} bytes, about {tokens} tokens: more than "
            f"{limit}. Shorten it or raise the limit."
        )


@dataclass
class _Filling:
    """The chunk that rows go into now.

    Attributes:
        most: requests that it may have.
    """

    number: int
    draft: str
    most: int
    requests: int = 0
    bytes: int = 0
    tokens: int = 0

    def take(self, rows: MeasuredRows, limits: ChunkLimits) -> int:
        """Count the first rows, as many as the chunk has room for; return how many."""
        sizes = list(accumulate(rows.sizes, initial=self.bytes))
        tokens = list(accumulate(rows.tokens, initial=self.tokens))
        taken = min(len(rows.rows), self.most - self.requests, bisect(sizes, limits.bytes) - 1)
        if limits.tokens is not None:
            taken = min(taken, bisect(tokens, limits.tokens) - 1)
        self.requests += taken
        self.bytes, self.tokens = sizes[taken], tokens[taken]
        return taken

    def done(self, *, realtime: bool = False) -> Chunk:
        """Return the chunk as the wave records it."""
        return Chunk(
            number=self.number,
            requests=self.requests,
            bytes=self.bytes,
            tokens=self.tokens,
            draft=self.draft,
            realtime=realtime,
        )
