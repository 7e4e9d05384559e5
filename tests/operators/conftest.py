"""What several tests of the operators ask for."""

from __future__ import annotations

import json

import pytest

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings


@pytest.fixture(scope="module")
def emulator():
    """An emulator whose batches have ended when they are polled first."""
    with EmulatorServer(Settings(progress=Progress(by="polls", pending=0, running=0, finalizing=0))) as server:
        yield server


@pytest.fixture
def connections(monkeypatch, emulator):
    """Airflow's connections to the emulator, one for each provider."""
    for name, value in to_emulator(emulator).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def lake(s3_url, monkeypatch, connections):
    """An empty bucket `lake`, two connections to it, and AWS's own variables; no filesystem is open yet."""
    import fsspec
    from airflow.sdk.io import store

    aws = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**aws, "AWS_ENDPOINT_URL": s3_url}.items():
        monkeypatch.setenv(name, value)
    connection = {"conn_type": "aws", "login": "k", "password": "s", "extra": {"endpoint_url": s3_url}}
    for name in ("READING", "WRITING"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    monkeypatch.setattr(store, "_STORE_CACHE", {})
    filesystem = fsspec.filesystem("s3", key="k", secret="s", endpoint_url=s3_url, skip_instance_cache=True)
    if filesystem.exists("lake"):  # of another test, whose files are none of this one's
        filesystem.rm("lake", recursive=True)
    filesystem.mkdir("lake")
    return filesystem
