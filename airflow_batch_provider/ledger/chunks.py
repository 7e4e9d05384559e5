"""Planned rows cut into chunks, the request files of one batch each, within what a provider takes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from airflow_batch_provider.ledger.bad_rows import Problems
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import Chunk, PlannedRow
from airflow_batch_provider.pricing import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.ledger.bad_rows import SkippedRows
    from airflow_batch_provider.ledger.requests import Fingerprint
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True)
class ChunkLimits:
    """The most that one request file may hold.

    Attributes:
        tokens: estimated input tokens; None means any number.
        first: requests of the first file; 0 takes `requests`.
    """

    requests: int
    bytes: int
    tokens: int | None = None
    first: int = 0

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
        self._provider = provider
        self._spec = spec
        self._limits = limits
        self._skipped = skipped
        self._filling = _Filling(0, draft)

    def write(self, rows: Iterable[PlannedRow], fingerprint: Fingerprint | None = None) -> tuple[Chunk, ...]:
        """Write every row and return the chunks.

        Raises:
            UsageError: rows that alone are over a limit, unless those are skipped; names them.
        """
        chunks: list[Chunk] = []
        source = self._fitting(rows, fingerprint)
        waiting = next(source, None)
        while waiting is not None:
            files = BatchFiles.of(self._directory, self._filling.done())
            with self._directory.writer(files.requests_name) as file:
                waiting = self._fill(file, waiting, source)
            chunks.append(self._filling.done())
            self._filling = _Filling(self._filling.number + 1, self._filling.draft)
        return tuple(chunks)

    def _fitting(self, rows: Iterable[PlannedRow], fingerprint: Fingerprint | None) -> Iterator[_Sized]:
        """Return the rows that have room in a chunk of their own."""
        problems = Problems()
        for row in rows:
            sent = wire_line(self._provider, row, self._spec)
            sized = _Sized(msgspec.json.encode(row), len(sent), estimate_tokens(sent, self._spec.model))
            if fingerprint:
                fingerprint.add(sized.line)
            problem = self._too_large(row, sized)
            if problem is None and not problems:
                yield sized
            elif problem is not None and self._skipped is not None:
                self._skipped.add(row, problem)
            elif problem is not None:
                problems.add(problem)
        problems.check()

    def _fill(self, file: BinaryIO, row: _Sized | None, source: Iterator[_Sized]) -> _Sized | None:
        """Put rows into one chunk until it is full; return the first row that found no room."""
        while row is not None:
            if not self._has_room(row):
                return row
            file.write(row.line + b"\n")
            self._filling.add(row.size, row.tokens)
            row = next(source, None)
        return None

    def _has_room(self, row: _Sized) -> bool:
        filled, limits = self._filling, self._limits
        over_tokens = limits.tokens is not None and filled.tokens + row.tokens > limits.tokens
        return (
            filled.bytes + row.size <= limits.bytes
            and filled.requests < limits.requests_of(filled.number)
            and not over_tokens
        )

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


@dataclass(frozen=True)
class _Sized:
    """A planned row as its file keeps it, with the size and the estimated tokens of what is sent."""

    line: bytes
    size: int
    tokens: int


# As long as any key of a plan: nonce, wave, chunk, index.
_LONGEST_KEY = "0" * 12 + "-000-00000-0000000000"


def wire_line(provider: BatchProvider, row: PlannedRow, spec: Spec) -> bytes:
    """Return the line that a row is sent as, newline included, under a key as long as any."""
    return provider.codec.line(_LONGEST_KEY, bytes(row.body), spec) + b"\n"


@dataclass
class _Filling:
    """The chunk that rows go into now."""

    number: int
    draft: str
    requests: int = 0
    bytes: int = 0
    tokens: int = 0

    def add(self, size: int, tokens: int) -> None:
        """Count one wire line."""
        self.requests += 1
        self.bytes += size
        self.tokens += tokens

    def done(self) -> Chunk:
        """Return the chunk as the wave records it."""
        return Chunk(number=self.number, requests=self.requests, bytes=self.bytes, tokens=self.tokens, draft=self.draft)
