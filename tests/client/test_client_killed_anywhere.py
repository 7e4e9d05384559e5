"""The process of a stage's own client dies at every dangerous moment of a submit, its results and the next wave."""

from __future__ import annotations

import pytest
from fakes import Bomb, FakeClock, FakeHub, FakeProvider, Killed, bombed_storage, failing
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.models import ConnectionRef, Reply
from airflow_batch_provider.storage import Directory, StageStorage

PROMPTS = ["a", "b", "c", "d", "e"]


class DirectHub(FakeHub):
    """Asks in the task itself: who dies of it is the process, not a task of the hub."""

    async def status(self, _connection, batch_id):
        return await self._only.status(batch_id)


class Task:
    """A task that submits, polls and reads until nothing is left to ask; each try is a new client."""

    def __init__(self, root, bomb, canary=0):
        self.canary = canary
        self.clock = FakeClock()
        ok = Reply(key="", status="succeeded", output="fine")
        self.provider = FakeProvider(
            self.clock,
            bomb,
            answer=lambda body, n: failing() if body["prompt"] == "c" and n == 1 else ok,
            max_requests=2,
        )
        self.root = Directory(UPath(root))
        self.attempt = 0

    async def run(self):
        self.attempt += 1
        while (handle := await self._client().submit(PROMPTS, retry_rows=1, canary=self.canary)).status != "completed":
            while not (await self._client().get_status(handle.id)).ended:
                self.clock.advance(60)
        return await self._client().get_results(handle.id)

    def _client(self):
        return BatchClient(
            DirectHub(self.provider, self.clock),
            ConnectionRef(conn_id="c"),
            "openai:m",
            storage=StageStorage(self.root.sub("dag/run/task")),
            label="dag/run/task",
            attempt=self.attempt,
            clock=self.clock,
            registry=Deployment(self.root).registry,
        )


def make(root, bomb, monkeypatch, canary):
    bombed_storage(bomb, monkeypatch)
    return Task(root, bomb, canary)


async def moments(tmp_path, monkeypatch, canary):
    with monkeypatch.context() as patch:
        bomb = Bomb()
        await make(tmp_path / "count", bomb, patch, canary).run()
        return bomb.moment


@pytest.mark.sweep
@pytest.mark.parametrize("canary", [0, 1], ids=["at once", "after a canary"])
async def test_a_submission_killed_anywhere_is_paid_once_and_whole(tmp_path, monkeypatch, sweep, canary):
    """The next attempts go on with the same batches: each row is bought once, the bad one a second time."""
    total = await moments(tmp_path, monkeypatch, canary)
    assert total > 80  # the sweep would prove little if it counted few moments

    for at in sweep.of(range(total), sample=8 if canary else 12):
        with monkeypatch.context() as patch:
            bomb = Bomb(at)
            task = make(tmp_path / str(at), bomb, patch, canary)
            with pytest.raises(Killed):
                await task.run()
            rows = await task.run()

            assert task.provider.bought == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}, bomb.where
            assert [(row.custom_id, row.output) for row in rows] == [(f"request-{n}", "fine") for n in range(5)], (
                bomb.where
            )
            # Whoever dies between rows and registry leaves an entry, which a reconciliation forgets: its rows are here.
            deployment = Deployment(task.root)
            assert all(deployment.files(entry).has_landed() for entry in deployment.registry.entries()), bomb.where
