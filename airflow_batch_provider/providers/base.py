"""What every provider can do: the one seam between the ledger and three wire protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
    from datetime import datetime
    from pathlib import Path

    from airflow_batch_provider.models import Account, BatchRequest, BatchStatus, Kind, Reply, Spec


@dataclass(frozen=True)
class Limits:
    """What one batch of a provider may hold.

    Attributes:
        requests: most requests in one batch.
        bytes: most bytes of the wire lines of one batch, newlines and envelope included.
        in_flight: most batches at once that this package keeps at the provider per task.
    """

    requests: int
    bytes: int
    in_flight: int


@dataclass(frozen=True)
class Payload:
    r"""One batch, ready to be sent.

    Attributes:
        tag: our own name for it, unique for ever, `[a-z0-9-]`, at most 40 characters.
        label: whose it is, for a person who looks at the provider's console (dag/run/task); at most 512 characters.
        path: local JSONL file of the wire lines, each ended by `\n`.
        requests: number of lines.
        bytes: size of the file.
        first_key: key of the first line.
        resumed: True when an earlier attempt may have sent parts of it (an uploaded file), which are looked for first.
        fence: called right before the call that buys; raises when another worker has taken the batch over.
    """

    tag: str
    label: str
    path: Path
    requests: int
    bytes: int
    first_key: str
    spec: Spec
    resumed: bool = False
    fence: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class BatchQuery:
    """What is needed to find out later whether a batch was created under this tag.

    Attributes:
        claimed_at: when, aware.
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

    def __init__(self, account: Account) -> None:
        self.account = account

    # pure

    @abstractmethod
    def limits(self, spec: Spec) -> Limits:
        """What one batch may hold, for this kind of request."""

    @abstractmethod
    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` when this provider cannot do what is asked (e.g. embeddings), before anything is paid."""

    @abstractmethod
    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """The provider's request body for one row, as it would be sent without a batch.

        Raises:
            UsageError: the provider takes no such row or schema.
        """

    @abstractmethod
    def line(self, key: str, body: bytes, spec: Spec) -> bytes:
        """One wire line, without newline: the JSON `body` in the provider's batch envelope under `key`."""

    @abstractmethod
    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """The body that shows the model its own `answer` and the `problem` with it, and asks again."""

    @abstractmethod
    def lengthen(self, body: dict[str, Any], factor: int) -> dict[str, Any]:
        """The body with `factor` times the room for an answer (in tokens), for one that was cut off."""

    @abstractmethod
    def decode(self, line: bytes, kind: Kind) -> Reply:
        """What one result line says.

        Raises:
            Rejected: the line is not one that this provider documents.
        """

    def listed_id(self, batch_id: str) -> str:
        """Return the id as the provider's lists show it.

        Raises:
            Rejected: it is not an id of a batch, and is not sent anywhere.
        """
        return batch_id

    # network

    @abstractmethod
    async def check(self) -> str:
        """One cheap authenticated call that costs nothing; a sentence that says what was reached."""

    @abstractmethod
    async def submit(self, payload: Payload) -> str:
        """Create the batch and return its id; the SDK's own retries are off, so a lost reply means `Unavailable` with `ambiguous`."""

    @abstractmethod
    async def find(self, claim: BatchQuery) -> list[Candidate]:
        """Batches at the provider that may be the claimed one; empty when none is visible."""

    @abstractmethod
    def tagged(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """Every batch with a tag, ours or not, that was created at `since` or later; none where no tags are kept.

        Raises:
            Unresolved: the list is too long to reach back so far.
        """

    @abstractmethod
    async def status(self, batch_id: str) -> BatchStatus:
        """A look at one batch."""

    @abstractmethod
    async def statuses(self, batch_ids: Collection[str]) -> dict[str, BatchStatus]:
        """A look at many, with the list endpoint when that takes fewer calls; ids unknown to the provider are absent."""

    async def pages(self) -> AsyncGenerator[list[BatchStatus], None]:
        """Yield the account's batches a page at a time, newest first where the provider keeps an order.

        A record that cannot be read is left out; a look at that batch alone tells why. A provider without a list
        yields nothing.
        """
        nothing: tuple[list[BatchStatus], ...] = ()
        for page in nothing:
            yield page

    @abstractmethod
    def results(self, batch_id: str, kind: Kind) -> AsyncIterator[Reply]:
        """Every result line of an ended batch, decoded, in the provider's order; memory does not grow with their number.

        A line that cannot be read is passed over with a warning (the row then counts as missing). A batch that ended
        without results yields nothing.
        """

    @abstractmethod
    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; a batch that is over or stopping already is no error."""

    @abstractmethod
    async def clean_up(self, batch_id: str) -> None:
        """Delete the files and records which the provider keeps of an ended batch; what is gone already is no error."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""
