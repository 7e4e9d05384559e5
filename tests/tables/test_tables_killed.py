"""The process dies at every dangerous moment of a job that makes a table of part files out of a table."""

from __future__ import annotations

import pytest
from fakes import Bomb, FakeClock, FakeProvider, Job, Killed, bombed_storage, failing
from upath import UPath

from airflow_batch_provider import results as results_module
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.config import Source


@pytest.fixture(autouse=True)
def plain_paths(monkeypatch):
    monkeypatch.setattr(results_module, "open_path", UPath)


def make(root, source, bomb, monkeypatch):
    """Five rows in batches of two; one row needs a second wave."""
    clock = FakeClock()
    provider = FakeProvider(clock, bomb, max_requests=2)
    provider.answer = lambda body, n: (
        failing()
        if body["prompt"] == "c" and n == 1
        else Reply(key="", status="succeeded", output=f"it is {body['prompt']}")
    )
    bombed_storage(bomb, monkeypatch)
    return Job(
        root / "storage",
        provider,
        clock,
        None,
        source=Source(uri=str(source), prompt="{text}", key="id"),
        keep_columns=True,
        max_rows_per_file=2,
        result_path=str(root / "out"),
        retry_rows=1,
    )


@pytest.mark.sweep
async def test_a_table_killed_anywhere_is_paid_once_and_each_row_has_its_own_columns(tmp_path, monkeypatch, sweep):
    """The source changes where it is not asked: the columns are those of an attempt that read just these rows."""
    source = tmp_path / "in.csv"
    with monkeypatch.context() as patch:
        source.write_text("id,text,n\n" + "".join(f"{place},{text},0\n" for place, text in enumerate("abcde")))
        counting = Bomb()
        await make(tmp_path / "count", source, counting, patch).run()
    assert counting.moment > 60

    for at in sweep.of(range(counting.moment), 6):
        with monkeypatch.context() as patch:
            source.write_text("id,text,n\n" + "".join(f"{place},{text},0\n" for place, text in enumerate("abcde")))
            bomb = Bomb(at)
            task = make(tmp_path / str(at), source, bomb, patch)
            with pytest.raises(Killed):
                await task.run()
            source.write_text("id,text,n\n" + "".join(f"{place},{text},1\n" for place, text in enumerate("abcde")))
            rows = list(BatchResults(await task.retry()))

            assert task.provider.bought == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}, bomb.where
            assert [(row.columns["text"], row.output) for row in rows] == [(c, f"it is {c}") for c in "abcde"], (
                bomb.where
            )
            assert len({row.columns["n"] for row in rows}) == 1, bomb.where
            assert sorted(path.name for path in (tmp_path / str(at) / "out").iterdir()) == [
                f"part-0000{number}.csv" for number in range(3)
            ], bomb.where
            kept = [name for name in task.directory.names("waves/0") if ".kept-" in name]
            assert len(kept) == 1, bomb.where
