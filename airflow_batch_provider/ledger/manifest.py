"""The final files: one row per request in the order asked, and the manifest that sums them up."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.final_files import write_files
from airflow_batch_provider.ledger.merge import NOT_ASKED, TOO_DEAR, Tally
from airflow_batch_provider.models import ROW_STATUSES, Manifest

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.final_files import Target, Written
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.ledger.records import Plan, Receipt, Wave
    from airflow_batch_provider.models import RowError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The sum over all waves.

    Attributes:
        open_rows: rows without a good answer that asking again may help.
    """

    manifest: Manifest
    open_rows: int


def write_results(
    context: LedgerContext, plan: Plan, stage: str, target: Target, withheld: Withheld | None = None
) -> Outcome:
    """Write the results, whole, and sum them up; the task is not done before its manifest is written.

    Args:
        withheld: rows that were not bought because of their cost.

    Raises:
        Overtaken: another worker has set the plan aside meanwhile.
        UsageError: the connection's own prices cannot be read.
    """
    now = context.clock.now()
    tally, waves, receipts, written = _written(context, plan, target, TOO_DEAR if withheld else NOT_ASKED)
    manifest = Manifest(
        stage=stage,
        provider=plan.provider,
        model=plan.spec.model,
        results=target.uri,
        format=target.format,
        table=written.table,
        files=written.files,
        requests=plan.requests,
        counts={status: tally.counts[status] for status in ROW_STATUSES},
        usage=tally.usage,
        cost=tally.cost,
        copies=plan.copies,
        cached=plan.cached,
        waves=len(waves),
        batches=tuple(receipt.batch_id for receipt in receipts),
        errors=tally.digest,
        withheld=str(withheld) if withheld else None,
        submitted_at=min((receipt.submitted_at for receipt in receipts), default=None),
        completed_at=now,
    )
    return Outcome(manifest, tally.open)


def _written(
    context: LedgerContext, plan: Plan, target: Target, absence: RowError
) -> tuple[Tally, list[Wave], list[Receipt], Written]:
    """Write the rows of all waves, once more where another worker went on meanwhile; return their sums, and what was written.

    Args:
        absence: why rows have no answer that were not asked.
    """
    files = context.files
    while True:
        tally, waves = Tally(bill=context.bill(plan.spec)), files.waves()
        receipts = files.receipts(waves)
        written = write_files(target, plan, files, waves, tally, absence)
        files.check_current(plan)
        again = files.waves()
        if (again, files.receipts(again)) == (waves, receipts):
            return tally, waves, receipts, written
        log.warning("Another worker has gone on while the results were written: writing them again.")
