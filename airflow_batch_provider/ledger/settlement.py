"""What one batch came to, counted while its rows land and kept before they are there, for its task and the deployment."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.sums import BatchSums, Summing, keep_sums
from airflow_batch_provider.spending import Spent

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.batch_files import BatchFiles
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.records import Plan, Receipt
    from airflow_batch_provider.rows import Row

log = logging.getLogger(__name__)


@dataclass
class Settlement:
    """Adds up the rows of one batch, each at its own price.

    Attributes:
        files: of the batch.
    """

    context: LedgerContext
    plan: Plan
    receipt: Receipt
    files: BatchFiles
    _summing: Summing = field(init=False)

    def __post_init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        """Forget the rows so far."""
        try:
            bill = self.context.bill(self.plan.spec)
        except UsageError as error:  # what was paid lands all the same
            log.warning("What batch %s cost is not counted: %s", self.receipt.batch_id, error)
            bill = None
        self._summing = Summing(bill)

    def add(self, row: Row) -> None:
        """Count one row."""
        self._summing.add(row)

    def close(self, size: int) -> None:
        """Keep the sums; the same again when another worker, or an attempt that died, did so before.

        Args:
            size: of the file of the rows, bytes.
        """
        sums = self._summing.sums(size)
        keep_sums(self.files, sums)
        if self.context.registry is not None:
            self.context.registry.settle(self._spent(sums))

    def _spent(self, sums: BatchSums) -> Spent:
        context, receipt = self.context, self.receipt
        return Spent(
            tag=receipt.tag,
            batch_id=receipt.batch_id,
            provider=context.provider.name,
            model=self.plan.spec.model,
            connection=str(context.connection) if context.connection else None,
            label=context.label,
            claim=self.files.claim_uri,
            requests=receipt.requests,
            succeeded=sums.succeeded,
            submitted_at=receipt.counted_at,
            usage=sums.usage,
            cost=sums.charge.cost,
        )
