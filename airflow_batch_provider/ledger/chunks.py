"""Planned rows cut into chunks, the request files of one batch each, within what a provider takes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from airflow_batch_provider.ledger.bad_rows import Problems
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.envelope import Envelope
from airflow_batch_provider.ledger.records import Chunk, PlainRow, PlannedRow, planned_line
from airflow_batch_provider.ledger.uses import keep_uses
from airflow_batch_provider.pricing import Expected, Uses, expected, text_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.bad_rows import SkippedRows
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
        self._measure = _Measure(Envelope(provider.codec, spec), spec)
        self._limits = limits
        self._skipped = skipped
        self._filling = _Filling(0, draft, limits.requests_of(0))

    def write(self, rows: Iterable[PlannedRow], forecast: Forecast | None = None) -> tuple[Chunk, ...]:
        """Write every row and return the chunks.

        Args:
            forecast: takes in every row that is written.

        Raises:
            UsageError: rows that alone are over a limit, unless those are skipped; names them.
        """
        chunks: list[Chunk] = []
        source = self._fitting(rows)
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

    def _fitting(self, rows: Iterable[PlannedRow]) -> Iterator[_Sized]:
        """Return the rows that have room in a chunk of their own."""
        problems = Problems()
        for row in rows:
            sized = self._measure.sized(row)
            problem = self._too_large(row, sized)
            if problem is None and not problems:
                yield sized
            elif problem is not None and self._skipped is not None:
                self._skipped.add(row, problem)
            elif problem is not None:
                problems.add(problem)
        problems.check()

    def _fill(self, file: BinaryIO, uses: Uses, row: _Sized | None, source: Iterator[_Sized]) -> _Sized | None:
        """Put rows into one chunk until it is full; return the first row that found no room."""
        filling, limits = self._filling, self._limits
        while row is not None and filling.takes(row, limits):
            file.write(row.line)
            uses.add(row.expected, row.tokens)
            row = next(source, None)
        return row

    def _too_large(self, row: PlannedRow, sized: _Sized) -> str | None:
        limits = self._limits
        over_tokens = limits.tokens is not None and sized.tokens > limits.tokens
        if sized.size <= limits.bytes and not over_tokens:
            return None
        limit = f"max_enqueued_tokens={limits.tokens}" if over_tokens else f"{limits.bytes} bytes a batch"
        return (
            f"Row {row.index} ({row.custom_id!r}) alone is {sized.size} bytes, about {sized.tokens} tokens: more than "
            f"{limit}. Shorten it or raise the limit."
        )


class _Sized(msgspec.Struct, gc=False):
    """A planned row as its file keeps it.

    Attributes:
        size: bytes of what is sent.
        tokens: estimate of its input.
        expected: what it will use; of a plain row, what the first plain one will.
    """

    line: bytes
    size: int
    tokens: int
    expected: Expected


class _Measure:
    """Tells how large rows are. Plain ones differ in their length only, so one of them is read for all."""

    def __init__(self, envelope: Envelope, spec: Spec) -> None:
        self._envelope = envelope
        self._spec = spec
        self._plain: Expected | None = None
        self._around = 0

    def sized(self, row: PlannedRow) -> _Sized:
        """Return a row as its file keeps it, measured."""
        if self._plain is not None and type(row) is PlainRow:
            size = self._around + memoryview(row.body).nbytes
            return _Sized(planned_line(row), size, text_tokens(size), self._plain)
        sent = self._envelope.longest(row.body)
        use = expected(sent, self._spec)
        if type(row) is PlainRow:
            self._plain, self._around = use, len(sent) - memoryview(row.body).nbytes
        return _Sized(planned_line(row), len(sent), use.usage.input_tokens, use)


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

    def takes(self, row: _Sized, limits: ChunkLimits) -> bool:
        """Count a row, unless the chunk has no room for it."""
        tokens, size = self.tokens + row.tokens, self.bytes + row.size
        over_tokens = limits.tokens is not None and tokens > limits.tokens
        if size > limits.bytes or self.requests >= self.most or over_tokens:
            return False
        self.requests += 1
        self.bytes, self.tokens = size, tokens
        return True

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
