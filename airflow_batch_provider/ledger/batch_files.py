"""The files of one batch; the names of all of them are spelled here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from airflow_batch_provider.exceptions import Overtaken
from airflow_batch_provider.ledger.records import Claim, FailedBatch, PlannedRow, Receipt
from airflow_batch_provider.records import create, load, save
from airflow_batch_provider.rows import Row, decode_row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from airflow_batch_provider.ledger.records import Chunk
    from airflow_batch_provider.storage import Directory

    _Read = TypeVar("_Read")

REQUESTS = ".requests.jsonl"
ROWS = ".rows.jsonl"
_SUMS = ".sums.json"
USES = ".uses.json"
_NUMBER = re.compile(r"(?:-(\d+))?\.json")
_FIRST_CLAIM = re.compile(r"(\d{5,})\.claim\.json")


@dataclass(frozen=True)
class BatchFiles:
    """The files of one batch: what is asked, who claims it, what was bought, how it failed, and its rows.

    A claim is a file that is never changed, and the last one counts. A worker takes a claim, takes one over or withdraws
    one by making the next file, which only one worker can. So a worker that slept between a check and a write finds that it
    was overtaken, instead of undoing what its successor wrote.

    Attributes:
        directory: of the wave.
        number: of the chunk.
        draft: as in `Chunk`; None where only the number is known, then rows of any draft count as landed.
        realtime: as in `Chunk`.
    """

    directory: Directory
    number: int
    draft: str | None = None
    realtime: bool = False

    @classmethod
    def of(cls, directory: Directory, chunk: Chunk) -> BatchFiles:
        """Return the files of a chunk's batch."""
        return cls(directory, chunk.number, chunk.draft, chunk.realtime)

    @classmethod
    def at(cls, directory: Directory, name: str) -> BatchFiles | None:
        """Return the files of a batch by the name of its claim, None when it is not one."""
        match = _FIRST_CLAIM.fullmatch(name)
        return cls(directory, int(match[1])) if match else None

    def names(self) -> list[str]:
        """Return the names of all files of the wave, to look several things up in one listing."""
        return self.directory.names()

    # claims

    @property
    def claim_uri(self) -> str:
        """Return where the claims are, for the registry."""
        return self.directory.uri(self._claim_name(0))

    @property
    def claim_pattern(self) -> str:
        """Return the pattern of all claims, for messages."""
        return self.directory.uri(f"{self.stem}.claim*.json")

    def claim(self) -> Claim | None:
        """Return the claim that counts, None when there is none or it was withdrawn."""
        number = self._last_claim()
        last = None if number is None else load(self.directory, self._claim_name(number), Claim)
        return None if last is None or last.withdrawn else last

    def claim_under(self, tag: str) -> Claim | None:
        """Return the claim that counts, None when it is under another tag."""
        claim = self.claim()
        return claim if claim and claim.tag == tag else None

    def next_claim(self) -> int:
        """Return the number of the claim that comes after all that there are."""
        last = self._last_claim()
        return 0 if last is None else last + 1

    def add_claim(self, claim: Claim) -> bool:
        """Write a claim under its number; False when another worker was first."""
        return create(self.directory, self._claim_name(claim.number), claim)

    def withdraw(self, claim: Claim) -> bool:
        """Say that nothing was bought under this claim; False when it does not count any more."""
        return self.add_claim(claim.model_copy(update={"number": claim.number + 1, "withdrawn": True}))

    def is_last(self, claim: Claim) -> bool:
        """Tell whether no other claim followed this one, and nobody started the files over."""
        mine = load(self.directory, self._claim_name(claim.number), Claim)
        return mine == claim and not self.directory.exists(self._claim_name(claim.number + 1))

    def is_claimed(self, names: Collection[str]) -> bool:
        """Tell whether any claim was ever made."""
        return self._claim_name(0) in names

    def _last_claim(self) -> int | None:
        return max(self._numbered("claim", self.names()), default=None)

    def _claim_name(self, number: int) -> str:
        return f"{self.stem}.claim{f'-{number}' if number else ''}.json"

    # receipt

    @property
    def receipt_uri(self) -> str:
        """Return where the receipt is, for messages."""
        return self.directory.uri(self._receipt_name)

    def receipt(self) -> Receipt | None:
        """Return the receipt, None when nobody wrote one."""
        return load(self.directory, self._receipt_name, Receipt)

    def receipt_under(self, tag: str) -> Receipt | None:
        """Return the receipt, None when it is under another tag."""
        receipt = self.receipt()
        return receipt if receipt and receipt.tag == tag else None

    def add_receipt(self, receipt: Receipt) -> bool:
        """Write the receipt; False when there is another one already."""
        return create(self.directory, self._receipt_name, receipt)

    def replace_receipt(self, receipt: Receipt) -> None:
        """Write the receipt in the place of one that does not count any more."""
        save(self.directory, self._receipt_name, receipt)

    def delete_receipt(self) -> None:
        """Forget that the provider has the batch; the claims stay."""
        self.directory.delete(self._receipt_name)

    def has_receipt(self, names: Collection[str]) -> bool:
        """Tell whether the receipt is among the files of the wave."""
        return self._receipt_name in names

    @property
    def _receipt_name(self) -> str:
        return f"{self.stem}.receipt.json"

    # batches that failed as a whole

    def failures(self, names: Collection[str]) -> int:
        """Return how many batches of this chunk failed as a whole: the highest number of them."""
        return max(self._numbered("failed", names), default=0)

    def failure(self, number: int) -> FailedBatch | None:
        """Return the record of such a batch, None when there is none of this number."""
        return load(self.directory, self._failure_name(number), FailedBatch) if number else None

    def add_failure(self, number: int, failed: FailedBatch) -> None:
        """Note a batch that failed as a whole."""
        save(self.directory, self._failure_name(number), failed)

    def _failure_name(self, number: int) -> str:
        return f"{self.stem}.failed-{number}.json"

    # requests and rows

    @property
    def requests_name(self) -> str:
        """Return the name of the request file."""
        return f"{self._drafted}{REQUESTS}"

    @property
    def rows_name(self) -> str:
        """Return the name of the file of landed rows; rows that landed first stand, because later waves ask by them."""
        return f"{self._drafted}{ROWS}"

    @property
    def uses_name(self) -> str:
        """Return the name of the file of what the requests will use."""
        return f"{self._drafted}{USES}"

    @property
    def sums_name(self) -> str:
        """Return the name of the file of the sums over the landed rows."""
        return f"{self._drafted}{_SUMS}"

    def request_lines(self) -> Iterator[bytes]:
        """Read the request file, one planned row a line."""
        return self._read(self.requests_name, self.directory.lines)

    def request_blocks(self) -> Iterator[list[bytes]]:
        """Read the request file, some hundred lines at once, each with its newline."""
        return self._read(self.requests_name, self.directory.line_blocks)

    def planned_rows(self) -> Iterator[PlannedRow]:
        """Read the rows that the batch asks, in order."""
        decoder = msgspec.json.Decoder(PlannedRow)
        return map(decoder.decode, self.request_lines())

    def landed_lines(self) -> Iterator[bytes]:
        """Read the file of the rows that have landed, one row a line."""
        return self._read(self.rows_name, self.directory.lines)

    def landed_rows(self) -> Iterator[Row]:
        """Read the rows that have landed, in order."""
        return map(decode_row, self.landed_lines())

    def _read(self, name: str, reading: Callable[[str], Iterator[_Read]]) -> Iterator[_Read]:
        """Read a file that is there as long as its plan counts.

        Raises:
            Overtaken: another worker has set it aside.
        """
        try:
            yield from reading(name)
        except FileNotFoundError as error:
            raise Overtaken(
                f"{self.directory.uri(name)} is gone: another worker has set these requests aside, to ask others. No action "
                "is needed while it goes on. If there is none, restore the file, or delete the task's directory to pay for "
                "its requests again."
            ) from error

    def has_landed(self, names: Collection[str] | None = None) -> bool:
        """Tell whether the rows are here, whoever landed them."""
        if self.draft is not None:
            return self.directory.exists(self.rows_name) if names is None else self.rows_name in names
        rows = re.compile(rf"{self.stem}(-[^.]*)?{re.escape(ROWS)}")
        return any(map(rows.fullmatch, self.names() if names is None else names))

    def delete_requests(self) -> None:
        """Discard the request file, and what is beside it."""
        self.directory.delete(self.requests_name)
        self.directory.delete(self.uses_name)

    @property
    def stem(self) -> str:
        """Return the beginning of all names."""
        return f"{self.number:05d}"

    @property
    def _drafted(self) -> str:
        return f"{self.stem}-{self.draft}" if self.draft else self.stem

    def _numbered(self, kind: str, names: Collection[str]) -> list[int]:
        start = f"{self.stem}.{kind}"
        ours = (name.removeprefix(start) for name in names if name.startswith(start))
        return [int(match[1] or 0) for match in map(_NUMBER.fullmatch, ours) if match]
