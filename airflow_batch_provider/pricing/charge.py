"""What rows cost, exact: the charges of batches add up to the charge of all their rows."""

from __future__ import annotations

from decimal import Decimal

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import Cost


class Charge(FrozenModel):
    """The sum of some rows, each at its own price; the fields of `Cost`, before anything is rounded.

    Attributes:
        usd: None when what rows used has no known price.
        saved_usd: None when nobody knows it of any row.
        sources: where the prices come from.
    """

    usd: Decimal | None = None
    saved_usd: Decimal | None = None
    estimated: bool = False
    sources: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()

    def __add__(self, other: Charge) -> Charge:
        """Return the charge of the rows of both."""
        sources = tuple(sorted({*self.sources, *other.sources}))
        unpriced = tuple(sorted({*self.unpriced, *other.unpriced}))
        # Rows that used nothing cost nothing, by no price: beside rows whose price nobody knows, nobody knows the sum.
        is_known = sources or not unpriced
        return Charge(
            usd=_sum(self.usd, other.usd) if is_known else None,
            saved_usd=_sum(self.saved_usd, other.saved_usd),
            estimated=self.estimated or other.estimated,
            sources=sources,
            unpriced=unpriced,
        )

    @property
    def cost(self) -> Cost:
        """Return the sum as people read it, rounded once, to a float."""
        if self.usd is None:
            return Cost(unpriced=self.unpriced)
        return Cost(
            usd=float(self.usd),
            saved_usd=None if self.saved_usd is None else float(self.saved_usd),
            estimated=self.estimated,
            source=", ".join(self.sources) or None,
            unpriced=self.unpriced,
        )


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return other if one is None else one if other is None else one + other
