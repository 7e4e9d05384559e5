"""What the triggers of a triggerer share, so that a thousand cost no thousand times as much."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from test_trigger import VirtualTime, made, suspension

from airflow_batch_provider import paths
from airflow_batch_provider.airflow import hosts
from airflow_batch_provider.airflow.once import once_per_loop
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.suspension import Suspension


def test_what_is_made_once_is_made_again_for_another_loop():
    """`dag.test` has one for each trigger."""
    made_ones = []

    @once_per_loop
    def thing():
        made_ones.append(object())
        return made_ones[-1]

    async def twice():
        return thing() is thing()

    assert asyncio.run(twice())
    assert asyncio.run(twice())
    assert len(made_ones) == 2


def test_polls_that_are_equal_are_one_object(tmp_path):
    """However many triggers were given theirs by Airflow."""
    poll = PollConfig(interval=timedelta(seconds=7), max_wait=timedelta(hours=3))
    kwargs = suspension(tmp_path, poll=poll).kwargs()
    one, other = Suspension.model_validate(kwargs), Suspension.model_validate(kwargs)
    assert one.poll is other.poll
    assert one.poll == poll
    assert Suspension.model_validate(suspension(tmp_path).kwargs()).poll is not one.poll


async def test_settings_are_read_once(monkeypatch):
    """Not for each trigger."""
    reads = []
    read = hosts.settings.budgets
    monkeypatch.setattr(hosts.settings, "budgets", lambda: reads.append(1) or read())
    tasks = [TaskKey("dag", "run", f"task-{number}") for number in range(5)]
    found = [hosts.TriggererHost(Clock(lambda: datetime.now(UTC)), task) for task in tasks]
    assert len(reads) == 1
    assert len({id(host.budgets) for host in found}) == 1


async def test_a_root_of_storage_is_opened_once(tmp_path, monkeypatch):
    """Opening it reads its connection."""
    opened = []
    real = paths.open_path_here

    def counted(uri):
        opened.append(uri)
        return real(uri)

    monkeypatch.setattr(paths, "open_path_here", counted)
    for number in range(5):
        await made(tmp_path, VirtualTime(), task=TaskKey("dag", "run", f"task-{number}"))._stage_run()
    assert opened == [tmp_path.as_uri()]
