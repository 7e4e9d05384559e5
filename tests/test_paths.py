"""Addresses are opened without an event loop around, each on its own connection; ids of any kind become folders."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from test_architecture import SOURCES

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.folders import task_folders, task_of_folders
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.paths import open_path


class Shy(MemoryFileSystem):
    """Refuses to be made where a loop runs, as amazon's S3 does."""

    cachable = False

    def __init__(self, conn_id=None):
        asyncio.run(asyncio.sleep(0))
        super().__init__()
        self.conn_id = conn_id


@pytest.fixture
def shy(monkeypatch):
    """Filesystems for all object stores that may not be made in a loop; GCS and Azure by the classes of fsspec's paths."""
    from airflow.sdk.io import fs, store

    def made(conn_id):
        return Shy(conn_id)

    known = dict.fromkeys(("s3", "gs", "abfs"), made)
    monkeypatch.setattr(fs, "_register_filesystems", lambda: known)
    monkeypatch.setattr(store, "_STORE_CACHE", {})


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs"])
async def test_a_path_is_opened_where_a_loop_runs(shy, scheme):
    """With and without a connection, and so is what lies below it; two connections have a filesystem each."""
    one, two, none = (open_path(f"{scheme}://{user}bucket/a") for user in ("one@", "two@", ""))

    assert [path.fs.conn_id for path in (one, two / "b", none / "b")] == ["one", "two", None]


@pytest.mark.parametrize("uri", ["file:///tmp/a", "/tmp/a"])
def test_a_path_on_a_disk_asks_no_provider_for_its_filesystems(monkeypatch, uri):
    """Amazon's alone takes longer to import than all else that a small task does."""
    from airflow.sdk.io import fs, store

    monkeypatch.setattr(fs, "_register_filesystems", lambda: pytest.fail("every provider was imported"))
    monkeypatch.setattr(store, "_STORE_CACHE", {})

    assert open_path(uri).fs.protocol == ("file", "local")


def test_only_one_place_opens_paths():
    """Whoever opens a path elsewhere may do so in a loop."""
    assert [name for name in SOURCES if "ObjectStoragePath(" in source(name)] == ["paths.py"]


def source(name):
    import ast

    return ast.unparse(SOURCES[name])


@pytest.mark.parametrize(("uri", "extra"), [("gs://b/x", "[gcs]"), ("abfs://c/x", "[azure]"), ("s3://b/x", "[s3]")])
def test_a_missing_filesystem_names_its_extra(monkeypatch, uri, extra):
    """Before anything is bought: source and result are opened while the task plans."""
    from airflow.sdk.io import fs, store

    monkeypatch.setattr(fs, "_register_filesystems", dict)
    monkeypatch.setattr(store, "_STORE_CACHE", {})

    with pytest.raises(UsageError, match="No filesystem registered") as caught:
        open_path(uri)

    assert extra in str(caught.value)


def test_a_scheme_that_nobody_knows_is_refused():
    """With those that are known."""
    with pytest.raises(UsageError, match="file, s3, gs and abfs are known"):
        open_path("nosuch://b/x")


IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=250)


@given(IDS, IDS, IDS, st.integers(-1, 5000))
def test_the_folders_of_any_task_fit_on_a_disk_and_tell_the_task(dag_id, run_id, task_id, map_index):
    """In any script and of any length that Airflow allows."""
    task = TaskKey(dag_id, run_id, task_id, map_index)
    folders = task_folders(task)

    assert all(0 < len(folder.encode()) <= 255 and "/" not in folder for folder in folders)
    assert not {".", ".."} & {*folders}
    assert task_of_folders([*folders], str(task)) == task
    assert task_folders(TaskKey(dag_id + "x", run_id, task_id, map_index)) != folders


@pytest.mark.parametrize("field", ["dag_id", "run_id", "task_id"])
@given(before=st.text(max_size=5), half=st.characters(categories=["Cs"]), after=st.text(max_size=5))
def test_an_id_with_half_a_character_is_refused_before_any_folder_is_made(field, before, half, after):
    """No disk, record or provider could hold it, and the batch would be bought by then."""
    ids = {"dag_id": "d", "run_id": "r", "task_id": "t", field: before + half + after}

    with pytest.raises(UsageError, match=f"{field}=.* holds half a character, .* at {len(before)}. Give") as caught:
        TaskKey(**ids)

    assert str(caught.value).isascii()


@pytest.mark.parametrize("dag_id", ["日" * 28, "д" * 50, "x" * 250, "日" * 250])
def test_ids_beyond_ascii_work_on_disk(tmp_path, dag_id):
    """Section 10."""
    place = open_path(str(tmp_path))
    for folder in task_folders(TaskKey(dag_id, "r" * 250, "t")):
        place /= folder

    place.mkdir(parents=True)

    assert place.exists()


async def test_a_bucket_is_never_made(s3_url):
    """A typo in `result_path` is told, not built (s3fs makes buckets in `makedirs`)."""
    import s3fs
    from upath import UPath

    from airflow_batch_provider.storage import Directory

    bucket = f"typo-{uuid.uuid4().hex}"
    directory = Directory(UPath(f"s3://{bucket}/x", key="k", secret="s", endpoint_url=s3_url))

    for change in (directory.write, directory.create):
        with pytest.raises(FileNotFoundError):
            change("a/b", b"")

    assert not s3fs.S3FileSystem(key="k", secret="s", endpoint_url=s3_url).exists(bucket)


async def test_a_result_path_in_no_bucket_is_refused_while_the_task_plans(s3_url, job, provider):
    """Nothing is bought."""
    from upath import UPath

    task = job(result_path=f"s3://typo-{uuid.uuid4().hex}/out.jsonl")
    task.open_path = lambda uri: UPath(uri, key="k", secret="s", endpoint_url=s3_url)
    with pytest.raises(UsageError, match="cannot be written"):
        await task.start()

    assert not provider.batches
