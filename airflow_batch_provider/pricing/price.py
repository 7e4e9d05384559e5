"""The price of one request of one model, in whole attodollars, so that sums are exact."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DOLLAR = 10**18
"""Attodollars. A price of $0.000001 per million tokens is still a whole number of them per token."""

Rates = tuple[int, ...]
"""Attodollars per unit of each of `KINDS`, in their order."""


@dataclass(frozen=True)
class Tier:
    """The rates of requests of one length.

    Attributes:
        batch: what is charged.
        standard: what is charged without a batch; None when nobody knows.
    """

    batch: Rates
    standard: Rates | None

    def rates(self, *, realtime: bool) -> Rates:
        """Return what a request is charged by; without a batch twice as much where nobody knows better.

        All three providers charge half in a batch (docs/costs.md).
        """
        if not realtime:
            return self.batch
        return tuple(2 * rate for rate in self.batch) if self.standard is None else self.standard


@dataclass(frozen=True)
class Price:
    """The price of one model.

    Attributes:
        starts: a request of more input tokens than `starts[n]` is charged by `tiers[n + 1]`, all of it.
        unlisted: kinds that have no price of their own.
        estimated: True when a batch discount of one half was assumed, because no batch price is published.
        source: where the price comes from.
    """

    starts: tuple[int, ...]
    tiers: tuple[Tier, ...]
    unlisted: frozenset[str]
    estimated: bool
    source: str

    def tier(self, tokens_in: int) -> int:
        """Return the index in `tiers` of the tier that a row of so many input tokens falls into."""
        return bisect_left(self.starts, tokens_in)


def amount(counts: Iterable[int], rates: Rates) -> int:
    """Return attodollars for so many units of each of `KINDS`."""
    return sum(map(mul, counts, rates))
