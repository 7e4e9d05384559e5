"""The emulator as the providers' other side."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from provider_backends import BACKENDS, Backend, Bench

from airflow_batch_provider.emulator.app import create_app
from airflow_batch_provider.emulator.clock import Clock
from airflow_batch_provider.emulator.core import Emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.providers import connect, provider_class


@pytest.fixture
def settings() -> Settings:
    """A batch waits a second, runs four and ends a second later; the clock moves only when told."""
    return Settings(progress=Progress(by="time", pending=1, running=4, finalizing=1, settle=2))


@pytest.fixture(params=list(BACKENDS))
def backend(request) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture(params=["in process", "over a port"])
def way(request, backend) -> str:
    if request.param == "in process" and not backend.in_process:
        pytest.skip("this provider's SDK brings its own HTTP client")
    return request.param


@pytest.fixture(scope="session")
def running():
    """One port for all tests: closing it takes longer than most of them."""
    with EmulatorServer(clock=Clock.virtual()) as server:
        yield server


@pytest.fixture
def server(running, settings):
    """The emulator behind a port, with a clock that moves only when told, and nothing of the test before."""
    running.emulator.reset()
    running.emulator.settings = settings
    return running


async def cut(_scope: Any) -> None:
    """What a caller behind a socket sees when the connection is closed."""
    raise httpx2.RemoteProtocolError("The connection was cut.")


@pytest.fixture
async def bench(backend, way, settings, tmp_path, request):
    """The provider, talking to an emulator in this process or over a port."""
    if way == "in process":
        emulator, url = Emulator(settings, Clock.virtual()), "http://emulator.test"
        transport = httpx2.ASGITransport(app=create_app(emulator, cut))
        provider = provider_class(backend.provider)(backend.account(url), transport)
    else:
        running = request.getfixturevalue("server")
        emulator, url = running.emulator, running.url
        provider = connect(backend.account(url))
    yield Bench(backend, provider, emulator, tmp_path, url)
    await provider.aclose()
    if way == "in process":
        emulator.close()
