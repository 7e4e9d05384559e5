"""The small result of a task, and what it consists of: columns, reasons, cost."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from airflow_batch_provider.formats import ResultFormat
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.models.answers import RowStatus
from airflow_batch_provider.usage import Usage


class TableColumns(FrozenModel):
    """The columns of results that are a table.

    Attributes:
        key: the source's column that holds the `custom_id`; None where rows are numbered.
        kept: the columns of the source, in order.
        fields: fields of the answers, each a column; None where the column `output` holds the whole answer. In CSV a field
            that is `text` is written as it is, and one that is `json` as JSON.
        output: the same of the column `output`.
        prefix: stands before the names of all columns that are not the source's.
    """

    key: str | None = None
    kept: tuple[str, ...] = ()
    fields: dict[str, Literal["text", "json"]] | None = None
    output: Literal["text", "json"] = "json"
    prefix: str = ""


class ErrorReason(FrozenModel):
    """One reason why rows have no answer."""

    code: str
    message: str
    count: int
    sample: tuple[str, ...]


class ErrorDigest(FrozenModel):
    """The top reasons why rows have no good answer, most frequent first."""

    reasons: tuple[ErrorReason, ...] = ()

    @property
    def in_one_line(self) -> str:
        """The same reasons as a part of a sentence."""
        return "; ".join(" ".join(reason.split()) for reason in str(self).splitlines())

    def __str__(self) -> str:
        """One line per reason: count, code, message, sample of the users' keys."""
        return "\n".join(
            f"{r.count} x {r.code}: {r.message} (e.g. {', '.join(repr(key) for key in r.sample)})" for r in self.reasons
        )


class Cost(FrozenModel):
    """Money, each row at its own price, then the sum.

    Free allowances, contracts and the storage of caches are not in it, since no reply tells of them.

    Attributes:
        usd: what the batch costs; None when the model has no known price.
        saved_usd: what the same rows would have cost more without batching; None when unknown.
        estimated: True when a batch discount of one half was assumed because no batch price is published.
        currency: of both amounts.
        source: where the prices come from: a library with its version, or custom prices; None without a price.
        unpriced: what the amount leaves out, or charges like text, because nobody knows its price: fields of `Usage`,
            or `model` for rows of a model without a price.
    """

    usd: float | None = None
    saved_usd: float | None = None
    estimated: bool = False
    currency: Literal["USD"] = "USD"
    source: str | None = None
    unpriced: tuple[str, ...] = ()


class Manifest(FrozenModel):
    """The small result of a task that goes to XCom: where the rows are, counts, tokens, cost.

    Attributes:
        results: URI of the rows, readable with `BatchResults(manifest)`.
        format: `jsonl`, `csv`, `tsv` or `parquet`; all but the last also with `.gz` or `.zst`.
        counts: row status → number of rows; the numbers sum to `requests`.
        table: the columns of results that are a table, None of others.
        files: number of part files in the folder `results`; None where `results` is a file.
        copies: number of rows that have the answer of another one, which asked the same; they cost nothing.
        cached: number of rows whose answers an earlier task has bought, from the row cache; they cost nothing.
        waves: number of waves that were asked.
        batches: ids at the provider, oldest first.
        dry_run: True when nothing was bought: usage and cost are the estimate, every row that can be asked counts as
            missing.
        withheld: a sentence on rows that were not bought because of `max_cost_usd` or a budget, with the sums; None without any.
    """

    schema_version: Literal[1] = 1
    stage: str
    provider: str
    model: str
    results: str
    format: ResultFormat = "jsonl"
    table: TableColumns | None = None
    files: int | None = None
    requests: int
    counts: dict[RowStatus, int]
    usage: Usage = Usage()
    cost: Cost = Cost()
    copies: int = 0
    cached: int = 0
    waves: int = 1
    batches: tuple[str, ...] = ()
    errors: ErrorDigest = ErrorDigest()
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    dry_run: bool = False
    withheld: str | None = None
