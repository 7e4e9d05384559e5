"""The sums over the rows of one batch: taken while they land, and kept beside them so that nobody reads the rows for them.

Sums that are lost, or are not of these rows, are taken again from the rows.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from operator import add, attrgetter
from typing import TYPE_CHECKING

import msgspec
from pydantic import Field, ValidationError

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.ledger.digest import Reasons
from airflow_batch_provider.models import ErrorDigest, RowError, RowStatus, Usage
from airflow_batch_provider.pricing import Charge
from airflow_batch_provider.records import save

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.pricing import Bill
    from airflow_batch_provider.rows import Row

log = logging.getLogger(__name__)

_COUNTS = attrgetter(*Usage.__struct_fields__)
_UNPRICED = Charge(unpriced=("model",))


class BatchSums(FrozenModel):
    """The sums over all rows of one landed batch.

    Attributes:
        bytes: size of the file of the rows, which tells whether the sums are of the rows that are there.
        rows: row status → number of rows.
        cut_off: good answers that end at `max_tokens`.
        undecided: rows that hold `choices`, which the results do not have.
        answers: rows that used output tokens, good or not.
        longest: output tokens of the longest of them.
        ended_early: those of them that end at `max_tokens`, good or not.
        charge: of all rows, each at its own price when it landed.
        prices: tells by which prices; empty where they could not be read. See `Bill.prices`.
        settled: why rows have no good answer that no wave asks again.
        unsettled: why those have none that another wave may ask again.
    """

    bytes: int = 0
    rows: dict[RowStatus, int] = Field(default_factory=dict)
    cut_off: int = 0
    undecided: int = 0
    answers: int = 0
    longest: int = 0
    ended_early: int = 0
    usage: Usage = Usage()
    charge: Charge = Charge()
    prices: str = ""
    settled: ErrorDigest = ErrorDigest()
    unsettled: ErrorDigest = ErrorDigest()

    @property
    def landed(self) -> int:
        """Return the number of rows."""
        return sum(self.rows.values())

    @property
    def succeeded(self) -> int:
        """Return the number of good answers."""
        return self.rows.get("succeeded", 0)

    @property
    def open(self) -> int:
        """Return the number of rows that another wave may ask again."""
        return sum(reason.count for reason in self.unsettled.reasons)


@dataclass
class RowReasons:
    """Why rows have no good answer: that of those that no wave asks again, and of those that one may ask again."""

    settled: Reasons = field(default_factory=Reasons)
    unsettled: Reasons = field(default_factory=Reasons)

    def add(self, row: Row) -> None:
        """Count the reason of one row that has no good answer."""
        error = row.error or RowError(code=row.status, message="no reason was given", retryable=True)
        (self.unsettled if error.retryable else self.settled).add(error.code, error.message, row.custom_id)


@dataclass
class TokenCounts:
    """A running sum of usage; adding up `Usage` itself would make a value for each row."""

    _counts: list[int] = field(default_factory=lambda: [0] * len(Usage.__struct_fields__))

    def add(self, usage: Usage) -> None:
        """Count the tokens of one row."""
        self._counts = list(map(add, self._counts, _COUNTS(usage)))

    @property
    def usage(self) -> Usage:
        """Return the sum."""
        return Usage(**dict(zip(Usage.__struct_fields__, self._counts, strict=True)))


class Summing:
    """Adds up the rows of one batch as they pass.

    Args:
        bill: an empty one; None where the prices cannot be read, so that no row has one.
    """

    def __init__(self, bill: Bill | None) -> None:
        self._bill = bill
        self._rows = Counter[RowStatus]()
        self._tokens = TokenCounts()
        self._answers = self._longest = self._ended_early = self._cut_off = self._undecided = 0
        self._reasons = RowReasons()

    def add(self, row: Row) -> None:
        """Count one row."""
        self._rows[row.status] += 1
        self._tokens.add(row.usage)
        if self._bill is not None:
            self._bill.add(row.usage, row.model, realtime=row.batch_id is None)
        made, is_cut = row.usage.output_tokens, row.finish_reason == "max_tokens"
        self._answers += made > 0
        self._longest = max(self._longest, made)
        self._ended_early += is_cut
        self._undecided += row.choices is not msgspec.UNSET
        if row.status == "succeeded":
            self._cut_off += is_cut
        else:
            self._reasons.add(row)

    def sums(self, size: int = 0) -> BatchSums:
        """Return the sums over all rows so far.

        Args:
            size: of the file of these rows, bytes.
        """
        return BatchSums(
            bytes=size,
            rows=dict(self._rows),
            cut_off=self._cut_off,
            undecided=self._undecided,
            answers=self._answers,
            longest=self._longest,
            ended_early=self._ended_early,
            usage=self._tokens.usage,
            charge=_UNPRICED if self._bill is None else self._bill.charge,
            prices="" if self._bill is None else self._bill.prices,
            settled=self._reasons.settled.whole,
            unsettled=self._reasons.unsettled.whole,
        )


def keep_sums(files: BatchFiles, sums: BatchSums) -> None:
    """Keep the sums of a batch whose rows are about to be there."""
    save(files.directory, files.sums_name, sums)


def kept_sums(files: BatchFiles) -> BatchSums | None:
    """Return the sums of a batch that has landed; None where they are lost or of other rows."""
    data = files.directory.read(files.sums_name)
    if data is None:
        return None
    try:
        sums = BatchSums.model_validate_json(data)
    except ValidationError:
        log.debug("%s cannot be read; its rows are counted again", files.directory.uri(files.sums_name), exc_info=True)
        return None
    return sums if sums.bytes == files.directory.size(files.rows_name) else None
