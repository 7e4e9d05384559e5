"""The most that a task instance may cost: all waves of all attempts, and the requests that were set aside for others."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.exceptions import OverBudget
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import SUPERSEDED
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.landed import LandedRows, count_landed, name_of
from airflow_batch_provider.pricing import NOTHING_LEARNED, Learned
from airflow_batch_provider.signals import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Chunk, Plan, Wave

# The longest of fewer answers says little about the next one.
_ENOUGH_ANSWERS = 30


class Withheld(FrozenModel):
    """Rows that were not bought, because the task might have cost more than it may.

    Attributes:
        rows: number of them.
        estimate: the most that they may cost; US dollars.
        committed: cost of what has landed, and the most that what is at the provider may cost; US dollars.
        limit: `max_cost_usd`.
    """

    rows: int
    estimate: float
    committed: float
    limit: float

    def __str__(self) -> str:
        """Return the sums and the remedy."""
        rows = f"{self.rows:,} {'row was' if self.rows == 1 else 'rows were'}"
        return (
            f"{rows} not bought: up to ${self.estimate:.4f}, after ${self.committed:.4f} for what was bought before, "
            f"would be more than max_cost_usd={self.limit:g}. Raise it and clear the task to buy the rest."
        )


class CostLimit:
    """Counts what a task has spent and is about to spend; made where a limit is set, right before something is bought.

    Raises:
        OverBudget: something has no known price.
    """

    def __init__(self, context: LedgerContext, plan: Plan, waves: list[Wave], limit: float) -> None:
        self._context = context
        self._plan = plan
        self._limit = limit
        sums = count_landed(context, plan, waves)
        self._learned = _learned(sums, self._landed_tokens(sums, waves))
        self._committed = _dollars(sums, plan) + spent_on_others(context)

    @classmethod
    def of(cls, context: LedgerContext, plan: Plan, waves: list[Wave]) -> Self | None:
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
            rows = sum(chunk.requests for chunk in chunks)
            return Withheld(rows=rows, estimate=float(most), committed=float(self._committed), limit=self._limit)
        self._committed += most
        return None

    def _landed_tokens(self, sums: LandedRows, waves: list[Wave]) -> int:
        """Return the input tokens that were estimated for the chunks that have landed."""
        names = {
            name_of(wave, batch): chunk.tokens for wave in waves for batch, chunk in self._batches(wave, wave.chunks)
        }
        return sum(names.get(name, 0) for name in sums.batches)

    def _batches(self, wave: Wave, chunks: Sequence[Chunk]) -> Iterator[tuple[BatchFiles, Chunk]]:
        directory = self._context.files.wave_directory(wave.number)
        return ((BatchFiles.of(directory, chunk), chunk) for chunk in chunks)

    def _most(self, wave: Wave, chunks: Sequence[Chunk]) -> Decimal:
        if not chunks:
            return Decimal(0)
        context, plan = self._context, self._plan
        rows = (row for batch, _ in self._batches(wave, chunks) for row in batch.planned_rows())
        expected = context.forecast(rows, plan.spec, self._learned)
        if expected.gaps or expected.bill.usd is None:
            raise cannot_hold(self._limit, expected.gaps)
        return expected.bill.usd


def spent(context: LedgerContext) -> Decimal:
    """Return what the rows of a task have cost that have landed, also those that were set aside; US dollars.

    Raises:
        OverBudget: something that landed has no known price.
    """
    plan = context.files.plan()
    own = _dollars(count_landed(context, plan, context.files.waves()), plan) if plan else Decimal(0)
    return own + spent_on_others(context)


def spent_on_others(context: LedgerContext) -> Decimal:
    """Return what landed rows of requests have cost that were set aside since; US dollars."""
    total = Decimal(0)
    for nonce in context.root.names(SUPERSEDED):
        aside = replace(context, root=context.root.sub(SUPERSEDED).sub(nonce), signals=SILENT)
        if plan := aside.files.plan():
            total += _dollars(count_landed(aside, plan, aside.files.waves()), plan)
    return total


def cannot_hold(limit: float, gaps: str | None) -> OverBudget:
    """Return the error for a limit that cannot be held, because not everything has a known price.

    Args:
        gaps: `Forecast.gaps`.
    """
    return OverBudget(f"max_cost_usd={limit} cannot be held. {gaps} Or drop the limit.")


def _dollars(sums: LandedRows, plan: Plan) -> Decimal:
    if sums.cost.usd is None:
        raise OverBudget(
            f"What {plan.spec.model!r} has answered so far has no known price, so max_cost_usd cannot be held. Set its price "
            "in the connection's option 'prices', or drop the limit."
        )
    return Decimal(str(sums.cost.usd))


def _learned(sums: LandedRows, expected: int) -> Learned:
    """Return what the answers so far tell of the next ones; one that was cut off is asked again with more room.

    Args:
        expected: input tokens that were estimated for them.
    """
    if sums.answers < _ENOUGH_ANSWERS or sums.ended_early:
        return NOTHING_LEARNED
    return Learned(longest=sums.longest, growth=max(1.0, sums.usage.input_tokens / max(1, expected)))
