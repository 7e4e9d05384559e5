"""What every test may ask for."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

# Airflow reads its home when it is first imported, which is before any fixture runs.
HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
}
from fakes import FakeClock, FakeProvider, Job  # noqa: E402
from sweeps import Sweep  # noqa: E402

pytest_plugins = ["dag_runs", "scheduling", "storages"]

PROVIDER_VARIABLES = ("ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="sweep over every moment of a job, not over a sample")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays: the garbage collector need not look at it, neither meanwhile nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture
def sweep(request):
    """Which moments of a job a sweep tries; `make rest` finds by the mark what `make test` only samples."""
    assert request.node.get_closest_marker("sweep"), "mark it with pytest.mark.sweep, or CI never runs it whole"
    return Sweep(request.config.getoption("--whole"), datetime.now(UTC).toordinal())


@pytest.fixture(scope="session", autouse=True)
def clean_home():
    """The home goes with the tests."""
    yield
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_provider_environment(monkeypatch):
    """The SDKs read keys and addresses from the environment; a developer's must not reach the tests."""
    for name in list(os.environ):
        if name.startswith(PROVIDER_VARIABLES):
            monkeypatch.delenv(name)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def provider(clock):
    return FakeProvider(clock)


@pytest.fixture
def job(tmp_path, provider, clock):
    """Makes a job on the fake provider: `job(["a", "b"], retry_rows=1)`."""

    def make(requests=("a", "b", "c"), **config):
        return Job(tmp_path / "storage", provider, clock, list(requests), **config)

    return make
