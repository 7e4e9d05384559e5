"""The process dies at every dangerous moment of a job with two waves and several batches."""

from __future__ import annotations

import pytest
from fakes import Bomb, FakeClock, FakeProvider, Job, Killed, bombed_storage, failing
from virtual_time import without_threads

from airflow_batch_provider.models import Reply
from airflow_batch_provider.storage import Directory


@pytest.fixture(autouse=True)
def in_place():
    """What would run in a thread runs in place, so that the nth moment is the same one each time."""
    with without_threads(lambda: 0):
        yield


def make(tmp_path, bomb, monkeypatch):
    """A job of five rows in batches of two, of which two are uploaded at once; one row needs a second wave."""
    clock = FakeClock()
    ok = Reply(key="", status="succeeded", output="fine")
    provider = FakeProvider(
        clock, bomb, answer=lambda body, n: failing() if body["prompt"] == "c" and n == 1 else ok, max_requests=2
    )
    bombed_storage(bomb, monkeypatch)
    return Job(tmp_path / "storage", provider, clock, ["a", "b", "c", "d", "e"], retry_rows=1)


async def moments(tmp_path, monkeypatch):
    """How many dangerous moments a job has."""
    with monkeypatch.context() as patch:
        bomb = Bomb()
        task = make(tmp_path / "count", bomb, patch)
        await task.run()
        assert task.provider.most_uploading == 2
        return bomb.moment


@pytest.mark.sweep
async def test_a_job_killed_anywhere_is_paid_once_and_whole(tmp_path, monkeypatch, sweep):
    """Whatever moment the worker dies in, the next attempts finish the same batches: each row bought once."""
    total = await moments(tmp_path, monkeypatch)
    assert total > 60  # the suite would prove little if it counted few moments

    for at in sweep.of(range(total), 24):
        with monkeypatch.context() as patch:
            bomb = Bomb(at)
            task = make(tmp_path / str(at), bomb, patch)
            with pytest.raises(Killed):
                await task.run()
            manifest = await task.retry()

            assert task.provider.bought == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}, bomb.where
            assert [row["status"] for row in task.rows(manifest)] == ["succeeded"] * 5, bomb.where
            assert manifest.usage.input_tokens == 60, bomb.where


@pytest.mark.sweep
async def test_a_job_killed_twice_is_paid_once(tmp_path, monkeypatch, sweep):
    """Also when the attempt that recovers dies, a few moments later."""
    total = await moments(tmp_path, monkeypatch)

    gaps = (1, 2, 4, 7)
    for number, first in enumerate(sweep.of(range(0, total, 3))):
        for gap in gaps if sweep.whole else gaps[number % len(gaps) :][:1]:
            with monkeypatch.context() as patch:
                bomb = Bomb(first)
                task = make(tmp_path / f"{first}-{gap}", bomb, patch)
                with pytest.raises(Killed):
                    await task.run()
                bomb.at = bomb.moment + gap
                try:
                    manifest = await task.retry()
                except Killed:
                    bomb.at = None
                    manifest = await task.retry()

                assert set(task.provider.bought.items()) >= {("a", 1), ("b", 1), ("d", 1), ("e", 1)}, bomb.where
                assert task.provider.bought["c"] == 2, bomb.where
                assert manifest.counts["succeeded"] == 5


@pytest.mark.sweep
async def test_a_change_of_requests_killed_anywhere_keeps_old_answers_and_buys_new_ones_once(
    tmp_path, monkeypatch, sweep
):
    """Setting the old plan aside takes several steps; dying between any two loses and mixes nothing."""

    async def changed(root, bomb, patch):
        task = make(root, Bomb(), patch)
        await task.run()
        task.requests = ["x", "y"]
        task.provider.bomb = bomb
        for name in ("publish", "create", "delete", "move"):
            original = getattr(Directory, name)

            def bombed(self, *args, _name=name, _original=original):
                bomb.tick(f"{_name} {args}: before")
                return _original(self, *args)

            patch.setattr(Directory, name, bombed)
        return task

    with monkeypatch.context() as patch:
        counting = Bomb()
        await (await changed(tmp_path / "count", counting, patch)).retry()

    for at in sweep.of(range(counting.moment)):
        with monkeypatch.context() as patch:
            bomb = Bomb(at)
            task = await changed(tmp_path / str(at), bomb, patch)
            with pytest.raises(Killed):
                await task.retry()
            manifest = await task.retry()

            assert [row["output"] for row in task.rows(manifest)] == ["fine", "fine"], bomb.where
            assert (task.provider.bought["x"], task.provider.bought["y"]) == (1, 1), bomb.where
            (old,) = task.directory.names("superseded")
            assert "results.jsonl" in task.directory.names(f"superseded/{old}"), bomb.where
