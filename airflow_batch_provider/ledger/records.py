"""The records of one task instance as values; `files.py` says where each is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import AwareDatetime

from airflow_batch_provider import __version__
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import LAYOUT
from airflow_batch_provider.models import Spec
from airflow_batch_provider.registry import earliest

if TYPE_CHECKING:
    from datetime import datetime


class Chunk(FrozenModel):
    """The requests that become one batch.

    Attributes:
        bytes: size of the wire lines.
        tokens: estimate of the input.
        draft: tells its files from those that another worker writes at the same time, or under other requests.
        realtime: its rows are asked by single calls, without the discount of a batch, unless these come to nothing.
    """

    number: int
    requests: int
    bytes: int
    tokens: int
    draft: str
    realtime: bool = False


class Wave(FrozenModel):
    """The requests that are asked together: wave 0 asks all, a later one those that still have no good answer.

    Attributes:
        nonce: 12 hex digits that begin every tag of its plan.
        attempt: try of the task that opened it, from 1.
        canary: rows of the first chunk, whose answers decide whether the other chunks are bought; 0 buys all at once.
    """

    nonce: str
    number: int
    attempt: int
    opened_at: AwareDatetime
    chunks: tuple[Chunk, ...]
    canary: int = 0

    @property
    def requests(self) -> int:
        """Return the number of rows asked in this wave."""
        return sum(chunk.requests for chunk in self.chunks)

    @property
    def tokens(self) -> int:
        """Return the estimate of its input."""
        return sum(chunk.tokens for chunk in self.chunks)

    def owns(self, tag: str) -> bool:
        """Tell whether a tag is of this plan; a zombie may leave one of other requests in the same files."""
        return tag.startswith(f"{self.nonce}-")


class Plan(FrozenModel):
    """All requests of a task, and how they are asked.

    Attributes:
        layout: version of the file layout; it holds for all files of the task.
        package: version of this package that wrote it.
        fingerprint: of the spec and of every row; another one means other requests.
        requests: number of rows, also of those that are skipped, and of copies.
        copies: number of rows that ask the same as an earlier one, whose answer they get.
        cached: number of rows whose answers an earlier task has bought.
        first: wave 0, which is committed with the plan.
    """

    layout: Literal[1] = LAYOUT
    package: str = __version__
    fingerprint: str
    provider: str
    spec: Spec
    requests: int
    copies: int = 0
    cached: int = 0
    created_at: AwareDatetime
    first: Wave

    @property
    def originals(self) -> int:
        """Return the number of rows that get no answer of another row or task."""
        return self.requests - self.copies - self.cached

    @property
    def skipped(self) -> int:
        """Return the number of rows that cannot be asked, and are not."""
        return self.originals - self.first.requests

    @property
    def nonce(self) -> str:
        """Return the beginning of every tag of this plan."""
        return self.first.nonce

    def tag(self, wave: int, chunk: int, failed: int) -> str:
        """Return our name for one batch at the provider, unique for ever; at most 40 characters of `[a-z0-9-]`.

        Args:
            failed: number of batches of this chunk that failed as a whole before.
        """
        return f"{self.nonce}-{wave}-{chunk:05d}" + (f"-{failed}" if failed else "")

    def tags(self, wave: int, chunk: int, failed: int) -> list[str]:
        """Return the tags of all batches of a chunk. The first `failed` of them failed as a whole; the last one counts."""
        return [self.tag(wave, chunk, number) for number in range(failed + 1)]


class Claim(FrozenModel):
    """About to submit under this tag.

    Attributes:
        number: of the claim among those on the same batch, from 0.
        claimed_at: by the clock of the worker, which may be wrong.
        as_of: the same moment by the provider's clock; None where the provider did not tell its time.
        owner: the worker that may submit; another one takes the claim over with a claim in its own name.
        queued_for_lock: True until the worker has the submit lock of the account, so nothing was sent yet.
        withdrawn: True when nothing was bought, so that this is not a claim any more.
        realtime: True where the rows are asked by single calls, so that no batch of this claim can be at the provider.
    """

    number: int = 0
    tag: str
    requests: int
    claimed_at: AwareDatetime
    as_of: AwareDatetime | None = None
    attempt: int
    owner: str
    queued_for_lock: bool = False
    withdrawn: bool = False
    realtime: bool = False

    @property
    def earliest(self) -> datetime:
        """Return the time, by the provider's clock, before which its batch cannot have been created."""
        return earliest(self.claimed_at, self.as_of)


class Receipt(FrozenModel):
    """The provider has the batch.

    Attributes:
        submitted_at: when, by the clock of the worker; for people.
        as_of: when, by the provider's own clock; None where it does not tell its time.
        tentative: True when the batch was found by time and size only; the keys of its results must confirm it.
        traceparent: W3C trace context in which it was bought; None where nothing is traced.
        reserved_at: when budgets let it in, by the clock of the worker; None where none is set.
    """

    batch_id: str
    tag: str
    requests: int
    submitted_at: AwareDatetime
    as_of: AwareDatetime | None = None
    tentative: bool = False
    traceparent: str | None = None
    reserved_at: AwareDatetime | None = None

    @property
    def counted_at(self) -> datetime:
        """Return the moment in whose month the batch counts: a month has room only for what its own budget let in."""
        return self.reserved_at or self.submitted_at

    @property
    def bought_at(self) -> datetime:
        """Return the time from which a batch that is not shown is late; compare it with the provider's time."""
        return self.as_of or self.submitted_at


class FailedBatch(FrozenModel):
    """A batch that failed as a whole for a passing reason before any of it ran, so its chunk is submitted again.

    Attributes:
        again_at: when.
    """

    batch_id: str
    reason: str
    again_at: AwareDatetime


class ClockRecord(FrozenModel):
    """The deadline counts from here."""

    started_at: AwareDatetime


class CopiedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row that asks the same as an earlier one and gets its answer.

    Attributes:
        original: index of that row.
    """

    index: int
    custom_id: str
    original: int


# msgspec does not read `Raw | None` (0.20), so a row without a schema of its own holds empty bytes, which are not written.
NO_SCHEMA = msgspec.Raw()
NO_BODY = msgspec.Raw(b"null")


def encoded(schema: dict[str, Any] | None) -> msgspec.Raw:
    """Return a schema as the files keep it."""
    return msgspec.Raw(msgspec.json.encode(schema)) if schema else NO_SCHEMA


class PlannedRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One line of a request file: the row's index, the user's key and the provider's request body.

    The body comes last, so that it is found in the line without reading the line.

    Attributes:
        schema: the row's own JSON schema; empty takes the plan's.
        first_asked: `asked_digest` of the row as the first wave asked it, in hex; empty where this is how.
        problem: why the row cannot be asked, empty when it can; then it has no body.
    """

    index: int
    custom_id: str
    schema: msgspec.Raw = NO_SCHEMA
    first_asked: str = ""
    problem: str = ""
    body: msgspec.Raw


class PlainRow(PlannedRow, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A planned row whose body differs from that of other plain rows of its plan in the prompt only; kept like any other."""


_JSON = msgspec.json.Encoder()


def planned_lines(rows: list[PlannedRow]) -> bytes:
    """Return planned rows as their file keeps them, each with its newline."""
    return _JSON.encode_lines(rows)
