"""What several tests of the client ask for."""

from __future__ import annotations

import pytest
from fakes import FakeHub
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.storage import Directory, StageStorage


@pytest.fixture
def client(tmp_path, provider, clock):
    """Each call is a process of its own, with the same storage: `client(attempt=2)`."""
    provider.polls_until_done = 1000
    root = Directory(UPath(tmp_path))
    hub, connection = FakeHub(provider, clock), ConnectionRef(conn_id="c")

    def make(**options):
        options = {"storage": StageStorage(root.sub("dag/run/task")), "registry": Deployment(root).registry, **options}
        return BatchClient(hub, connection, "openai:m", label="dag/run/task", clock=clock, **options)

    return make
