"""The final files: one row per request in the order asked, and the manifest that sums them up."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.ledger.merge import Tally, best_rows
from airflow_batch_provider.models import ROW_STATUSES, Manifest
from airflow_batch_provider.pricing import cost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.ledger.files import TaskFiles
    from airflow_batch_provider.ledger.records import Plan
    from airflow_batch_provider.models import BatchRow
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
    def format(self) -> Literal["jsonl", "parquet"]:
        """Return the format that the file's ending names."""
        return "parquet" if PurePosixPath(self.name).suffix == ".parquet" else "jsonl"


@dataclass(frozen=True)
class Outcome:
    """The sum over all waves.

    Attributes:
        open_rows: rows without a good answer that asking again may help.
    """

    manifest: Manifest
    open_rows: int


def write_results(files: TaskFiles, plan: Plan, stage: str, target: Target, now: datetime) -> Outcome:
    """Write the results, whole, and sum them up; the task is not done before its manifest is written.

    Raises:
        Overtaken: another worker has set the plan aside meanwhile.
    """
    while True:
        waves = files.waves()
        tally, receipts = Tally(), files.receipts(waves)
        _write(target, plan, best_rows(files, waves, tally))
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
        cost=cost(plan.provider, plan.spec.model, tally.usage),
        waves=len(waves),
        batches=tuple(receipt.batch_id for receipt in receipts),
        errors=tally.digest,
        submitted_at=min((receipt.submitted_at for receipt in receipts), default=None),
        completed_at=now,
    )
    return Outcome(manifest, tally.open)


def _write(target: Target, plan: Plan, rows: Iterator[BatchRow]) -> None:
    with target.directory.writer(target.name) as file:
        if target.format == "parquet":
            from airflow_batch_provider.parquet import write_parquet  # noqa: PLC0415 — pyarrow is an extra

            write_parquet(file, rows, plan.spec)
            return
        for row in rows:
            file.write(row.model_dump_json().encode() + b"\n")
