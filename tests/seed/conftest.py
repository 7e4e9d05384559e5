"""The guide's promises are kept over the emulator; `driver` runs stages and clients as a task would."""

from __future__ import annotations

import pytest
from driving import PATHS, Driver

from airflow_batch_provider.emulator.clock import Clock
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings

SETTINGS = Settings(progress=Progress(by="polls", pending=1, running=1, finalizing=0, settle=0))


@pytest.fixture(scope="session")
def port():
    """One emulator for all tests of this folder; its clock moves only when told."""
    with EmulatorServer(SETTINGS, Clock.virtual()) as running:
        yield running


@pytest.fixture
def server(port):
    """An empty emulator whose batches are done at the third poll."""
    port.emulator.reset()
    port.emulator.settings = SETTINGS
    return port


@pytest.fixture
async def driver(server, tmp_path):
    """One task instance over that emulator."""
    driving = Driver(server, tmp_path / "storage")
    yield driving
    await driving.hub.aclose()


@pytest.fixture(params=list(PATHS))
def provider_name(request) -> str:
    """Each of the three providers."""
    return request.param
