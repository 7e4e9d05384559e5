"""Typed rows of a finished task, read lazily from where its manifest points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

import msgspec
from typing_extensions import TypeVar

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRow, Manifest, RowError
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.parquet import SCHEMA_KEY, restored
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.schemas import Misfit, as_raw, typed
from airflow_batch_provider.sources import open_parquet, parquet_records
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

OutputT = TypeVar("OutputT", default=Any)


class BatchResults(Generic[OutputT]):
    """One row per request, in the order asked.

    Args:
        manifest: what the task returned, as it comes from XCom.
        output_type: type that each good answer becomes, such as a model class, a dataclass or `list[Model]`; without it
            answers stay str, dict or list.

    Raises:
        UsageError: there are no results (a dry run), or they cannot be opened.

    Iterating gives `BatchRow`s; a million rows take no more memory than a thousand.
    """

    def __init__(self, manifest: Manifest | dict[str, Any], output_type: type[OutputT] | Any = None) -> None:
        self.manifest = manifest if isinstance(manifest, Manifest) else Manifest.model_validate(manifest)
        if self.manifest.dry_run:
            raise UsageError("A dry run has no results: nothing was asked. Run the task with dry_run=False.")
        self._path = open_path(self.manifest.results)
        self._adapter = None if output_type is None else OutputType.of(output_type).adapter

    def __len__(self) -> int:
        """The number of requests."""
        return self.manifest.requests

    def __iter__(self) -> Iterator[BatchRow]:
        """Every row, whatever became of it."""
        rows = self._parquet() if self.manifest.format == "parquet" else self._jsonl()
        for row in rows:
            yield self._typed(row)

    def succeeded(self) -> Iterator[BatchRow]:
        """The rows with a good answer."""
        return (row for row in self if row.status == "succeeded")

    def outputs(self) -> Iterator[OutputT]:
        """The good answers alone."""
        return (row.output for row in self.succeeded())

    def to_arrow(self) -> pa.Table:
        """All rows in memory as an Arrow table (needs pyarrow)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.manifest.format == "parquet":
            with self._path.fs.open(self._path.path, "rb") as file:
                return pq.read_table(file)
        return pa.Table.from_pylist([row.model_dump(mode="json") for row in self])

    def to_pandas(self) -> pd.DataFrame:
        """All rows in memory as a pandas frame (needs pandas)."""
        import pandas as pd

        if self.manifest.format == "parquet":
            return self.to_arrow().to_pandas()
        return pd.DataFrame([row.model_dump(mode="json") for row in self])

    def _jsonl(self) -> Iterator[BatchRow]:
        directory = Directory(self._path.parent)
        for line in directory.lines(self._path.name):
            yield BatchRow.model_validate_json(line)

    def _parquet(self) -> Iterator[BatchRow]:
        with open_parquet(self._path) as table:
            from airflow_batch_provider.arrow import column_of  # noqa: PLC0415 — pyarrow is an extra

            schema = msgspec.json.decode(table.schema_arrow.metadata[SCHEMA_KEY])
            column = column_of(schema) if schema is not None else None
            for record in parquet_records(table):
                yield BatchRow(output=restored(record, column), **record)

    def _typed(self, row: BatchRow) -> BatchRow:
        """Return the row with its answer as the model, or as `invalid` with the raw answer and why the model refused it."""
        if row.status != "succeeded" or self._adapter is None:
            return row
        match typed(self._adapter, as_raw(row.output)):
            case Misfit(problem=problem):
                error = RowError(code="invalid_output", message=problem, retryable=False)
                return row.model_copy(update={"status": "invalid", "error": error})
            case value:
                return row.model_copy(update={"output": value})
