"""The most that a task instance may cost: all waves of all attempts, and the requests that were set aside for others."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.amounts import digits, dollars
from airflow_batch_provider.exceptions import OverBudget
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import SUPERSEDED
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.landed import LandedRows, count_landed, name_of
from airflow_batch_provider.pricing import NOTHING_LEARNED, Learned
from airflow_batch_provider.signals import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Chunk, Plan, Wave
    from airflow_batch_provider.pricing import Forecast

# The longest of fewer answers says little about the next one.
_ENOUGH_ANSWERS = 30


class Withheld(FrozenModel):
    """Rows that were not bought, because they might have cost more than they may.

    Attributes:
        rows: number of them.
        why: the sums and the remedy, after a colon.
    """

    rows: int
    why: str

    def __str__(self) -> str:
        """Return the sentence for people."""
        return f"{self.rows:,} {'row was' if self.rows == 1 else 'rows were'} not bought: {self.why}"


class CostLimit:
    """Counts what a task has spent and is about to spend; made where a limit is set, right before something is bought.

    Raises:
        OverBudget: something has no known price.
    """

    def __init__(self, context: LedgerContext, plan: Plan, waves: Sequence[Wave], limit: float) -> None:
        self._context = context
        self._plan = plan
        self._limit = limit
        sums = count_landed(context, plan, waves)
        self._learned = learned_from(sums, context, waves)
        self._committed = _usd_of(sums, plan) + spent_on_others(context)

    @classmethod
    def of(cls, context: LedgerContext, plan: Plan, waves: Sequence[Wave]) -> Self | None:
        """Return the limit of a task, None when it has none."""
        limit = context.policy.max_cost_usd
        return None if limit is None else cls(context, plan, waves, limit)

    def commit(self, wave: Wave, chunks: Sequence[Chunk]) -> None:
        """Count chunks that are at the provider."""
        self._committed += self._most(wave, chunks)

    def withhold(self, wave: Wave, chunks: Sequence[Chunk]) -> Withheld | None:
        """Count chunks that are about to be bought; say so when they would be too much, and count nothing."""
        most = self._most(wave, chunks)
        if self._committed + most > Decimal(str(self._limit)):
            why = (
                f"up to {dollars(most)}, after {dollars(self._committed)} for what was bought before, would be more than "
                f"max_cost_usd={digits(self._limit)}. Raise it and clear the task to buy the rest."
            )
            return Withheld(rows=sum(chunk.requests for chunk in chunks), why=why)
        self._committed += most
        return None

    def _most(self, wave: Wave, chunks: Sequence[Chunk]) -> Decimal:
        if not chunks:
            return Decimal(0)
        return most_of(
            self._context,
            self._plan,
            _batches(self._context, wave, chunks),
            self._learned,
            f"max_cost_usd={digits(self._limit)}",
        )


def spent_on_others(context: LedgerContext) -> Decimal:
    """Return what landed rows of requests have cost that were set aside since; US dollars.

    Raises:
        OverBudget: something that landed has no known price.
    """
    total = Decimal(0)
    for nonce in context.root.names(SUPERSEDED):
        aside = replace(context, root=context.root.sub(SUPERSEDED).sub(nonce), signals=SILENT)
        if plan := aside.files.plan():
            total += _usd_of(count_landed(aside, plan, aside.files.waves()), plan)
    return total


def most_of(context: LedgerContext, plan: Plan, batches: Iterable[BatchFiles], learned: Learned, limit: str) -> Decimal:
    """Return the most that the rows of these batches may cost, US dollars.

    Args:
        limit: what bounds it, for the message.

    Raises:
        OverBudget: something has no known price.
    """
    return known_price(context.forecast(batches, plan.spec, learned), limit)


def known_price(expected: Forecast, limit: str) -> Decimal:
    """Return the price of what is expected, US dollars.

    Args:
        limit: what bounds it, for the message.

    Raises:
        OverBudget: something has no known price, so that the limit cannot be held.
    """
    if expected.gaps or expected.bill.usd is None:
        raise OverBudget(f"{limit} cannot be held. {expected.gaps} Or drop the limit.")
    return expected.bill.usd


def _usd_of(sums: LandedRows, plan: Plan) -> Decimal:
    if sums.cost.usd is None:
        raise OverBudget(
            f"What {plan.spec.model!r} has answered so far has no known price, so max_cost_usd cannot be held. Set its price "
            "in the connection's option 'prices', or drop the limit."
        )
    return Decimal(str(sums.cost.usd))


def learned_from(sums: LandedRows, context: LedgerContext, waves: Sequence[Wave]) -> Learned:
    """Return what the answers so far tell of the next ones; one that was cut off is asked again with more room."""
    if sums.answers < _ENOUGH_ANSWERS or sums.ended_early:
        return NOTHING_LEARNED
    tokens = {
        name_of(wave, batch): chunk.tokens
        for wave in waves
        for batch, chunk in zip(_batches(context, wave, wave.chunks), wave.chunks, strict=True)
    }
    expected = sum(tokens.get(name, 0) for name in sums.batches)
    return Learned(longest=sums.longest, growth=max(1.0, sums.usage.input_tokens / max(1, expected)))


def _batches(context: LedgerContext, wave: Wave, chunks: Sequence[Chunk]) -> Iterator[BatchFiles]:
    directory = context.files.wave_directory(wave.number)
    return (BatchFiles.of(directory, chunk) for chunk in chunks)
