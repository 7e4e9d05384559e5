"""What several tests of the ledger ask for."""

from __future__ import annotations

import pytest
from upath import UPath

from airflow_batch_provider.ledger import Ledger, Policy, Registry, Work
from airflow_batch_provider.models import Spec
from airflow_batch_provider.storage import Directory


@pytest.fixture
def ledger(tmp_path, provider, clock):
    """Makes the ledger of a task with a registry, planned for three rows: `ledger(in_flight=1)`."""

    def make(**policy):
        work = Work(
            root=Directory(UPath(tmp_path / "storage")),
            provider=provider,
            spec=Spec(model="m"),
            policy=Policy(**{"retry_rows": 0} | policy),
            clock=clock,
            label="dag/run/task",
            attempt=1,
            registry=Registry(Directory(UPath(tmp_path / "registry"))),
        )
        planned = Ledger(work)
        planned.open_plan(lambda: ["a", "b", "c"], lambda _plan, _wave: None)
        return planned, work.registry

    return make
