"""Rows as Parquet, in row groups of bounded size, with an `output` column typed by the JSON schema."""

from __future__ import annotations

import math
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Usage
from airflow_batch_provider.output_types import inner_schema
from airflow_batch_provider.scratch import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

    import pyarrow as pa
    import pyarrow.parquet as pq

    from airflow_batch_provider.arrow import Column
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.rows import Row

# Of a row group, in Arrow's form.
_GROUP_ROWS, _GROUP_BYTES = 10_000, 2 << 20
# Groups times columns of a file until which its row groups have that size (43 groups of our 14 columns); at four times as many they
# have twice that, and so on: a row group then takes about as much memory as the records of all of them, which pyarrow keeps until
# the file is closed (29 KB for a group of ours, 45 with the holes between them, pyarrow 26.0), so that the two together are least.
_SMALL_COLUMNS = 600
# How many times a small row group one may be at most (32 MB): a few huge answers at the beginning promise a huge file.
_MOST_TIMES = 16
# Of a column's page before it is compressed: Arrow's pool holds a few of them for each column that is written or read.
_PAGE_BYTES = 1 << 16
# The columns that say the same of most rows; a dictionary of any other would hold each of its texts, up to a megabyte.
_ALIKE = ["status", "model", "finish_reason", "wave", "batch_id", "error_code", "error.code"]
# Rows as Python objects weigh many times what Arrow makes of them, so only so many are at a time.
_CHUNK_ROWS, _CHUNK_BYTES = 500, 1 << 18
_COUNTS = attrgetter(*Usage.__struct_fields__)
_PERHAPS_UNSET = ("same_as", "cached_at")
_AS_THEY_ARE = ("custom_id", "index", "status", "model", "finish_reason", "wave", "batch_id", *_PERHAPS_UNSET)
_TAKEN = attrgetter(*_AS_THEY_ARE)
# File metadata that holds the JSON schema of the answers, or null.
SCHEMA_KEY = b"airflow_batch_provider.output_schema"


def write_parquet(file: BinaryIO, rows: Iterator[Row], spec: Spec, count: int | None = None) -> None:
    """Write rows in groups of 10,000 rows or about 2 MB, larger ones in a long file; one is in memory, and that in Arrow's form.

    `output` is a string for plain text, list<float32> for embeddings, and for a JSON schema the Arrow type it maps to, or a
    string of JSON where it maps to none. It holds as much of each good answer as its type can; an answer that it would not
    give back exactly stands in `output_json` as well, and a bad answer's text in `output_text`.

    Args:
        count: how many rows there are, about; a long file takes less memory where that is known.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UsageError(
            "result_format='parquet' needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
        ) from error
    table = _Table(pa, spec)
    write_groups(file, table.schema, (table.batch(chunk) for chunk in chunks(rows)), count)


def write_groups(
    file: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch], count: int | None = None
) -> None:
    """Write batches, of about so many rows, as row groups of bounded size."""
    with _writer(file, schema) as writer:
        for group in groups(batches, count):
            write_group(writer, group)


def _writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=_ALIKE, data_page_size=_PAGE_BYTES)


@contextmanager
def scratch_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file in a scratch folder, to write groups to.

    Raises:
        pa.ArrowException, ValueError: Parquet does not take one of the columns.
    """
    with written(path) as file, _writer(file, schema) as writer:
        yield writer


def write_group(writer: pq.ParquetWriter, group: list[pa.RecordBatch]) -> None:
    """Write batches as one row group and let go of them; Arrow's pool would keep 15 MB of what that took (pyarrow 26.0)."""
    import pyarrow as pa

    writer.write_table(pa.Table.from_batches(group))
    group.clear()
    pa.default_memory_pool().release_unused()


def chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Return rows so many at a time as may be in memory as Python objects."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(memoryview(row.output))
        if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class RowGroup:
    """Batches that will be one row group of a file: how large that gets depends on how large the file will be.

    Args:
        count: rows of the file, about; None takes twice those that have come.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._rows_of_file = self._bytes_of_file = 0

    def add(self, batch: pa.RecordBatch) -> bool:
        """Take in rows; True when they are enough."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self._rows_of_file += batch.num_rows
        self._bytes_of_file += batch.nbytes
        times = math.sqrt(self._groups_to_be() * batch.num_columns / _SMALL_COLUMNS)
        return _groups_in(self._rows, self._bytes) >= min(max(1.0, times), _MOST_TIMES)

    def _groups_to_be(self) -> float:
        """Return how many small row groups the file would have, going by its rows so far."""
        rows = self._rows_of_file
        times = 2.0 if self._count is None else max(1.0, self._count / max(1, rows))
        return _groups_in(rows, self._bytes_of_file) * times

    def take(self) -> list[pa.RecordBatch]:
        """Return what was gathered, and begin the next row group."""
        taken, self._batches = self._batches, []
        self._rows = self._bytes = 0
        return taken


def _groups_in(rows: int, size: int) -> float:
    """Return how many small row groups so many rows, or bytes, are."""
    return max(rows / _GROUP_ROWS, size / _GROUP_BYTES)


def groups(batches: Iterable[pa.RecordBatch], count: int | None = None) -> Iterator[list[pa.RecordBatch]]:
    """Return the batches of one row group of a file of about so many rows at a time; whoever writes them lets go of them."""
    group = RowGroup(count)
    for batch in batches:
        if group.add(batch):
            yield group.take()
    if rest := group.take():
        yield rest


class _Table:
    """The columns of the rows of one task."""

    def __init__(self, pa: ModuleType, spec: Spec) -> None:
        from airflow_batch_provider.arrow import column_of  # noqa: PLC0415 — pyarrow is an extra
        from airflow_batch_provider.arrow_arrays import arrow_array, whole_numbers  # noqa: PLC0415 — the same

        self._pa = pa
        self._array, self._numbers = arrow_array, whole_numbers
        self._is_embedding = spec.kind == "embed"
        answer = None if spec.output_schema is None else inner_schema(spec.output_schema)
        self._column: Column | None = column_of(answer) if answer is not None else None
        self._is_text = answer is None
        text, number = pa.string(), pa.int64()
        self._usage = pa.struct([pa.field(name, number) for name in Usage.__struct_fields__])
        error = pa.struct([("code", text), ("message", text), ("retryable", pa.bool_())])
        vector = pa.list_(pa.float32()) if self._is_embedding else text
        self.schema = pa.schema(
            [
                pa.field("custom_id", text, nullable=False),
                pa.field("index", number, nullable=False),
                pa.field("status", text, nullable=False),
                pa.field("output", self._column.arrow if self._column else vector),
                pa.field("output_text", text),
                pa.field("output_json", text),
                pa.field("error", error),
                pa.field("usage", self._usage),
                pa.field("model", text),
                pa.field("finish_reason", text),
                pa.field("wave", number),
                pa.field("batch_id", text),
                pa.field("same_as", text),
                pa.field("cached_at", pa.timestamp("us", "UTC")),
            ],
            {SCHEMA_KEY: msgspec.json.encode(answer)},
        )

    def batch(self, rows: list[Row]) -> pa.RecordBatch:
        """Return these rows in Arrow's form."""
        columns: dict[str, Any] = dict(zip(_AS_THEY_ARE, zip(*map(_TAKEN, rows), strict=True), strict=True))
        columns |= {name: [one or None for one in columns[name]] for name in _PERHAPS_UNSET}
        columns |= self._outputs(rows) | {"error": [row.error and row.error.as_json() for row in rows]}
        arrays = [
            self._usages(rows) if field.name == "usage" else self._array(columns[field.name], field.type)
            for field in self.schema
        ]
        return self._pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _usages(self, rows: list[Row]) -> pa.Array:
        counts = zip(*(_COUNTS(row.usage) for row in rows), strict=True)
        arrays = list(map(self._numbers, counts))
        return self._pa.StructArray.from_arrays(arrays, fields=list(self._usage))

    def _outputs(self, rows: list[Row]) -> dict[str, Any]:
        """Return the three columns of the answers."""
        placed = [self._placed(row) for row in rows]
        outputs, texts, jsons = map(list, zip(*placed, strict=True))
        return {"output": outputs, "output_text": texts, "output_json": jsons}

    def _placed(self, row: Row) -> tuple[Any, str | None, str | None]:
        """Return an answer as `output`, `output_text` and `output_json` have it."""
        value, is_good = row.value, row.status == "succeeded"
        if value is None and not (is_good and self._column):
            return None, None, None
        if self._is_embedding:
            return (value, None, None) if isinstance(value, list) else (None, None, _json(row))
        if isinstance(value, str) and (self._is_text or not is_good):
            return (value, None, None) if self._is_text else (None, value, None)
        if self._column is None:
            return (None if self._is_text else _json(row)), None, _json(row)
        if is_good and self._column.holds(value):
            return value, None, None
        return (self._nearly(value) if is_good else None), None, _json(row)

    def _nearly(self, value: Any) -> Any:
        """Return a value as far as the column takes it; null where it takes nothing of it."""
        assert self._column is not None  # only a typed column holds a part of an answer
        try:
            return self._array([value], self._column.arrow)[0].as_py()
        except (OverflowError, TypeError, ValueError):
            return None


def _json(row: Row) -> str:
    return bytes(row.output).decode()


def restored(record: dict[str, Any], column: Column | None) -> Any:
    """Take the three columns of the answer out of a record, and return the answer as it landed."""
    output, text, encoded = (record.pop(name) for name in ("output", "output_text", "output_json"))
    if encoded is not None:
        return msgspec.json.decode(encoded)
    if text is not None:
        return text
    return output if column is None else column.restored(output)
