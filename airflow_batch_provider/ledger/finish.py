"""The final files: one row per request in the order asked, and the manifest that says it is done."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.exceptions import RowsFailed
from airflow_batch_provider.ledger.records import UNMET
from airflow_batch_provider.ledger.waves import Tally, best_rows, check_stands
from airflow_batch_provider.models import ROW_STATUSES, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.ledger.ledger import Ledger
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
        """By the file's ending."""
        return "parquet" if PurePosixPath(self.name).suffix == ".parquet" else "jsonl"


@dataclass(frozen=True)
class Outcome:
    """What the waves came to.

    Attributes:
        open_rows: rows without a good answer that asking again may help.
    """

    manifest: Manifest
    open_rows: int


def finish(ledger: Ledger, stage: str, target: Target, now: datetime) -> Outcome:
    """Write the results, whole, and sum them up.

    Raises:
        Unresolved: another worker has set the plan aside meanwhile.
    """
    plan = ledger.plan()
    assert plan is not None  # only a planned ledger is finished
    while True:
        bill, waves, receipts = ledger.bill(plan), ledger.waves(), ledger.receipts()
        tally = Tally(bill=bill)
        _write(target, plan, best_rows(ledger.root, waves, tally))
        check_stands(ledger.root, plan)
        if (ledger.waves(), ledger.receipts()) == (waves, receipts):
            break
        log.warning("Another worker has gone on while the results were written: writing them again.")
    manifest = Manifest(
        stage=stage,
        provider=plan.provider,
        model=plan.spec.model,
        results=target.directory.uri(target.name),
        format=target.format,
        requests=plan.requests,
        counts={word: tally.counts[word] for word in ROW_STATUSES},
        usage=tally.usage,
        cost=bill.cost,
        waves=len(waves),
        batches=tuple(receipt.batch_id for receipt in receipts),
        errors=tally.digest,
        submitted_at=min((receipt.submitted_at for receipt in receipts), default=None),
        completed_at=now,
    )
    return Outcome(manifest, tally.open)


def seal(ledger: Ledger, manifest: Manifest) -> None:
    """Say that the task is done: later attempts return this manifest and buy nothing."""
    ledger.root.write("manifest.json", manifest.model_dump_json().encode())
    ledger.root.delete(UNMET)


def note_unmet(ledger: Ledger, manifest: Manifest) -> None:
    """Keep the manifest of an attempt that fell short, for people."""
    ledger.root.write(UNMET, manifest.model_dump_json().encode())


def sealed(ledger: Ledger) -> Manifest | None:
    """The manifest of a task that is done, None otherwise."""
    data = ledger.root.read("manifest.json")
    return None if data is None else Manifest.model_validate_json(data)


def _write(target: Target, plan: Plan, rows: Iterator[BatchRow]) -> None:
    with target.directory.writer(target.name) as file:
        if target.format == "parquet":
            from airflow_batch_provider.parquet import write_parquet  # noqa: PLC0415 — pyarrow is an extra

            write_parquet(file, rows, plan.spec)
            return
        for row in rows:
            file.write(row.model_dump_json().encode() + b"\n")


@dataclass(frozen=True)
class Standard:
    """When a task has succeeded.

    Attributes:
        min_success_ratio: share of the rows that must have a good answer; one row always must.
        on_partial: `fail` asks for every row.
    """

    min_success_ratio: float = 0.0
    on_partial: Literal["succeed", "fail"] = "succeed"

    @property
    def ratio(self) -> float:
        """The share that is really asked for."""
        return 1.0 if self.on_partial == "fail" else self.min_success_ratio

    def is_met(self, manifest: Manifest) -> bool:
        """True when enough rows have a good answer."""
        good = manifest.counts["succeeded"]
        return good > 0 and good >= self.ratio * manifest.requests

    def __str__(self) -> str:
        """As the user wrote it."""
        return "on_partial='fail'" if self.on_partial == "fail" else f"min_success_ratio={self.min_success_ratio}"


def judge(outcome: Outcome, standard: Standard) -> None:
    """Raise when too few rows have a good answer.

    Raises:
        RowsFailed: none has, or fewer than the standard asks for.
    """
    manifest = outcome.manifest
    if standard.is_met(manifest):
        return
    good = manifest.counts["succeeded"]
    fact = (
        f"Only {good} of {manifest.requests} requests succeeded, less than {standard} asks for"
        if good
        else f"All batch requests failed: none of {manifest.requests} has an answer"
    )
    raise RowsFailed(
        f"{fact}. What there is stands in {manifest.results}; a retry asks only the rest. Reasons:\n{manifest.errors}",
        digest=manifest.errors,
        retryable=outcome.open_rows > 0,
    )
