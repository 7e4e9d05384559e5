"""The process dies at every call that changes the storage, also between those of one move; on a disk and an object store."""

from __future__ import annotations

import contextlib
import json
import uuid

import pytest
from fakes import Bomb, FakeClock, FakeProvider, Job, Killed, failing
from upath import UPath

from airflow_batch_provider.models import Reply
from airflow_batch_provider.storage import Directory

CHANGES = ("put_file", "pipe_file", "cp_file", "mv", "rm")
# The whole sweep over an object store makes tens of thousands of HTTP calls.
pytestmark = [pytest.mark.sweep, pytest.mark.timeout(1500)]

BOUGHT = {"a": 1, "b": 2, "c": 1}
# A job over HTTP takes a hundred times as long; the store in memory is walked the same way, every moment of it.
SAMPLES = {"file": 6, "memory": 8, "s3": 1}


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow), "localbucket"])
def root(request, tmp_path):
    """A directory nobody else uses."""
    name = uuid.uuid4().hex
    if request.param == "file":
        return UPath(tmp_path / name)
    if request.param == "memory":
        return UPath(f"memory://{name}")
    endpoint = request.getfixturevalue(f"{request.param}_url")
    return UPath(f"s3://batches/{name}", key="k", secret="s", endpoint_url=endpoint)


class Perilous:
    """A filesystem whose every change is a dangerous moment, before and after."""

    def __init__(self, filesystem, bomb):
        self._filesystem = filesystem
        self._bomb = bomb

    def __getattr__(self, name):
        found = getattr(self._filesystem, name)
        return self._dangerous(name, found) if name in CHANGES else found

    def _dangerous(self, name, call):
        def change(*args, **options):
            self._bomb.tick(f"{name} {args}: before")
            done = call(*args, **options)
            self._bomb.tick(f"{name} {args}: after")
            return done

        return change


@contextlib.contextmanager
def perils(bomb):
    """Every storage that is opened in the block."""
    open_ = Directory.__init__

    def init(self, root):
        open_(self, root)
        self._fs = Perilous(self._fs, bomb)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directory, "__init__", init)
        yield


def job(root):
    """Two batches; one row needs a second wave."""
    clock = FakeClock()
    fine = Reply(key="", status="succeeded", output="fine")
    provider = FakeProvider(
        clock, answer=lambda body, n: failing() if body["prompt"] == "b" and n == 1 else fine, max_requests=2
    )
    return Job(root, provider, clock, ["a", "b", "c"], retry_rows=1)


def results(directory):
    return [json.loads(line) for line in directory.lines("results.jsonl")]


def moments(sweep, root, total):
    """Those to try: after a change there lies in a store what lies there before the next, so there every other one."""
    place = root.protocol or "file"
    return sweep.of(range(1, total, 2) if place == "s3" else range(total), SAMPLES[place])


async def changes_of(work):
    with perils(bomb := Bomb()):
        await work
    return bomb.moment


async def test_a_job_killed_at_any_change_of_its_storage_is_paid_once_and_whole(root, sweep):
    """What is half-written counts for nothing; what is written counts."""
    total = await changes_of(job(root / uuid.uuid4().hex).run())
    assert total > 30  # fewer would mean that the suite no longer sees the changes

    for at in moments(sweep, root, total):
        task = job(root / uuid.uuid4().hex)
        with perils(bomb := Bomb(at)), pytest.raises(Killed):
            await task.run()
        manifest = await task.retry()

        assert task.provider.bought == BOUGHT, bomb.where
        assert [row["status"] for row in results(task.directory)] == ["succeeded"] * 3, bomb.where
        assert manifest.usage.input_tokens == 40, bomb.where


async def answered(root):
    """A job that is done, and whose requests then changed."""
    task = job(root / uuid.uuid4().hex)
    await task.run()
    task.requests = ["x"]
    return task


async def test_old_answers_set_aside_are_whole_wherever_the_process_dies(root, sweep):
    """An object store moves object by object: a death in between leaves neither a mixture nor a gap."""
    total = await changes_of((await answered(root)).retry())
    assert total > 20

    for at in moments(sweep, root, total):
        task = await answered(root)
        with perils(bomb := Bomb(at)), pytest.raises(Killed):
            await task.retry()
        await task.retry()

        assert [row["output"] for row in results(task.directory)] == ["fine"], bomb.where
        assert task.provider.bought == {**BOUGHT, "x": 1}, bomb.where
        (old,) = task.directory.names("superseded")
        kept = Directory(task.root).sub(f"superseded/{old}")
        assert len(results(kept)) == 3, bomb.where
        assert kept.exists("manifest.json"), bomb.where
