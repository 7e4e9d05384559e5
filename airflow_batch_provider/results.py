"""Typed rows of a finished task, read lazily from where its manifest points."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Generic

from pydantic_core import PydanticSerializationError
from typing_extensions import TypeVar

from airflow_batch_provider.addresses import as_uri
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.misfits import Misfit, Wording
from airflow_batch_provider.models import BatchRow, Manifest, RowError, Spec
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.parquet import write_parquet
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.prompts import as_text
from airflow_batch_provider.result_files import ResultFiles
from airflow_batch_provider.rows import decode_row
from airflow_batch_provider.schemas import as_raw, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import pyarrow as pa

    from airflow_batch_provider.models import Kind

OutputT = TypeVar("OutputT", default=Any)


class BatchResults(Generic[OutputT]):
    """One row per request, in the order asked.

    Args:
        manifest: what the task returned, as it comes from XCom; or the results file itself, by its path or URI, or the
            folder of its part files.
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
        self._wording = Wording({} if self._type is None else self._type.schema)
        manifest = as_uri(manifest)
        if isinstance(manifest, str | os.PathLike):
            self.manifest = None
            self._files = ResultFiles.at(open_path(os.fspath(manifest)))
            return
        self.manifest = manifest if isinstance(manifest, Manifest) else Manifest.model_validate(manifest)
        if self.manifest.dry_run:
            raise UsageError("A dry run has no results: nothing was asked. Run the task with dry_run=False.")
        self._files = ResultFiles.of(open_path(self.manifest.results), self.manifest)

    def __len__(self) -> int:
        """The number of requests; of files without manifest it is counted."""
        return self._files.count() if self.manifest is None else self.manifest.requests

    def __iter__(self) -> Iterator[BatchRow]:
        """Every row, whatever became of it."""
        return map(self._typed, self._files.rows())

    def succeeded(self) -> Iterator[BatchRow]:
        """The rows with a good answer."""
        return (row for row in self if row.status == "succeeded")

    def outputs(self) -> Iterator[OutputT]:
        """The good answers alone."""
        return (row.output for row in self.succeeded())

    def to_arrow(self) -> pa.Table:
        """All rows in memory as an Arrow table (needs pyarrow), with the columns of a Parquet file.

        A JSONL file does not know its schema: `output` has its type when `output_type` was given, and is text else, with
        answers that are not text in `output_json`. Of a table as JSONL or CSV the types are those that Arrow finds; a column of several is text.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._files.format == "parquet":
            return pa.concat_tables(self._files.arrow_tables())
        if self._files.table is not None:
            return _as_found(list(self._files.records()))
        file = io.BytesIO()
        write_parquet(file, map(decode_row, self._files.lines()), self._spec())
        return pq.read_table(file)

    def to_pandas(self) -> pd.DataFrame:
        """All rows in memory as a pandas frame (needs pandas); of a table its own columns."""
        import pandas as pd

        if self._files.format == "parquet":
            return self.to_arrow().to_pandas()
        if self._files.table is not None:
            return pd.DataFrame(list(self._files.records()))
        return pd.DataFrame([self._record(row) for row in self._files.rows()])

    def _record(self, row: BatchRow) -> dict[str, Any]:
        """Return a row as JSON values; its answer as it landed, where the type reads it but does not write it."""
        try:
            return self._typed(row).model_dump(mode="json", exclude={"columns"})
        except PydanticSerializationError:
            return row.model_dump(mode="json", exclude={"columns"})

    def _spec(self) -> Spec:
        """Return what was asked for, as far as it is known here."""
        kind: Kind = "embed" if self.manifest is not None and self.manifest.stage == "batch-embed" else "generate"
        model = "unknown" if self.manifest is None else self.manifest.model
        return Spec(kind=kind, model=model, output_schema=None if self._type is None else self._type.schema)

    def _typed(self, row: BatchRow) -> BatchRow:
        """Return the row with its answer as the model, or as `invalid` with the raw answer and why the model refused it."""
        adapter = None if self._type is None else self._type.adapter
        if row.status != "succeeded" or adapter is None:
            return row
        match typed(adapter, as_raw(row.output), self._wording):
            case Misfit(problem=problem):
                error = RowError(code="invalid_output", message=problem, retryable=False)
                return row.model_copy(update={"status": "invalid", "error": error})
            case value:
                return row.model_copy(update={"output": value})


def _as_found(records: list[dict[str, Any]]) -> pa.Table:
    """Return rows of a table with the types that Arrow finds in them; a column that has no one type is text, as in a CSV."""
    import pyarrow as pa

    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError):
            columns[name] = pa.array([None if value is None else as_text(value) for value in values], pa.string())
    return pa.table(columns)
