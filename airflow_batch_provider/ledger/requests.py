"""From the user's rows to request files, cut to the provider's limits; nothing is paid here."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from pydantic import ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.records import Chunk, PlannedRow, encoded
from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.schemas import answer_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.storage import Directory

# English text has about four bytes per token with the tokenizers of all three providers; an estimate, never a bill.
BYTES_PER_TOKEN = 4
_LOOKED_UP_AT_ONCE = 5000


@dataclass(frozen=True)
class ChunkLimits:
    """The most that one request file may hold; `tokens` are estimated input tokens, None means any number."""

    requests: int
    bytes: int
    tokens: int | None = None


def plan_rows(requests: Iterable[Any], provider: BatchProvider, spec: Spec) -> Iterator[PlannedRow]:
    """Check, number and encode every request, in the order given; memory does not grow with their number.

    Raises:
        UsageError: no rows at all, a row that is not a prompt, a `custom_id` that is illegal or used twice, or a row that
            the provider cannot take; names the row.
    """
    count = 0
    with _seen_ids() as seen:
        for index, given in enumerate(requests):
            request = _as_request(index, given)
            custom_id = request.custom_id or f"request-{index}"
            seen.add(index, custom_id)
            body, schema = _encoded(index, request, provider, spec)
            yield PlannedRow(index=index, custom_id=custom_id, body=body, schema=schema)
            count += 1
        seen.flush()
    if not count:
        raise UsageError("Cannot submit empty batch: the list of requests has no rows.")


def _as_request(index: int, given: Any) -> BatchRequest:
    if isinstance(given, BatchRequest):
        return given
    try:
        if isinstance(given, str):
            return BatchRequest(prompt=given)
        if isinstance(given, dict):
            return BatchRequest.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'row'}: {problem['msg']}" for problem in error.errors()[:3]
        )
        known = ", ".join(BatchRequest.model_fields)
        raise UsageError(f"Row {index} is not a request: {problems}. A row is a str or a dict of {known}.") from None
    raise UsageError(f"Row {index} is not a prompt but {type(given).__name__}. Give a str, a dict or a BatchRequest.")


def _encoded(index: int, request: BatchRequest, provider: BatchProvider, spec: Spec) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Return the row's body, and its own schema if it has one."""
    schema = encoded(request.output_type)
    try:
        body = msgspec.Raw(msgspec.json.encode(provider.codec.encode(request, spec)))
        if schema:
            answer_schema(bytes(schema))
    except UsageError as error:
        raise UsageError(f"Row {index}: {error}") from error
    return body, schema


class _SeenIds:
    """Finds a key used twice with a table on disk, so that a million keys take no memory."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._waiting: list[tuple[bytes, int, str]] = []
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")

    def add(self, index: int, custom_id: str) -> None:
        self._waiting.append((hashlib.blake2b(custom_id.encode(), digest_size=16).digest(), index, custom_id))
        if len(self._waiting) >= _LOOKED_UP_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", [entry[:2] for entry in waiting])
        if self._database.total_changes - before == len(waiting):
            return
        for digest, index, custom_id in waiting:
            (first,) = self._database.execute("SELECT row FROM seen WHERE digest = ?", (digest,)).fetchone()
            if first != index:
                raise UsageError(
                    f"custom_id {custom_id!r} is used by row {first} and by row {index}. Give each row a key of its own."
                )


@contextmanager
def _seen_ids() -> Iterator[_SeenIds]:
    with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
        database = sqlite3.connect(Path(scratch, "seen.sqlite"), isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("BEGIN")
            yield _SeenIds(database)
        finally:
            database.close()


class Fingerprint:
    """Tells whether two plans ask the same rows in the same way."""

    def __init__(self, provider: str, spec: Spec) -> None:
        self._hash = hashlib.blake2b(f"{provider}\n{spec.model_dump_json()}".encode(), digest_size=16)
        self.requests = 0

    def add(self, line: bytes) -> None:
        """Take in one planned row."""
        self._hash.update(line + b"\n")
        self.requests += 1

    def __str__(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()


class ChunkWriter:
    """Writes planned rows to the request files of one wave, opening a new one when a limit is reached.

    Args:
        directory: the wave's.
        draft: tells the files from those that another worker may write at the same time.
    """

    def __init__(
        self, directory: Directory, provider: BatchProvider, spec: Spec, limits: ChunkLimits, draft: str
    ) -> None:
        self._directory = directory
        self._provider = provider
        self._spec = spec
        self._limits = limits
        self._filling = _Filling(0, draft)

    def write(self, rows: Iterable[PlannedRow], fingerprint: Fingerprint | None = None) -> tuple[Chunk, ...]:
        """Write every row and return the chunks.

        Raises:
            UsageError: one row alone is over a limit; names it.
        """
        chunks: list[Chunk] = []
        source = iter(rows)
        waiting = next(source, None)
        while waiting is not None:
            files = BatchFiles.of(self._directory, self._filling.done())
            with self._directory.writer(files.requests_name) as file:
                waiting = self._fill(file, waiting, source, fingerprint)
            chunks.append(self._filling.done())
            self._filling = _Filling(self._filling.number + 1, self._filling.draft)
        return tuple(chunks)

    def _fill(
        self, file: BinaryIO, row: PlannedRow | None, source: Iterator[PlannedRow], fingerprint: Fingerprint | None
    ) -> PlannedRow | None:
        """Put rows into one chunk until it is full; return the first row that found no room."""
        while row is not None:
            size = len(self._provider.codec.line(_LONGEST_KEY, bytes(row.body), self._spec)) + 1
            if not self._has_room(size, row):
                return row
            line = msgspec.json.encode(row)
            file.write(line + b"\n")
            if fingerprint:
                fingerprint.add(line)
            self._filling.add(size)
            row = next(source, None)
        return None

    def _has_room(self, size: int, row: PlannedRow) -> bool:
        filled, limits = self._filling, self._limits
        over_tokens = limits.tokens is not None and filled.tokens + _tokens(size) > limits.tokens
        if filled.bytes + size <= limits.bytes and filled.requests < limits.requests and not over_tokens:
            return True
        if filled.requests:
            return False
        limit = f"max_enqueued_tokens={limits.tokens}" if over_tokens else f"{limits.bytes} bytes a batch"
        raise UsageError(
            f"Row {row.index} ({row.custom_id!r}) alone is {size} bytes, about {_tokens(size)} tokens: more than "
            f"{limit}. Shorten it or raise the limit."
        )


# As long as any key of a plan: nonce, wave, chunk, index.
_LONGEST_KEY = "0" * 12 + "-000-00000-0000000000"


@dataclass
class _Filling:
    """The chunk that rows go into now."""

    number: int
    draft: str
    requests: int = 0
    bytes: int = 0
    tokens: int = 0

    def add(self, size: int) -> None:
        """Count one wire line."""
        self.requests += 1
        self.bytes += size
        self.tokens += _tokens(size)

    def done(self) -> Chunk:
        """Return the chunk as the wave records it."""
        return Chunk(number=self.number, requests=self.requests, bytes=self.bytes, tokens=self.tokens, draft=self.draft)


def _tokens(size: int) -> int:
    return max(1, size // BYTES_PER_TOKEN)
