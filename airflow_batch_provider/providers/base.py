"""The contract of every provider: the one seam between the ledger and three wire protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from airflow_batch_provider.exceptions import BatchError, Rejected, UsageError
from airflow_batch_provider.models import Reply, RowError
from airflow_batch_provider.providers.untrusted import checked_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Container
    from datetime import datetime
    from pathlib import Path

    from airflow_batch_provider.models import Account, BatchStatus, Kind, Spec
    from airflow_batch_provider.providers.codec import Codec
    from airflow_batch_provider.providers.listing import ListPage


# What is wrong with one request, and not with the account: a bad field, too long, one that cannot be processed.
_OF_THE_REQUEST = frozenset({400, 413, 422})


@dataclass(frozen=True)
class Limits:
    """The limits of one batch of a provider.

    Attributes:
        requests: most requests in one batch.
        bytes: most bytes of the wire lines of one batch, newlines and envelope included.
        in_flight: most batches at once that this package keeps at the provider per task.
    """

    requests: int
    bytes: int
    in_flight: int

    def of(self, account: Account) -> Limits:
        """Return these limits with the account's `options["max_requests"]` and `options["max_bytes"]`, where given.

        Raises:
            UsageError: one of them is not a whole number above zero.
        """
        chosen = {name: account.options.get(f"max_{name}") for name in ("requests", "bytes")}
        for name, value in chosen.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"The connection's max_{name} is {value!r}. Give a whole number above zero.")
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})


@dataclass(frozen=True)
class Payload:
    r"""One batch, ready to be sent.

    Attributes:
        tag: our own name for it, unique for ever, `[a-z0-9-]`, at most 40 characters.
        label: whose it is, for a person who looks at the provider's console (dag/run/task); at most 512 characters.
        path: local JSONL file of the wire lines, each ended by `\n`.
        requests: number of lines.
        bytes: size of the file.
        resumed: True when an earlier attempt may have sent parts of it (an uploaded file), which are looked for first.
    """

    tag: str
    label: str
    path: Path
    requests: int
    bytes: int
    spec: Spec
    resumed: bool = False


@dataclass(frozen=True)
class Prepared:
    """A payload of which everything is at the provider that has to be there before the batch is created.

    Attributes:
        file: the provider's name of the uploaded file; None where the create carries the lines itself.
    """

    payload: Payload
    file: str | None = None


@dataclass(frozen=True)
class BatchQuery:
    """Everything needed to find out later whether a batch was created under this tag.

    Attributes:
        claimed_at: when, aware, by the provider's clock; its batch was not created before.
        requests: number of requests in the batch.
        key_prefix: what every key of this batch starts with, and no key of any other.
    """

    tag: str
    claimed_at: datetime
    requests: int
    key_prefix: str


@dataclass(frozen=True)
class Candidate:
    """A batch at the provider that may be the claimed one.

    Attributes:
        certain: True when the provider's own record carries our tag or the results carry our keys; False when only
            the time and the number of requests fit (Anthropic while a batch runs).
    """

    batch_id: str
    certain: bool


class BatchProvider(ABC):
    """One account at one provider, over its async SDK.

    Every method that talks raises only `exceptions.BatchError`s: `Denied`, `Rejected`, `Paused`, `Unavailable`,
    `NotFound`. No method retries by itself: waiting is the caller's. Not shared between event loops.
    """

    name: ClassVar[str]
    keeps_tags: ClassVar[bool] = True
    """False where a batch carries no name of ours, so that a lost one is only found by its time and size."""
    kinds: ClassVar[frozenset[Kind]]
    in_realtime: ClassVar[frozenset[Kind]] = frozenset()
    """What `ask` is there for."""
    most: ClassVar[Limits]
    """The limits of the provider; a connection may set lower ones."""
    codec: Codec
    """One for the class, or for the account where its settings choose among several wire formats (OpenAI)."""

    def __init__(self, account: Account) -> None:
        self.account = account

    # pure

    def limits(self, spec: Spec) -> Limits:  # noqa: ARG002
        """Return what one batch may hold, for this kind of request."""
        return self.most.of(self.account)

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` if this provider cannot do what is asked, before anything is paid."""
        self.codec.check_spec(spec)

    def now(self) -> datetime | None:
        """Return the provider's own time by its last reply; None before one told it, or where none ever does."""
        return None

    def listed_id(self, batch_id: str) -> str:
        """Return the id as the provider's lists show it.

        Raises:
            Rejected: it is not an id of a batch, and is not sent anywhere.
        """
        return checked_id(batch_id)

    # network

    @abstractmethod
    async def check(self) -> str:
        """Make one cheap authenticated call that costs nothing; return a sentence that says what was reached."""

    @abstractmethod
    async def prepare(self, payload: Payload) -> Prepared:
        """Upload whatever the batch needs. Costs nothing and may be repeated; a resumed payload's uploads are reused."""

    @abstractmethod
    async def create(self, prepared: Prepared) -> str:
        """Create the batch and return its id: the one call that costs money.

        The SDK's own retries are off, so a lost reply raises `Unavailable` with `ambiguous`.
        """

    async def ask(self, key: str, body: bytes, spec: Spec) -> Reply:
        """Ask one request of a kind of `in_realtime` by a call of its own: it is paid without the discount of a batch.

        What the provider refuses about this one request is a failed row, as in a batch.

        Args:
            key: of the reply.
            body: JSON, as `Codec.encode` makes it.

        Raises:
            Unavailable: no answer; with `ambiguous` it may have been given, and paid.
        """
        try:
            answer = await self._ask(body, spec)
        except Rejected as error:
            if error.http_status not in _OF_THE_REQUEST:
                raise
            told = RowError(code=error.code or "rejected", message=str(error), retryable=False)
            return Reply(key=key, status="failed", error=told)
        return self.codec.decode(self.codec.result_line(key, answer), spec.kind)

    async def _ask(self, body: bytes, spec: Spec) -> bytes:
        """Return the JSON object that answers one request."""
        raise NotImplementedError(f"{self.name} does not take {spec.kind!r} by single calls.")

    @abstractmethod
    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Return the batches at the provider that may be the claimed one; none when none is visible."""

    @abstractmethod
    def tagged(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """Yield every batch with a tag, ours or not, that was created at `since` or later; none where no tags are kept.

        Raises:
            Unresolved: the list is too long to reach back so far.
        """

    @abstractmethod
    async def status(self, batch_id: str) -> BatchStatus:
        """Poll one batch."""

    @abstractmethod
    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus | BatchError]:
        """Poll many, with the list endpoint when that takes fewer calls; ids unknown to the provider are absent.

        A fault that concerns one batch is the answer for that batch.
        """

    async def pages(self, wanted: Container[str]) -> AsyncGenerator[ListPage, None]:  # noqa: ARG002
        """Yield the account's batches a page at a time, newest first where the provider keeps an order.

        A provider without a list yields nothing.

        Args:
            wanted: ids, as the list shows them, of the batches whose records are read.
        """
        return
        yield

    @abstractmethod
    def results(self, batch_id: str, kind: Kind) -> AsyncIterator[Reply]:
        """Yield every result line of an ended batch, decoded, in the provider's order; memory does not grow with them.

        Lines that cannot be read are ignored, with one warning (their rows then count as missing). A batch that ended
        without results yields nothing.
        """

    @abstractmethod
    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; a batch that has ended or is stopping is not an error."""

    @abstractmethod
    async def clean_up(self, batch_id: str) -> None:
        """Delete the files and records which the provider keeps of an ended batch; files that are gone are not an error."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""
