"""The columns that were kept with a plan, read again in the order of its rows."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import msgspec

from airflow_batch_provider.compression import reading
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.row_files import batches_of, open_parquet, records
from airflow_batch_provider.tables.keeping import LINES, PARQUET, Header

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_batch_provider.storage import Directory


class KeptRows(Protocol):
    """Kept columns of the rows that come next.

    Attributes:
        names: of the columns, in order.
    """

    names: tuple[str, ...]

    def records(self, count: int) -> list[dict[str, Any]]:
        """Return the next rows, each with every column."""

    def arrow(self, count: int) -> pa.RecordBatch:
        """Return the next rows in Arrow's form."""

    def schema(self) -> pa.Schema:
        """Return the columns' types in Arrow's form."""


@contextmanager
def kept_rows(directory: Directory, stem: str) -> Iterator[KeptRows]:
    """The rows that a `Keeper` saved under this stem.

    Raises:
        UsageError: there are none; the next attempt writes them.
    """
    names = set(directory.names())
    if f"{stem}{PARQUET}" in names:
        with open_parquet(directory.root / f"{stem}{PARQUET}") as table:
            yield _KeptBatches(table)
    elif f"{stem}{LINES}" in names:
        with directory.reader(f"{stem}{LINES}") as raw, reading(raw, LINES) as file:
            yield _KeptLines(file)
    else:
        raise UsageError(f"{directory.uri(stem)}.* is gone: the columns to keep. Clear the task: it writes them again.")


class _KeptLines:
    def __init__(self, file: BinaryIO) -> None:
        header = msgspec.json.decode(file.readline(), type=Header)
        self.names = tuple(header.columns)
        self._kinds = header.columns
        self._empty: dict[str, Any] = dict.fromkeys(self.names)
        self._rows = map(msgspec.json.Decoder(dict[str, Any]).decode, file)

    def records(self, count: int) -> list[dict[str, Any]]:
        return [self._empty | row for row in islice(self._rows, count)]

    def arrow(self, count: int) -> pa.RecordBatch:
        import pyarrow as pa

        from airflow_batch_provider.arrow_arrays import arrow_array  # noqa: PLC0415 — pyarrow is an extra

        schema, rows = self.schema(), self.records(count)
        arrays = [
            arrow_array([_typed(row[field.name], self._kinds[field.name]) for row in rows], field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        types = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
        return pa.schema([(name, types.get(kind, pa.string())) for name, kind in self._kinds.items()])


def _typed(value: Any, kind: str) -> Any:
    return value if value is None or kind != "json" else msgspec.json.encode(value).decode()


class _KeptBatches:
    def __init__(self, table: pq.ParquetFile) -> None:
        self._schema = table.schema_arrow.remove_metadata()
        self.names = tuple(self._schema.names)
        self._batches = batches_of(table)
        self._rest: pa.RecordBatch | None = None

    def records(self, count: int) -> list[dict[str, Any]]:
        return records(self.arrow(count))

    def arrow(self, count: int) -> pa.RecordBatch:
        import pyarrow as pa

        taken = []
        while count:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._batches)
            taken.append(self._rest.slice(0, count))
            self._rest = self._rest.slice(taken[-1].num_rows)
            count -= taken[-1].num_rows
        return taken[0] if len(taken) == 1 else pa.concat_batches(taken)

    def schema(self) -> pa.Schema:
        return self._schema
