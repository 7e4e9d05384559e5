"""Typed rows of a finished task, read lazily from where its manifest points."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Generic

import msgspec
from typing_extensions import TypeVar

from airflow_batch_provider.compression import reading
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.formats import format_of
from airflow_batch_provider.models import BatchRow, Manifest, RowError, Spec
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.parquet import SCHEMA_KEY, restored, write_parquet
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.row_files import open_parquet, parquet_records
from airflow_batch_provider.rows import decode_row
from airflow_batch_provider.schemas import Misfit, as_raw, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

    from airflow_batch_provider.models import Kind

OutputT = TypeVar("OutputT", default=Any)

_BLOCK = 1 << 20


class BatchResults(Generic[OutputT]):
    """One row per request, in the order asked.

    Args:
        manifest: what the task returned, as it comes from XCom; or the results file itself, by its path or URI.
        output_type: type that each good answer becomes, such as a model class, a dataclass or `list[Model]`; without it
            answers stay str, dict or list.

    Attributes:
        manifest: None where a file was opened.

    Raises:
        UsageError: there are no results (a dry run), or they cannot be opened.

    Iterating gives `BatchRow`s; a million rows take no more memory than a thousand.
    """

    def __init__(
        self, manifest: Manifest | dict[str, Any] | str | os.PathLike[str], output_type: type[OutputT] | Any = None
    ) -> None:
        self._type = None if output_type is None else OutputType.of(output_type)
        if isinstance(manifest, str | os.PathLike):
            self.manifest = None
            self._path = open_path(str(manifest))
            self._is_parquet = format_of(self._path.name) == "parquet"
            return
        self.manifest = manifest if isinstance(manifest, Manifest) else Manifest.model_validate(manifest)
        if self.manifest.dry_run:
            raise UsageError("A dry run has no results: nothing was asked. Run the task with dry_run=False.")
        self._path = open_path(self.manifest.results)
        self._is_parquet = self.manifest.format == "parquet"

    def __len__(self) -> int:
        """The number of requests; of a file without manifest it is counted."""
        if self.manifest is not None:
            return self.manifest.requests
        if not self._is_parquet:
            return sum(1 for _ in self._lines())
        with open_parquet(self._path) as table:
            return int(table.metadata.num_rows)

    def __iter__(self) -> Iterator[BatchRow]:
        """Every row, whatever became of it."""
        for row in self._parquet() if self._is_parquet else self._jsonl():
            yield self._typed(row)

    def succeeded(self) -> Iterator[BatchRow]:
        """The rows with a good answer."""
        return (row for row in self if row.status == "succeeded")

    def outputs(self) -> Iterator[OutputT]:
        """The good answers alone."""
        return (row.output for row in self.succeeded())

    def to_arrow(self) -> pa.Table:
        """All rows in memory as an Arrow table (needs pyarrow), with the columns of a Parquet file.

        A JSONL file does not know its schema: `output` has its type when `output_type` was given, and is text else, with
        answers that are not text in `output_json`.
        """
        import pyarrow.parquet as pq

        if self._is_parquet:
            with self._path.fs.open(self._path.path, "rb") as file:
                return pq.read_table(file)
        file = io.BytesIO()
        write_parquet(file, map(decode_row, self._lines()), self._spec())
        return pq.read_table(file)

    def to_pandas(self) -> pd.DataFrame:
        """All rows in memory as a pandas frame (needs pandas)."""
        import pandas as pd

        if self._is_parquet:
            return self.to_arrow().to_pandas()
        return pd.DataFrame([row.model_dump(mode="json") for row in self])

    def _spec(self) -> Spec:
        """Return what was asked for, as far as it is known here."""
        kind: Kind = "embed" if self.manifest is not None and self.manifest.stage == "batch-embed" else "generate"
        model = "unknown" if self.manifest is None else self.manifest.model
        return Spec(kind=kind, model=model, output_schema=None if self._type is None else self._type.schema)

    def _lines(self) -> Iterator[bytes]:
        with self._path.fs.open(self._path.path, "rb", block_size=_BLOCK) as raw, reading(raw, self._path.name) as file:
            for line in file:
                yield line.removesuffix(b"\n")

    def _jsonl(self) -> Iterator[BatchRow]:
        for line in self._lines():
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
        adapter = None if self._type is None else self._type.adapter
        if row.status != "succeeded" or adapter is None:
            return row
        match typed(adapter, as_raw(row.output)):
            case Misfit(problem=problem):
                error = RowError(code="invalid_output", message=problem, retryable=False)
                return row.model_copy(update={"status": "invalid", "error": error})
            case value:
                return row.model_copy(update={"output": value})
