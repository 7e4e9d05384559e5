"""Kept columns of Parquet and Arrow, gathered in their own types."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pyarrow as pa  # noqa: TID253 — an extra; only sources that need it import this module
import pyarrow.parquet as pq  # noqa: TID253
from upath import UPath

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.parquet import RowGroup, groups, scratch_parquet, write_group
from airflow_batch_provider.row_files import batches_of, open_parquet
from airflow_batch_provider.tables.keeping import PARQUET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.tables.columns import KeptColumns


class Batches:
    """Rows as Parquet: a file for each schema that the source has, and in the end one for all."""

    ending = PARQUET

    def __init__(self, kept: KeptColumns, spec: Spec, scratch: Path) -> None:
        self._kept, self._spec, self._scratch = kept, spec, scratch
        self._paths: list[Path] = []
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._open = ExitStack()
        self._waiting = RowGroup()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows."""
        wanted = self._kept.columns
        kept = batch if wanted is None else batch.select([name for name in wanted if name in batch.schema.names])
        kept = kept.replace_schema_metadata(None)
        if self._schema is None or not kept.schema.equals(self._schema):
            self._meet(kept.schema)
        if self._waiting.add(kept):
            self._flush()

    def _meet(self, schema: pa.Schema) -> None:
        if doubled := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise UsageError(f"The source has the column {doubled[0]!r} more than once. Rename it.")
        self._kept.check(schema.names, self._spec)
        self._end()
        self._paths.append(self._scratch / f"{len(self._paths)}.parquet")
        try:
            self._writer = self._open.enter_context(scratch_parquet(self._paths[-1], schema))
        except (pa.ArrowException, ValueError) as error:
            raise UsageError(
                f"The source has a column that Parquet does not take: {error}. Cast or leave it out."
            ) from None
        self._schema = schema

    def _flush(self) -> None:
        group = self._waiting.take()
        if self._writer is not None and group:
            write_group(self._writer, group)

    def _end(self) -> None:
        self._flush()
        self._waiting = RowGroup()
        self.close()

    def close(self) -> None:
        """Write no more."""
        self._writer = None
        self._open.close()

    def finished(self) -> Path:
        """Return one file of all rows.

        Raises:
            UsageError: the schemas of the source's files do not go together, or lack a column.
        """
        self._end()
        schemas = [pq.read_schema(path) for path in self._paths]
        try:
            schema = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as error:
            raise UsageError(
                f"The files of the source have different types: {error}. Cast the column in all of them."
            ) from None
        if unknown := [name for name in self._kept.columns or () if name not in schema.names]:
            raise UsageError(
                f"keep_columns names {unknown[0]!r}. The columns of the source are {', '.join(schema.names)}."
            )
        if len(self._paths) == 1:
            return self._paths[0]
        if self._kept.columns is not None:
            schema = pa.schema([schema.field(name) for name in self._kept.columns])
        path = self._scratch / "file"
        with scratch_parquet(path, schema) as writer:
            for group in groups(_cast(batch, schema) for batch in self._batches()):
                write_group(writer, group)
        return path

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with open_parquet(UPath(path)) as file:
                yield from batches_of(file)


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows of one schema in another one that has all of its columns."""
    names = batch.schema.names
    arrays = [
        batch.column(field.name).cast(field.type) if field.name in names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
