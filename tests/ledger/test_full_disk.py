"""The worker's disk is full at any write: of temporary files, and of stage storage on a disk."""

from __future__ import annotations

import errno
import io
import os
import tempfile

import pytest
from fakes import FakeClock, FakeProvider, Job, failing
from full_disks import Disk, on
from upath import UPath
from virtual_time import without_threads

from airflow_batch_provider import results as results_module
from airflow_batch_provider import scratch
from airflow_batch_provider.exceptions import DiskFull
from airflow_batch_provider.ledger import digests, keys, landing
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.config import Source

ROWS = ["a", "b", "c", "d", "e", "a"]
# The last row is a copy of the first.
BOUGHT = {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}
HOW_LONG = pytest.mark.parametrize(
    "stays",
    [
        pytest.param(False, marks=pytest.mark.slow, id="for a moment"),
        pytest.param(True, id="until somebody makes room"),
    ],
)


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch):
    """What goes to disk when there is much of it goes there at once; and the nth write is the same one each time."""
    monkeypatch.setattr(keys, "_FULL", 1)
    monkeypatch.setattr(digests, "_FULL", 1)
    monkeypatch.setattr(landing, "_IN_MEMORY", 0)
    monkeypatch.setattr(results_module, "open_path", UPath)
    with without_threads(lambda: 0):
        yield


def provider():
    """One row needs a second wave; a batch has two rows."""
    fine = Reply(key="", status="succeeded", output="fine")
    return FakeProvider(
        (clock := FakeClock()),
        answer=lambda body, n: failing() if body["prompt"] == "c" and n == 1 else fine,
        max_requests=2,
    ), clock


class FromGenerator(Job):
    """Whose rows come once."""

    @property
    def requests(self):
        return iter(self._rows)

    @requests.setter
    def requests(self, rows):
        self._rows = rows


def from_generator(root):
    made, clock = provider()
    return FromGenerator(root, made, clock, ROWS, retry_rows=1, row_cache=str(root / "cache"))


def from_table(ending):
    """A job that keeps the columns of a file."""

    def make(root):
        made, clock = provider()
        root.mkdir(parents=True)
        source = root / f"in.{ending}"
        if ending == "csv":
            source.write_text("text\n" + "\n".join(ROWS))
        else:
            pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            pq.write_table(pa.table({"text": ROWS}), source)
        return Job(
            root / "storage",
            made,
            clock,
            None,
            source=Source(uri=str(source), prompt="{text}"),
            keep_columns=True,
            result_path=str(root / f"out.{ending}"),
            retry_rows=1,
        )

    return make


JOBS = {"generator": from_generator, "csv": from_table("csv"), "parquet": from_table("parquet")}


@pytest.mark.sweep
@HOW_LONG
@pytest.mark.parametrize("kind", list(JOBS))
async def test_a_job_whose_disk_is_full_at_any_write_says_where_and_is_paid_once_and_whole(
    kind, stays, tmp_path, sweep
):
    """The attempt fails with the place and what to do, or needs no more room; the next one finishes the same batches."""
    with on(counting := Disk()):
        await JOBS[kind](tmp_path / "count").run()
    assert counting.moment > 100  # the suite would prove little if it saw few writes

    told = []
    for at in sweep.of(range(counting.moment)):
        task = JOBS[kind](tmp_path / str(at))
        with on(disk := Disk(at, stays)):
            try:
                await task.run()
            except DiskFull as error:
                told.append(said := str(error))
                assert os.strerror(errno.ENOSPC) in said, disk.where
                assert "Make room there" in said, disk.where
                assert str(tmp_path / str(at)) in said or tempfile.gettempdir() in said, disk.where
        manifest = await task.retry()

        assert task.provider.bought == BOUGHT, disk.where
        assert [row.output for row in BatchResults(manifest)] == ["fine"] * len(ROWS), disk.where
        assert not list(tmp_path.rglob("*.draft-*")), disk.where
    assert any("on this machine" in said for said in told)
    assert any("cannot be written" in said for said in told)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_temporary_file_without_room_tells_the_folder_and_the_setting(number, monkeypatch):
    """Also when it is a quota that is used up, and when the bytes leave their buffer late."""

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(scratch, "_Raw", type("_Raw", (scratch._Raw, Full), {}))
    file = scratch.scratch_file()
    file.write(b"x")

    with pytest.raises(DiskFull, match=rf"{tempfile.gettempdir()} on this machine: {os.strerror(number)}.*set TMPDIR"):
        file.flush()
    with pytest.raises(DiskFull):
        file.close()


def test_other_faults_of_a_disk_stay_what_they_are(monkeypatch):
    """A disk that fails is not one that is full."""

    def broken(**_options):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(tempfile, "mkstemp", broken)

    with pytest.raises(OSError, match="broken"):
        scratch.scratch_file()
