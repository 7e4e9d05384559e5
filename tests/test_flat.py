"""Memory is flat in the number of rows: how many rows are alive at once does not depend on how many there are."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from weakref import finalize

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_requests import requests_of
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile
from parquet_files import group_sizes
from upath import UPath

from airflow_batch_provider.models import Spec
from airflow_batch_provider.parquet import write_group, write_groups, write_parquet
from airflow_batch_provider.row_files import RowFile, batches_of, blocks_in, open_parquet
from airflow_batch_provider.rows import Row
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.tables import batches
from airflow_batch_provider.tables.batches import Batches
from airflow_batch_provider.tables.columns import KeptColumns


class CountedRow(Row, frozen=True, kw_only=True, weakref=True):
    """A row that can be counted while it is alive."""


class Census:
    """Makes rows and counts how many of them are alive at most."""

    def __init__(self):
        self.alive = 0
        self.most = 0

    def rows(self, count):
        for index in range(count):
            row = CountedRow(custom_id=f"row-{index}", index=index, status="succeeded", output=msgspec.Raw(b'"answer"'))
            self.alive += 1
            finalize(row, self._gone)
            self.most = max(self.most, self.alive)
            yield row

    def _gone(self):
        self.alive -= 1


def test_parquet_holds_few_rows_as_python_objects():
    """A row group is gathered in Arrow's form, not as ten thousand dicts (which took 100 MB)."""
    census = Census()

    write_parquet(io.BytesIO(), census.rows(12_000), Spec(model="m"))

    assert census.most <= 1_000


def test_a_row_group_is_let_go_of_before_the_next_one_grows():
    """Two of them were in memory at once."""
    alive, most = set(), []

    def batches():
        for number in range(25):
            batch = pa.RecordBatch.from_arrays([pa.nulls(1000, pa.string())], names=["text"])
            alive.add(number)
            finalize(batch, alive.remove, number)
            most.append(len(alive))
            yield batch

    file = io.BytesIO()
    write_groups(file, pa.schema([("text", pa.string())]), batches())

    assert pq.ParquetFile(file).metadata.num_row_groups == 3
    assert max(most) <= 12


def sizes_of(columns, batches, count):
    """Write so many batches of 10,000 rows and return how many rows each row group has."""
    names = [f"c{number}" for number in range(columns)]
    batch = pa.RecordBatch.from_arrays([pa.nulls(10_000, pa.string())] * columns, names=names)
    file = io.BytesIO()

    write_groups(file, batch.schema, (batch for _ in range(batches)), count)

    sizes = group_sizes(file)
    assert sum(sizes) == batches * 10_000
    return sizes


def test_row_groups_grow_with_a_file_of_unknown_length():
    """pyarrow keeps what it knows of each column of each until the file is closed: a million long rows took 45 MB for that."""
    sizes = sizes_of(columns=14, batches=300, count=None)

    assert sizes[0] == 10_000
    assert len(sizes) < 180
    assert max(sizes) <= 40_000


def test_row_groups_of_a_file_of_known_length_are_as_large_from_the_first_on():
    """Those that grow come to a last one that is twice as large, and to more of them."""
    sizes = sizes_of(columns=14, batches=150, count=1_500_000)

    assert set(sizes) == {20_000}


@pytest.mark.parametrize(("columns", "batches", "count"), [(2, 200, 2_000_000), (14, 40, 400_000), (14, 20, None)])
def test_row_groups_stay_small_in_a_file_that_has_few_of_them_or_few_columns(columns, batches, count):
    """Nothing is saved by larger ones there."""
    assert set(sizes_of(columns, batches, count)) == {10_000}


def test_a_file_that_has_more_rows_than_was_said_has_small_row_groups():
    """Whoever said it did not know better."""
    assert set(sizes_of(columns=14, batches=40, count=10)) == {10_000}


def test_a_few_huge_answers_at_the_beginning_make_no_huge_row_group():
    """As if all of a million were so: none is larger than sixteen small ones."""
    huge = pa.RecordBatch.from_arrays([pa.array(["x" * (1 << 20)] * 4)], names=["c"])
    file = io.BytesIO()

    write_groups(file, huge.schema, (huge for _ in range(20)), 1_000_000_000)

    assert group_sizes(file) == [32, 32, 16]


@pytest.mark.parametrize("length", [10, 1_000, 100_000])
@pytest.mark.parametrize("is_same", [True, False])
def test_long_rows_of_parquet_are_read_few_at_a_time(tmp_path, length, is_same):
    """A thousand documents were 100 MB at once; one that all rows share is stored once, and is as long in each."""
    texts = [os.urandom(length // 2).hex() for _ in range(1 if is_same else 3_000_000 // length)]
    rows = max(1, 3_000_000 // length // len(texts)) * texts
    pq.write_table(pa.table({"text": rows}), tmp_path / "rows.parquet")

    with open_parquet(UPath(tmp_path / "rows.parquet")) as table:
        read = [(batch.num_rows, batch.nbytes) for batch in batches_of(table)]

    assert sum(count for count, _ in read) == len(rows)
    assert max(size for _, size in read) < 300_000
    assert max(count for count, _ in read) >= min(1_000, len(rows), 200_000 // length)


def test_files_of_different_types_become_one_a_few_rows_at_a_time(tmp_path, monkeypatch):
    """The first file of a kept table was read ahead, which was all of it."""
    held, before = [], pa.total_allocated_bytes()

    def noted(writer, group):
        held.append(pa.total_allocated_bytes() - before)
        write_group(writer, group)

    monkeypatch.setattr(batches, "write_group", noted)
    spool = Batches(KeptColumns(columns=None, key="id"), Spec(model="m"), tmp_path)
    for number in range(20_000 // 500):
        texts = [os.urandom(500).hex() for _ in range(500)]
        spool.add(pa.record_batch({"id": [f"{number}-{row}" for row in range(500)], "text": texts}))
    spool.add(pa.record_batch({"id": ["last"], "text": ["x"], "more": [1]}))

    made = spool.finished()

    assert pq.read_metadata(made).num_rows == 20_001
    assert max(held) < 6 << 20


def test_parquet_of_no_rows_is_read(tmp_path):
    """With a row group of none, and without any."""
    for number, size in enumerate((0, 1)):
        path = tmp_path / f"{number}.parquet"
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for _ in range(size):
                writer.write_table(pa.table({"text": pa.nulls(0, pa.string())}))
        with open_parquet(UPath(path)) as table:
            assert sum(batch.num_rows for batch in batches_of(table)) == 0


def test_results_as_parquet_need_no_room_for_what_differs_in_every_row():
    """Arrow keeps a dictionary of up to a megabyte, and two large pages, for each column that is written or read."""
    texts = [os.urandom(500).hex() for _ in range(6_000)]
    answers = [msgspec.Raw(msgspec.json.encode({"why": text})) for text in texts]
    rows = (Row(custom_id=f"{n}", index=n, status="succeeded", output=answer) for n, answer in enumerate(answers))
    schema = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
    file = io.BytesIO()

    write_parquet(file, rows, Spec(model="m", output_schema=schema))

    table = pq.ParquetFile(file)
    groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    columns = {column.path_in_schema: column for column in map(groups[0].column, range(groups[0].num_columns))}
    assert max(group.total_byte_size for group in groups) < 3 << 20
    assert [columns[name].has_dictionary_page for name in ("status", "custom_id", "output.why")] == [True, False, False]
    assert table.read()["output"].to_pylist() == [{"why": text} for text in texts]


class CountedFile(io.FileIO):
    """A file that counts the bytes which are read of it."""

    taken = 0

    def read(self, size=-1):
        data = super().read(size)
        self.taken += len(data)
        return data


class CountedPath:
    """A path, as `requests_of` opens it, that keeps the file it opened."""

    def __init__(self, path):
        self.path = str(path)
        self.fs = self

    def __str__(self):
        return self.path

    def open(self, path, _mode, **_options):
        self.file = CountedFile(path)
        return self.file


def test_a_parquet_source_is_read_as_its_rows_are_taken(tmp_path):
    """Even when it is one row group, as pyarrow writes up to a million rows: read ahead, it would all be in memory."""
    texts = [os.urandom(1_000).hex() for _ in range(10_000)]
    path = CountedPath(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"text": texts}), path.path, compression=None)
    size = (tmp_path / "rows.parquet").stat().st_size

    requests = requests_of(path, "{text}")

    assert next(requests).prompt == texts[0]
    assert path.file.taken < size / 3
    assert sum(1 for _ in requests) == 9_999
    assert path.file.taken >= size * 0.9


class Store(AbstractFileSystem):
    """An object store, as fsspec reads those: a file comes in ranges, with so much more of it as a block has."""

    protocol = "counted"

    def __init__(self):
        super().__init__()
        self.objects = {}
        self.fetched = []

    def info(self, path, **_options):
        return {"name": path, "type": "file", "size": len(self.objects[path])}

    def _open(self, path, mode="rb", block_size=50 << 20, **options):
        return StoredFile(self, path, mode, block_size, **options)


class StoredFile(AbstractBufferedFile):
    """A file of it; by default s3fs takes 50 MB of one at once."""

    def _fetch_range(self, start, end):
        self.fs.fetched.append(end - start)
        return self.fs.objects[self.path][start:end]


def test_turns_between_columns_do_not_fetch_a_file_over_and_over():
    """Columns of a large row group are read by turns: with blocks of 50 MB each turn fetched the file again."""
    store, file = Store(), io.BytesIO()
    texts = [os.urandom(1_000).hex() for _ in range(4_000)]
    pq.write_table(pa.table({"id": texts, "unused": texts, "text": texts}), file, compression=None)
    store.objects["rows.parquet"] = file.getvalue()

    taken = [
        row for block in blocks_in(RowFile(store, "rows.parquet", "rows.parquet"), ["id", "text"]) for row in block
    ]

    assert [row["text"] for row in taken] == texts
    assert sum(store.fetched) < 1.7 * len(file.getvalue())
    assert max(store.fetched) < 3 << 20


def test_a_large_file_goes_to_an_object_store_in_small_parts(s3_url):
    """s3fs reads a part whole before it sends it, and by default ten of 50 MB at once."""
    directory = Directory(UPath("s3://batches/large", key="k", secret="s", endpoint_url=s3_url))

    with directory.writer("file") as file:
        for _ in range(40):
            file.write(bytes(1 << 20))

    stored = directory.root.fs.info("batches/large/file")
    assert stored["size"] == 40 << 20
    assert stored["ETag"].endswith('-5"')  # S3 says how many parts made the object


_KEEPS = """
import sys
from upath import UPath
from airflow_batch_provider.models import Spec
from airflow_batch_provider.sources import request_blocks
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.tables.columns import KeptColumns
from airflow_batch_provider.tables.keeping import Keeper

folder = UPath(sys.argv[1])
keeper = Keeper(KeptColumns(columns=None, key="id"), Spec(model="m"))
rows = [row for block in request_blocks(folder / "rows.parquet", "{text}", "id", keeper) for row in block]
keeper.save(Directory(folder), "kept")
keeper.close()
print(len(rows), "pandas" in sys.modules)
"""


def test_a_table_is_read_and_kept_without_pandas(tmp_path):
    """Which takes 50 MB where it is installed, and which pyarrow imports to make arrays of lists."""
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", "y"]}), tmp_path / "rows.parquet")

    command = [sys.executable, "-c", _KEEPS, str(tmp_path)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    assert told.split() == ["2", "False"]


_WRITES = """
import io, sys
import msgspec
from airflow_batch_provider.models import RowError, Spec
from airflow_batch_provider.parquet import write_groups, write_parquet
from airflow_batch_provider.rows import Row

answers = [b'{"label":"good","tags":["a"]}', b'{"label":"good","more":1}', b'"not JSON"']
error = RowError(code="invalid_output", message="it is not JSON", retryable=True)
rows = [
    Row(custom_id="a", index=0, status="succeeded", output=msgspec.Raw(answers[0])),
    Row(custom_id="b", index=1, status="succeeded", output=msgspec.Raw(answers[1])),
    Row(custom_id="c", index=2, status="invalid", output=msgspec.Raw(answers[2]), error=error),
]
label = {"label": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}
for schema, kind in ((None, "generate"), ({"type": "object", "properties": label}, "generate")):
    write_parquet(io.BytesIO(), iter(rows), Spec(model="m", kind=kind, output_schema=schema))
print("pandas" in sys.modules)
"""


def test_results_are_written_as_parquet_without_pandas():
    """Good answers, one with more fields than its schema, and a bad one."""
    told = subprocess.run([sys.executable, "-c", _WRITES], check=True, stdout=subprocess.PIPE, text=True).stdout

    assert told.split() == ["False"]
