"""The final files: one row per request in the order asked, and the manifest that sums them up."""

from __future__ import annotations

import heapq
import logging
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from airflow_batch_provider.compression import writing
from airflow_batch_provider.formats import ResultFormat, format_of
from airflow_batch_provider.ledger.merge import NOT_ASKED, TOO_DEAR, Tally, best_rows, only_lines
from airflow_batch_provider.models import ROW_STATUSES, Manifest
from airflow_batch_provider.rows import encode_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.ledger.context import LedgerContext
    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.limit import Withheld
    from airflow_batch_provider.ledger.records import Plan, Wave
    from airflow_batch_provider.models import RowError
    from airflow_batch_provider.rows import Row
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where the results go.

    Attributes:
        directory: on any filesystem.
        name: file name in it; its ending is the format.
    """

    directory: Directory
    name: str

    @property
    def format(self) -> ResultFormat:
        """Return the format that the file's ending names."""
        return format_of(self.name) or "jsonl"


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
    files, now = context.files, context.clock.now()
    while True:
        bill, waves = context.bill(plan), files.waves()
        tally, receipts = Tally(bill=bill), files.receipts(waves)
        _write(target, plan, files, waves, tally, TOO_DEAR if withheld else NOT_ASKED)
        files.check_current(plan)
        again = files.waves()
        if (again, files.receipts(again)) == (waves, receipts):
            break
        log.warning("Another worker has gone on while the results were written: writing them again.")
    manifest = Manifest(
        stage=stage,
        provider=plan.provider,
        model=plan.spec.model,
        results=target.directory.uri(target.name),
        format=target.format,
        requests=plan.requests,
        counts={status: tally.counts[status] for status in ROW_STATUSES},
        usage=tally.usage,
        cost=bill.cost,
        waves=len(waves),
        batches=tuple(receipt.batch_id for receipt in receipts),
        errors=tally.digest,
        withheld=str(withheld) if withheld else None,
        submitted_at=min((receipt.submitted_at for receipt in receipts), default=None),
        completed_at=now,
    )
    return Outcome(manifest, tally.open)


def _write(target: Target, plan: Plan, files: TaskFiles, waves: list[Wave], tally: Tally, absence: RowError) -> None:
    with target.directory.writer(target.name) as raw, writing(raw, target.name) as file:
        if target.format == "parquet":
            from airflow_batch_provider.parquet import write_parquet  # noqa: PLC0415 — pyarrow is an extra

            write_parquet(file, _rows(plan, files, waves, tally, absence), plan.spec)
        elif _was_asked_once(plan, files, waves):
            for line in only_lines(files, waves[0], tally):
                file.write(line + b"\n")
        else:
            file.writelines(map(encode_row, _rows(plan, files, waves, tally, absence)))


def _rows(plan: Plan, files: TaskFiles, waves: list[Wave], tally: Tally, absence: RowError) -> Iterator[Row]:
    skipped = tally.settling(files.skipped_rows(plan))
    return heapq.merge(best_rows(files, waves, tally, absence), skipped, key=attrgetter("index"))


def _was_asked_once(plan: Plan, files: TaskFiles, waves: list[Wave]) -> bool:
    """Tell whether what landed is the results, line by line: nothing was asked again, left out or has yet to land."""
    if len(waves) > 1 or plan.skipped:
        return False
    names = set(files.wave_directory(0).names())
    return all(batch.has_landed(names) for batch in files.batches(waves[0]))
