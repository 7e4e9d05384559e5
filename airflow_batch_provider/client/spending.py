"""The cost of a client's batches: one record per batch, counted once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import Field

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models import Cost, RowStatus, Usage
from airflow_batch_provider.pricing import Bill
from airflow_batch_provider.records import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_batch_provider.models import BatchRow
    from airflow_batch_provider.pricing import PriceBook
    from airflow_batch_provider.storage import Directory


class Call(FrozenModel):
    """One request of a batch: what became of it and what it cost.

    Attributes:
        model: the one that answered, as the provider names it; else the one that was asked.
        usd: US dollars, after the discount; None where the model has no known price.
    """

    custom_id: str
    model: str
    status: RowStatus
    usage: Usage
    usd: float | None


class Record(FrozenModel):
    """The cost of the answers of one batch.

    Attributes:
        topic: whose the batch is: `dag/run/task[/map_index]`, with the names of a client's children after it.
        per_call: one for each row, in the order of the rows.
    """

    batch_id: str
    topic: str = ""
    model: str
    calls: int
    usage: Usage
    cost: Cost
    per_call: tuple[Call, ...] = ()


class Stats(FrozenModel):
    """Sums over every recorded batch.

    Attributes:
        total_cost: US dollars, of the models that have a known price.
        per_model: the same by model.
    """

    total_calls: int = 0
    usage: Usage = Usage()
    total_cost: float = 0.0
    per_model: dict[str, Stats] = Field(default_factory=dict)


class Spending:
    """The records of one stage; every method blocks.

    Args:
        directory: where they are kept; None keeps them in memory.
    """

    def __init__(self, directory: Directory | None) -> None:
        self._directory = directory
        self._records: dict[str, Record] = {}

    def get(self, batch_id: str) -> Record | None:
        """The record of a batch, None before it is counted."""
        if batch_id in self._records or self._directory is None:
            return self._records.get(batch_id)
        return load(self._directory, _name(batch_id), Record)

    def count(self, record: Record) -> Record:
        """Keep a record, unless the batch has one; returns the one that counts."""
        if known := self.get(record.batch_id):
            return known
        if self._directory and not self._directory.create(_name(record.batch_id), record.model_dump_json().encode()):
            return self.get(record.batch_id) or record
        self._records[record.batch_id] = record
        return record

    def stats(self) -> Stats:
        """Sums over all records."""
        for name in self._directory.names("records") if self._directory else ():
            if self._directory and (record := load(self._directory, f"records/{name}", Record)):
                self._records[record.batch_id] = record
        by_model: dict[str, list[Record]] = defaultdict(list)
        for record in self._records.values():
            by_model[record.model].append(record)
        per_model = {model: _sum(records) for model, records in by_model.items()}
        return _sum(self._records.values()).model_copy(update={"per_model": per_model})


def record_of(rows: Sequence[BatchRow], prices: PriceBook, batch_id: str, topic: str, model: str) -> Record:
    """Return the record of a batch from its rows, each at its own price.

    Args:
        model: the one that was asked, in rows that do not name the one that answered.
    """
    bill = Bill(prices, model)
    bill.add_rows(rows)
    return Record(
        batch_id=batch_id,
        topic=topic,
        model=model,
        calls=len(rows),
        usage=sum((row.usage for row in rows), Usage()),
        cost=bill.cost,
        per_call=tuple(_call(row, prices, model) for row in rows),
    )


def _call(row: BatchRow, prices: PriceBook, model: str) -> Call:
    bill = Bill(prices, model)
    bill.add_rows([row])
    return Call(
        custom_id=row.custom_id, model=row.model or model, status=row.status, usage=row.usage, usd=bill.cost.usd
    )


def _sum(records: Iterable[Record]) -> Stats:
    every = list(records)
    return Stats(
        total_calls=sum(record.calls for record in every),
        usage=sum((record.usage for record in every), Usage()),
        total_cost=float(sum(Decimal(str(record.cost.usd or 0)) for record in every)),
    )


def _name(batch_id: str) -> str:
    # An id comes from the provider and may be anything, so it never becomes a path.
    return f"records/{hashlib.blake2b(batch_id.encode(), digest_size=16).hexdigest()}.json"
