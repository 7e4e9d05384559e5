"""Stage storage: whole files or none, on a disk and on an object store."""

from __future__ import annotations

import errno
import os
import stat
import uuid

import pytest
from fakes import Job, failing
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from airflow_batch_provider import storage
from airflow_batch_provider.exceptions import DiskFull, RowsFailed, UsageError
from airflow_batch_provider.models import Usage
from airflow_batch_provider.storage import Directory, StageStorage


def write_half(directory, data):
    with directory.writer("rows.jsonl") as file:
        file.write(data)
        raise RuntimeError


def test_what_is_written_is_read(directory):
    """Small files, in folders that nobody made."""
    directory.write("a/b/c.json", b"{}")

    assert directory.read("a/b/c.json") == b"{}"
    assert directory.names("a/b") == ["c.json"]
    assert directory.exists("a/b/c.json")


def test_what_is_not_there_is_none(directory):
    """Absence is not an error: it is a state."""
    assert directory.read("nothing") is None
    assert directory.names("nowhere") == []
    directory.delete("nothing")


def test_a_writer_that_fails_leaves_nothing(directory):
    """Half a file is never taken for a whole one."""
    with pytest.raises(RuntimeError):
        write_half(directory, b"half")

    assert directory.names() == []


def test_a_writer_that_fails_leaves_the_old_file(directory):
    """Replacing is all or nothing."""
    directory.write("rows.jsonl", b"old")

    with pytest.raises(RuntimeError):
        write_half(directory, b"new")

    assert directory.read("rows.jsonl") == b"old"
    assert directory.names() == ["rows.jsonl"]


def test_only_the_first_may_create(directory):
    """Two workers cannot both claim."""
    assert directory.create("claim", b"first")
    assert not directory.create("claim", b"second")
    assert directory.read("claim") == b"first"
    assert directory.is_exclusive


def test_a_create_whose_answer_was_lost_has_succeeded(directory):
    """An SDK that sends it again finds its own data there."""
    assert directory.create("claim", b"mine")

    assert directory.create("claim", b"mine")
    assert not directory.create("claim", b"theirs")


@pytest.fixture
def vague(monkeypatch):
    """A directory whose filesystem says of a condition that did not hold what s3fs says where the server names none."""

    def vaguely(self, path, value, mode="overwrite"):
        try:
            put(self, path, value, mode=mode)
        except FileExistsError as error:
            raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold") from error

    put = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", vaguely)
    return Directory(UPath(f"memory://{uuid.uuid4().hex}"))


def test_only_the_first_may_create_where_the_server_does_not_name_the_condition(vague):
    """MinIO, for one, which speaks S3."""
    assert vague.create("claim", b"mine")

    assert not vague.create("claim", b"theirs")
    assert vague.create("claim", b"mine")
    assert vague.read("claim") == b"mine"


def test_a_create_that_failed_is_told_as_it_failed(directory, monkeypatch):
    """Nothing is there, so nobody was first."""

    def full(*_args, **_options):
        raise OSError(errno.EIO, "away")

    monkeypatch.setattr(directory._fs, "pipe_file", full)
    monkeypatch.setattr(storage, "_link", full)

    with pytest.raises(OSError, match="away"):
        directory.create("claim", b"mine")


def test_what_another_worker_writes_is_seen(root):
    """Whatever a filesystem caches: the other one has a cache of its own."""
    alone = {**root.storage_options, "skip_instance_cache": True} if root.storage_options else {}  # a disk has no cache
    mine, other = Directory(root), Directory(UPath(str(root), **alone))
    mine.write("d/a", b"")
    assert mine.names("d") == ["a"]

    other.write("d/b", b"")
    other.delete("d/a")

    assert mine.exists("d/b")
    assert mine.read("d/b") == b""
    assert mine.read("d/a") is None
    assert mine.modified("d/b").tzinfo
    assert not mine.exists("d/a")
    assert mine.names("d") == ["b"]


def test_a_directory_moves_with_all_below_it(directory):
    """Setting a finished plan aside keeps its files."""
    directory.write("waves/0/a", b"1")

    directory.move("waves", "superseded/x/waves")

    assert directory.read("superseded/x/waves/0/a") == b"1"
    assert not directory.exists("waves/0/a")


def test_lines_end_at_newlines_only(directory):
    """Answers may hold every other character that some call a line end."""
    lines = ["a\u2028b".encode(), "c\u0085d\r".encode(), b"x" * 3_000_000, b"last"]
    directory.write("rows.jsonl", b"\n".join(lines))

    assert list(directory.lines("rows.jsonl")) == lines


def test_google_cloud_storage_keeps_what_is_written(gcs):
    """Small files and streams, lists, moves and deletions, through its own fsspec class."""
    lines = [b"x" * 3_000_000, b"y" * 3_000_000, b"last"]
    with gcs.writer("waves/0/rows.jsonl") as file:
        file.write(b"\n".join(lines))
    gcs.write("plan.json", b"{}")

    assert gcs.create("claim", b"first")
    assert gcs.read("claim") == b"first"
    assert list(gcs.lines("waves/0/rows.jsonl")) == lines
    assert (gcs.names("waves/0"), gcs.read("nothing"), gcs.names("nowhere")) == (["rows.jsonl"], None, [])
    gcs.move("waves", "superseded/waves")
    assert not gcs.exists("waves/0/rows.jsonl")
    assert list(gcs.lines("superseded/waves/0/rows.jsonl")) == lines
    gcs.delete("superseded")
    assert gcs.names("superseded") == []


async def test_artifacts_are_saved_and_loaded(directory):
    """Anything JSON, and pydantic models."""
    storage = StageStorage(directory)

    await storage.save("batch-result", {"items": [1, "é", None], "usage": Usage(input_tokens=3)})

    assert (await storage.load("batch-result"))["usage"]["input_tokens"] == 3
    assert await storage.exists("batch-result")
    await storage.delete("batch-result")
    assert await storage.load("batch-result") is None


@pytest.mark.parametrize("key", ["", "../plan", "a/b", ".hidden", "x" * 200])
async def test_a_storage_key_never_becomes_a_path(directory, key):
    """Keys may come from data."""
    with pytest.raises(UsageError, match="not usable"):
        await StageStorage(directory).save(key, 1)


async def test_what_is_not_json_is_refused(directory):
    """The message names the key."""
    with pytest.raises(UsageError, match="'x' is not JSON"):
        await StageStorage(directory).save("x", object())


async def test_a_whole_job_runs_on_any_storage(root, provider, clock):
    """Plan, two waves, results and manifest; the next attempt finds them."""
    provider.max_requests = 2
    ok = provider.answer
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else ok(body, n)
    task = Job(root, provider, clock, ["a", "b", "c"], retry_rows=1)

    manifest = await task.run()

    assert [row["output"] for row in _rows(root)] == ["echo: a", "echo: b", "echo: c"]
    assert manifest.results == str(root / "results.jsonl")
    assert await task.retry() == manifest


async def test_a_job_that_failed_on_any_storage_buys_only_the_rest(root, provider, clock):
    """The ledger is read back from where it is kept."""
    ok = provider.answer
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else ok(body, n)
    task = Job(root, provider, clock, ["a", "b"], min_success_ratio=1.0)

    with pytest.raises(RowsFailed):
        await task.run()
    await task.retry()

    assert provider.bought == {"a": 1, "b": 2}


def _rows(root):
    import json

    return [json.loads(line) for line in Directory(root).lines("results.jsonl")]


def test_a_disk_without_hard_links_is_named(tmp_path, monkeypatch):
    """Section 10: such a disk cannot tell two workers which was first."""

    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    with pytest.raises(UsageError, match="without hard links"):
        Directory(UPath(tmp_path)).create("plan.json", b"{}")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["os.fsync", "fsspec.implementations.local.LocalFileSystem.mv"])
def test_a_full_disk_leaves_no_drafts(tmp_path, monkeypatch, call):
    """Section 10: neither of an exclusive create nor of a file put in place."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    directory = Directory(UPath(tmp_path))
    change = directory.create if call == "os.fsync" else directory.write
    with pytest.raises(DiskFull, match=r"plan.json cannot be written: No space left on device\. Make room there"):
        change("plan.json", b"{}")

    assert not list(tmp_path.iterdir())


def test_a_claim_outlasts_a_power_cut_before_it_counts(tmp_path, monkeypatch):
    """Its bytes are on the disk before it has its name, and the name before anybody goes on."""
    steps = []

    def noted(name, call):
        def first(*args):
            steps.append(
                f"{name} {'folder' if name == 'fsync' and stat.S_ISDIR(os.fstat(args[0]).st_mode) else 'file'}"
            )
            return call(*args)

        return first

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "link", noted("link", os.link))

    assert Directory(UPath(tmp_path)).create("claim.json", b"{}")
    assert steps == ["fsync file", "link file", "fsync folder"]
