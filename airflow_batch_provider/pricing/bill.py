"""The sum of what rows cost, exact to the last digit of every price."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING

from airflow_batch_provider.clock import utc_now
from airflow_batch_provider.models import Usage
from airflow_batch_provider.pricing.book import MOST_MODELS, PriceBook
from airflow_batch_provider.pricing.charge import Charge
from airflow_batch_provider.pricing.kinds import KINDS, counted
from airflow_batch_provider.pricing.price import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from airflow_batch_provider.models import BatchRow, Cost
    from airflow_batch_provider.pricing.price import Price

_ATTO = -18

# Rows that used nothing but these, which most are, are summed without being split into kinds.
_USUAL = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_USED = attrgetter(*_USUAL)
_BEYOND = attrgetter(*(name for name in Usage.__struct_fields__ if name not in _USUAL))
_NOTHING = (0,) * (len(Usage.__struct_fields__) - len(_USUAL))
_INPUT, _CACHED, _WRITTEN, _OUTPUT, _THOUGHT = map(list(KINDS).index, _USUAL)


class Bill:
    """Adds up rows, each at its own price.

    Args:
        model: the model that was asked, for rows that do not name the one that answered.
    """

    def __init__(self, book: PriceBook, model: str) -> None:
        self._book = book
        self._model = model
        self._sums: dict[tuple[Price, bool], _Sum] = {}
        self._by_names: dict[tuple[str | None, str | None, bool], _Sum | None] = {}
        self._left_out: set[str] = set()
        self._unknown: Counter[str] = Counter()

    def add(
        self,
        usage: Usage,
        answered: str | None = None,
        asked: str | None = None,
        rows: int = 1,
        *,
        realtime: bool = False,
    ) -> None:
        """Charge rows that are alike.

        Args:
            usage: of each.
            answered: the model that the provider says has answered.
            asked: the model that the rows themselves name.
            rows: number of them.
            realtime: they were asked by single calls, without the discount of a batch.
        """
        known = self._known(asked, answered, realtime)
        if known is not None:
            known.add(usage, rows)
        elif usage.told():
            self._left_out.add("model")
            self._count_unknown(asked or answered or self._model, rows)

    def add_text(
        self, tokens_in: int, tokens_out: int, asked: str | None = None, rows: int = 1, *, realtime: bool = False
    ) -> None:
        """Charge rows that are nothing but text, in and out, and alike.

        Args:
            tokens_in: of each.
            tokens_out: of each.
            asked: the model that the rows themselves name.
            rows: number of them.
            realtime: as for `add`.
        """
        known = self._known(asked, None, realtime)
        if known is None:
            self.add(Usage(input_tokens=tokens_in, output_tokens=tokens_out), asked=asked, rows=rows)
        else:
            known.add_text(tokens_in, tokens_out, rows)

    def add_rows(self, rows: Iterable[BatchRow]) -> None:
        """Charge every row."""
        for row in rows:
            self.add(row.usage, row.model)

    def leave_out(self, fields: Iterable[str]) -> None:
        """Name what the amount does not hold."""
        self._left_out.update(fields)

    @property
    def prices(self) -> str:
        """What tells the prices of this bill from others; see `PriceBook.fingerprint`."""
        return self._book.fingerprint

    @property
    def unknown(self) -> dict[str, int]:
        """Models without a price, each with the number of its rows."""
        return dict(self._unknown)

    def near(self, model: str) -> tuple[str, ...]:
        """Return models of the book with a name like this one, the nearest first."""
        return self._book.near(model)

    def _count_unknown(self, model: str, rows: int) -> None:
        if model in self._unknown or len(self._unknown) < MOST_MODELS:
            self._unknown[model] += rows

    def _known(self, asked: str | None, answered: str | None, realtime: bool) -> _Sum | None:
        try:
            return self._by_names[asked, answered, realtime]
        except KeyError:
            return self._sum(asked, answered, realtime)

    def _sum(self, asked: str | None, answered: str | None, realtime: bool) -> _Sum | None:
        price = self._book.price(asked or self._model, answered)
        known = None
        if price is not None:
            known = self._sums.setdefault((price, realtime), _Sum(price, realtime=realtime))
        if len(self._by_names) < MOST_MODELS:
            self._by_names[asked, answered, realtime] = known
        return known

    @property
    def usd(self) -> Decimal | None:
        """US dollars, exact; None when what rows used has no known price."""
        if self._left_out and not self._sums:
            return None
        return _dollars(sum(one.paid for one in self._sums.values()))

    @property
    def charge(self) -> Charge:
        """Return the exact sum, and what it leaves out."""
        sums = self._sums.values()
        unpriced = tuple(sorted(self._left_out.union(*(one.unpriced for one in sums))))
        if self.usd is None:
            return Charge(unpriced=unpriced)
        saved = [one.saved for one in sums if one.saved is not None]
        return Charge(
            usd=self.usd,
            saved_usd=_dollars(sum(saved)) if saved else None,
            estimated=any(one.is_estimated and one.paid for one in sums),
            sources=tuple(sorted({one.price.source for one in sums})),
            unpriced=unpriced,
        )

    @property
    def cost(self) -> Cost:
        """Return the sum as people read it, rounded once, to a float."""
        return self.charge.cost


def cost(provider: str, model: str, usage: Usage, now: Callable[[], datetime] = utc_now) -> Cost:
    """Return what one row costs; several rows are one `Bill`, since a sum of tokens has another price.

    Args:
        now: tells when, for prices that change.
    """
    bill = Bill(PriceBook(provider, now()), model)
    bill.add(usage)
    return bill.cost


class _Sum:
    """The rows of one price. Within a tier a sum of counts costs what the rows cost one by one."""

    def __init__(self, price: Price, *, realtime: bool) -> None:
        self.price = price
        self._realtime = realtime
        self._counts = [[0] * len(KINDS) for _ in price.tiers]

    def add(self, usage: Usage, rows: int) -> None:
        tokens_in, cached, written, tokens_out, thought = _USED(usage)
        counts = self._tier(tokens_in)
        if _BEYOND(usage) == _NOTHING and cached + written <= tokens_in and thought <= tokens_out:
            counts[_INPUT] += (tokens_in - cached - written) * rows
            counts[_CACHED] += cached * rows
            counts[_WRITTEN] += written * rows
            counts[_OUTPUT] += (tokens_out - thought) * rows
            counts[_THOUGHT] += thought * rows
        else:
            counts[:] = (count + rows * more for count, more in zip(counts, counted(usage), strict=True))

    def add_text(self, tokens_in: int, tokens_out: int, rows: int) -> None:
        counts = self._tier(tokens_in)
        counts[_INPUT] += tokens_in * rows
        counts[_OUTPUT] += tokens_out * rows

    def _tier(self, tokens_in: int) -> list[int]:
        price = self.price
        return self._counts[price.tier(tokens_in) if price.starts else 0]

    @property
    def unpriced(self) -> set[str]:
        """Fields of `Usage` that the price does not hold, as far as any row has them."""
        totals = map(sum, zip(*self._counts, strict=True))
        return {kind for kind, total in zip(KINDS, totals, strict=True) if total and kind in self.price.unlisted}

    @property
    def is_estimated(self) -> bool:
        """Whether a discount of one half is assumed."""
        is_guess = self._realtime and any(tier.standard is None for tier in self.price.tiers)
        return self.price.estimated or is_guess

    @property
    def paid(self) -> int:
        """Attodollars."""
        return sum(
            amount(counts, tier.rates(realtime=self._realtime))
            for counts, tier in zip(self._counts, self.price.tiers, strict=True)
        )

    @property
    def saved(self) -> int | None:
        """Attodollars less than without a batch, None when nobody knows."""
        saved = 0
        for counts, tier in zip(self._counts, self.price.tiers, strict=True):
            if tier.standard is None:
                return None
            saved += amount(counts, tier.standard) - amount(counts, tier.rates(realtime=self._realtime))
        return saved


def _dollars(attodollars: int) -> Decimal:
    return Decimal(attodollars).scaleb(_ATTO)
