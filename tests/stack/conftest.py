"""One real Airflow for all tests of this folder, next to one emulator; every DAG is started at once."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from browser import chromium, logged_in, program
from needed import not_here
from receivers import Collector, Sample, Statsd
from scenes import SLOW_MACHINE, SOON
from scheduling import ONE_AIRFLOW

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.demo.stack import PASSWORD, USERNAME, AirflowStack
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.models import BatchRow, Manifest
from airflow_batch_provider.results import BatchResults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from airflow_batch_provider.demo.rest import AirflowRest, Run, TaskInstance

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "dag(id): the DAG whose run the fixture `finished` gives")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and {"stack", "finished"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.airflow)
            # The first one waits for Airflow to start, and for its own run.
            item.add_marker(pytest.mark.timeout(600 * SLOW_MACHINE))


_running: list[AirflowStack] = []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End Airflow with the last test that uses it; idle, it would go on beside all the others."""
    if nextitem is None or not nextitem.nodeid.startswith(ONE_AIRFLOW):
        while _running:
            _running.pop().stop()


@dataclass(frozen=True)
class Finished:
    """A DAG run that has ended, and what can be asked about it."""

    rest: AirflowRest
    run: Run
    state: str

    def require_success(self) -> None:
        self.rest.require_success(self.run, self.state)

    def task(self, task_id: str, map_index: int = -1) -> TaskInstance:
        return next(
            task
            for task in self.rest.task_instances(self.run)
            if (task.task_id, task.map_index) == (task_id, map_index)
        )

    def log(self, task_id: str, map_index: int = -1) -> str:
        return self.rest.log(self.run, self.task(task_id, map_index))

    def was_deferred(self, task_id: str, map_index: int = -1) -> bool:
        return "Pausing task as DEFERRED" in self.log(task_id, map_index)

    def xcom(self, task_id: str, map_index: int = -1):
        return self.rest.xcom(self.run, task_id, map_index=map_index)

    def manifest(self, task_id: str, map_index: int = -1) -> Manifest:
        return Manifest.model_validate(self.xcom(task_id, map_index))

    def rows(self, task_id: str, map_index: int = -1) -> list[BatchRow]:
        return list(BatchResults(self.manifest(task_id, map_index)))


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorServer]:
    # Long enough that a task is seen waiting, short enough not to wait for.
    settings = Settings(progress=Progress(pending=0.5, running=2.0, finalizing=0.5))
    with EmulatorServer(settings) as server:
        yield server


@dataclass
class Receivers:
    """What all processes of this Airflow send their signals to; lineage is told by the DAGs that ask for it."""

    statsd: Statsd
    collector: Collector
    lineage: Path
    samples: list[Sample] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        transport = {"type": "file", "log_file_path": str(self.lineage), "append": True}
        return {
            **self.statsd.environment,
            **self.collector.environment,
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE": "True",
        }

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()  # before its socket is closed

    def _listen(self) -> None:
        """Keep what arrives: the socket holds little, and Airflow itself tells much."""
        while not self._over.is_set():
            self.samples += self.statsd.read()

    def wait_until(self, holds: Callable[[], bool], seconds: float = 60 * SLOW_MACHINE) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not sent after {seconds} s"
            time.sleep(0.2)


@pytest.fixture(scope="session")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receivers]:
    events = tmp_path_factory.mktemp("signals") / "lineage.jsonl"
    with Statsd() as statsd, Collector() as collector, Receivers(statsd, collector, events) as receiving:
        yield receiving


@pytest.fixture(scope="session")
def stack(
    emulator: EmulatorServer, receivers: Receivers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowStack]:
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(EXAMPLES, dags)
    for folder in ("dags", "driven_dags"):
        shutil.copytree(HERE / folder, dags, dirs_exist_ok=True)
    shutil.copytree(HERE / "plugins", dags / "plugins", dirs_exist_ok=True)
    env = {
        **to_emulator(emulator),
        **receivers.environment,
        **SOON,
        "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": (home / "batches").as_uri(),
        "AIRFLOW__CORE__PARALLELISM": "6",
        "AIRFLOW__CORE__AUTH_MANAGER": "hiding_auth.HidingAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin,stranger:viewer",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "auth"), os.environ.get("PYTHONPATH")])),
    }
    with AirflowStack(home / "home", dags, plugins=dags / "plugins", env=env) as running:
        _running.append(running)
        yield running


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, stack: AirflowStack) -> dict[str, Run]:
    """The DAGs that the chosen tests ask for, started together: they mostly wait, so they take hardly longer than one."""
    marks = (item.get_closest_marker("dag") for item in request.session.items)
    wanted = sorted({mark.args[0] for mark in marks if mark is not None})
    for dag_id in wanted:
        stack.require_dag(dag_id)
    return {dag_id: stack.rest.trigger(dag_id) for dag_id in wanted}


@pytest.fixture
def finished(request: pytest.FixtureRequest, stack: AirflowStack, runs: dict[str, Run]) -> Finished:
    """The run of the DAG that the test's `dag` mark names."""
    run = runs[request.node.get_closest_marker("dag").args[0]]
    state = stack.rest.wait(run, timeout_seconds=200 * SLOW_MACHINE)
    stack.check()
    return Finished(stack.rest, run, state)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with the last test of a file: Playwright leaves its event loop running, in which no other test can run one."""
    found = program()
    if found is None:
        not_here("Chromium is not installed: no page can be seen. apt-get install chromium")
    with chromium(found) as running:
        yield running


@pytest.fixture
def page(browser: Browser, stack: AirflowStack) -> Iterator[Page]:
    """A window of an admin; an error in the console fails the test."""
    context = logged_in(browser, stack.url, USERNAME, PASSWORD)
    seen = context.new_page()
    errors: list[str] = []
    seen.on("pageerror", lambda error: errors.append(str(error)))
    yield seen
    context.close()
    assert errors == []
