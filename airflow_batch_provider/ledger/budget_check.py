"""The deployment's budgets, asked about one batch after it is claimed and before it is bought.

The amount is reserved first and the sum is read then, so of two workers that ask at the same time at least one sees the other.
What both together would exceed, the one that reserved first may have: it waits for the other, which gives its amount back and
comes again later. A reservation that has grown old counts like a purchase, for the batch may have been bought, so nobody waits
for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.amounts import dollars
from airflow_batch_provider.exceptions import OverBudget, Unavailable
from airflow_batch_provider.ledger.landed import count_landed
from airflow_batch_provider.ledger.limit import known_price, learned_from, most_of
from airflow_batch_provider.timing import LOCK_COME_BACK, LOCK_PAUSE, RESERVED_OLD, RESERVED_WAIT

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from airflow_batch_provider.budgets import Budget, BudgetUse
    from airflow_batch_provider.ledger.batch import BatchToBuy
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.pricing import Forecast
    from airflow_batch_provider.registry import Registry


@dataclass(frozen=True)
class BudgetCheck:
    """One claimed batch, and the budgets that it must keep to.

    Attributes:
        tag: of the claim.
        most: that the batch may cost, US dollars.
        at: the moment in whose month it counts.
    """

    registry: Registry
    budgets: tuple[Budget, ...]
    tag: str
    most: Decimal
    at: datetime

    @classmethod
    def of(cls, batch: BatchToBuy, tag: str) -> Self | None:
        """Return the check of a batch, None where no budget is set for it.

        Raises:
            OverBudget: something in it has no known price.
        """
        context, plan, waves = batch.context, batch.plan, batch.waves
        now = context.clock.now()
        budgets = budgets_of(context, now)
        if context.registry is None or not budgets:
            return None
        learned = learned_from(count_landed(context, plan, waves), context, waves)
        most = most_of(context, plan, [batch.files], learned, f"The {budgets[0]}")
        return cls(context.registry, budgets, tag, most, now)

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of the budgets that count the batch."""
        return tuple(budget.file(self.tag, self.most) for budget in self.budgets)

    async def keep(self, context: LedgerContext) -> None:
        """Reserve the amount; return when the batch may be bought.

        Raises:
            OverBudget: it may not.
            Unavailable: others are asking for what is left; come back later.
        """
        self.registry.budgets.reserve(self.files)
        for budget in self.budgets:
            for _ in range(RESERVED_WAIT // LOCK_PAUSE):
                asking = self._asking(budget)
                if asking is None:
                    break
                if not self._is_first(budget, asking):
                    raise _crowded(budget)
                await context.clock.sleep(LOCK_PAUSE.total_seconds())
            else:
                raise _crowded(budget)

    def _asking(self, budget: Budget) -> dict[str, Decimal] | None:
        """Return None when the batch is within the budget, or what others reserve without which it would be.

        Raises:
            OverBudget: it would not be without any of those either.
        """
        use = self.registry.budgets.use(budget, without=self.tag)
        over = use.total + self.most - budget.limit
        if over <= 0:
            return None
        asking = {tag: usd for tag, usd in use.reserved.items() if self._is_asking(budget, tag, usd)}
        if over > sum(asking.values()):
            raise OverBudget(_refusal(budget, use, self.most, "The next batch"))
        return asking

    def _is_asking(self, budget: Budget, tag: str, usd: Decimal) -> bool:
        """Tell whether a batch was reserved a moment ago and not bought, so that it may give its amount back."""
        entry = self.registry.get(tag)
        if entry is None or entry.batch_id is not None:
            return False
        theirs, ours = self._reserved_at(budget, tag, usd), self._reserved_at(budget, self.tag, self.most)
        return theirs is None or ours is None or ours - theirs < RESERVED_OLD

    def _is_first(self, budget: Budget, asking: dict[str, Decimal]) -> bool:
        ours = self._reserved_at(budget, self.tag, self.most)
        others = ((self._reserved_at(budget, tag, usd), tag) for tag, usd in asking.items())
        return ours is not None and all((ours, self.tag) < (at, tag) for at, tag in others if at is not None)

    def _reserved_at(self, budget: Budget, tag: str, usd: Decimal) -> datetime | None:
        return self.registry.budgets.reserved_at(budget, tag, usd)


def budgets_of(context: LedgerContext, now: datetime) -> tuple[Budget, ...]:
    """Return the budgets that batches of a task must keep to at this moment."""
    if context.registry is None:
        return ()
    connection = str(context.connection) if context.connection else None
    return context.registry.budgets.that_limit(connection, now)


def check_plan(context: LedgerContext, expected: Forecast) -> None:
    """Refuse a plan of which not even the first wave is within the budgets; each batch is checked again when it is bought.

    Raises:
        OverBudget: it may cost more than is left, or something in it has no known price.
    """
    for budget in budgets_of(context, context.clock.now()):
        assert context.registry is not None  # else there is no budget
        most, use = known_price(expected, f"The {budget}"), context.registry.budgets.use(budget)
        if use.total + most > budget.limit:
            raise OverBudget(_refusal(budget, use, most, "The first wave"))


def _refusal(budget: Budget, use: BudgetUse, most: Decimal, what: str) -> str:
    return (
        f"{what} may cost up to {dollars(most)}, and of the {budget} {dollars(use.all_spent)} are spent and "
        f"{dollars(use.all_reserved)} reserved for open batches. Raise it, or wait until open batches have landed and cost less "
        "than they might; then clear the task to buy what is left."
    )


def _crowded(budget: Budget) -> Unavailable:
    return Unavailable(
        f"Other tasks are asking for what is left of the budget for {budget.name}.",
        retry_after=LOCK_COME_BACK.total_seconds(),
        ambiguous=False,
    )
