"""The cost of one batch, counted while its rows land and told to the deployment before they are there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.merge import Tally
from airflow_batch_provider.models import Cost
from airflow_batch_provider.spending import Spent

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Plan, Receipt
    from airflow_batch_provider.rows import Row

log = logging.getLogger(__name__)


@dataclass
class Settlement:
    """Adds up the rows of one batch, each at its own price.

    Attributes:
        claim_uri: where its claim is.
    """

    context: LedgerContext
    plan: Plan
    receipt: Receipt
    claim_uri: str
    _tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        try:
            bill = self.context.bill(self.plan.spec)
        except UsageError as error:  # what was paid lands all the same
            log.warning("What batch %s cost is not counted: %s", self.receipt.batch_id, error)
            bill = None
        self._tally = Tally(bill=bill)

    def add(self, row: Row) -> None:
        """Charge one row."""
        self._tally.asked(row)
        self._tally.counts[row.status] += 1

    def note(self) -> None:
        """Tell the deployment; the same again when another worker, or an attempt that died, did so before."""
        context, tally, receipt = self.context, self._tally, self.receipt
        if context.registry is None:
            return
        spent = Spent(
            tag=receipt.tag,
            batch_id=receipt.batch_id,
            provider=context.provider.name,
            model=self.plan.spec.model,
            connection=str(context.connection) if context.connection else None,
            label=context.label,
            claim=self.claim_uri,
            requests=receipt.requests,
            succeeded=tally.counts["succeeded"],
            submitted_at=receipt.submitted_at,
            usage=tally.usage,
            cost=tally.bill.cost if tally.bill else Cost(unpriced=("model",)),
        )
        context.registry.spending.note(spent)
        if spent.cost.usd is not None:  # else the budgets go on with what was reserved
            usd = Decimal(str(spent.cost.usd))
            context.registry.budgets.settle(spent.tag, spent.connection, spent.submitted_at, usd)
