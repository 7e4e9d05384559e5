"""Old stage storage goes; what is open, waited for, young or unfinished stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from upath import UPath
from world import TASK, World

from airflow_batch_provider.folders import task_folders
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages import Suspended, SuspendedState
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.suspension import StageLocation, Suspension

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(params=["disk", "object store"])
def world(request, tmp_path, clock, provider):
    """On a disk, where folders stay behind, and on an object store, which has none."""
    provider.polls_until_done = 0
    root = tmp_path / "batches" if request.param == "disk" else f"memory://prune-{id(request)}"
    yield World(root, clock, provider)
    UPath(root).fs.rm(UPath(root).path, recursive=True)


@pytest.fixture
async def finished(world):
    world.states[TASK] = "over"
    await world.job().run()
    world.deployment.storage.write("other/run/task/keep.txt", b"not ours")
    return world


def old(world, before=LATER, **options):
    return [(one.folders, one.state) for one in world.pruner.stale(before, **options)]


async def test_finished_storage_is_listed_and_deleted_with_the_folders_above(finished):
    """What is not a task's directory is left alone."""
    assert old(finished) == [(("dag", "run", "task"), "finished")]
    (found,) = finished.pruner.stale(LATER)

    assert finished.pruner.delete(found)

    assert finished.deployment.storage.names("dag") == []
    assert not finished.deployment.storage.exists("dag")
    assert finished.deployment.storage.read("other/run/task/keep.txt") == b"not ours"


async def test_folders_that_hold_others_stay(finished):
    """Another run of the same DAG."""
    finished.deployment.storage.write("dag/run-2/task/plan.json", b"{}")
    (found,) = finished.pruner.stale(LATER)
    finished.pruner.delete(found)

    assert finished.deployment.storage.names("dag") == ["run-2"]


async def test_a_folder_whose_name_is_not_text_stays_and_stops_nothing(finished):
    """Disks hold names of any bytes; none of ours is such a one."""
    storage = finished.deployment.storage
    storage.write("\udcff/run/task/plan.json", b"{}")
    storage.write("\udcff/run/task/manifest.json", b"{}")

    assert old(finished) == [(("dag", "run", "task"), "finished")]


async def test_young_storage_is_not_listed(finished):
    """The age counts from the manifest."""
    assert old(finished, datetime.now(UTC) - timedelta(minutes=1)) == []


@pytest.mark.parametrize("word", ["waiting", "unknown"])
async def test_storage_of_a_task_that_may_come_back_stays(finished, word):
    """Also when it was cleared between the list and the deletion."""
    (found,) = finished.pruner.stale(LATER)
    finished.states[TASK] = word

    assert old(finished) == []
    assert not finished.pruner.delete(found)
    assert finished.deployment.storage.exists("dag/run/task/manifest.json")


async def test_storage_with_an_open_batch_stays(world):
    """Even if the DAG run is gone."""
    world.provider.polls_until_done = 1000
    await world.job().start()
    assert old(world, unfinished=True) == []

    world.deployment.registry.leave(world.tags[0])

    assert old(world, unfinished=True) == [(("dag", "run", "task"), "unfinished")]
    assert old(world) == []


def test_mapped_tasks_are_pruned_one_by_one(world):
    """Each map index is a task instance of its own; the folder above them is none."""
    for index in ("0", "1"):
        for name in ("plan.json", "manifest.json"):
            world.deployment.storage.write(f"d/r%2F1/t/{index}/{name}", b"{}")
    world.deployment.storage.write("d/r%2F1/t/manifest.json", b"{}")  # from before it was mapped
    world.states[TaskKey("d", "r/1", "t", 1)] = "waiting"

    assert old(world, unfinished=True) == [(("d", "r%2F1", "t", "0"), "finished")]


def test_what_the_deployment_keeps_for_itself_is_not_a_tasks(world):
    """Whatever its files are called."""
    for name in ("plan.json", "manifest.json"):
        world.deployment.storage.write(f"=registry/open/t/{name}", b"{}")
    world.states = {TaskKey("=registry", "open", "t"): "over"}

    assert old(world, unfinished=True) == []


def test_a_stages_own_storage_counts_as_unfinished(world):
    """Only its author knows what it keeps there."""
    world.deployment.storage.write("d/r/own/config.json", b"{}")
    world.deployment.storage.write("d/r/own/artifacts/x.json", b"{}")

    assert old(world) == []
    assert old(world, unfinished=True) == [(("d", "r", "own"), "unfinished")]


async def test_storage_under_a_shortened_name_is_that_of_the_task_that_waited(world):
    """The name does not tell the whole id; the saved wait does."""
    task = TaskKey("д" * 60, "run", "task")
    folder = "/".join(task_folders(task))
    location = StageLocation(stage="job", task=task, storage=str(world.deployment.storage))
    state = SuspendedState(batch_id="b", submitted_at=datetime.now(UTC), metadata={})
    suspension = Suspension.begin(location, Suspended(state=state), datetime.now(UTC))
    StageFiles(world.deployment.storage.sub(folder)).save_suspension(suspension)
    for name in ("plan.json", "manifest.json"):
        world.deployment.storage.write(f"{folder}/{name}", b"{}")

    world.states[task] = "waiting"
    assert old(world) == []
    world.states[task] = "over"
    assert old(world) == [(task_folders(task), "finished")]
