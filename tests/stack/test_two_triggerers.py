"""Two triggerers share the triggers of one Airflow, on PostgreSQL; one of them stalls, dies or is restarted.

Airflow calls `on_kill` of a live trigger when its triggerer comes back from a stall and finds the trigger with another
one (3.3.2, seen on a stopped supervisor): a trigger that takes this for a kill cancels a batch that is paid for.
"""

from __future__ import annotations

import shutil
import signal
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needed import not_here
from postgres import Postgres, programs
from scenes import DAG, SOON, Scene, begin, endless

from airflow_batch_provider.demo.stack import AirflowStack

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SCENES = {"stalled": "anthropic", "stopped": "gemini", "killed": "openai", "restarted": "anthropic", "failed": "openai"}
COMPONENT = "triggerer"
NAMES = (COMPONENT, "triggerer-2")
# Seconds without a heartbeat after which a triggerer counts as dead. A new one is silent for some seconds while it
# builds what answers its first question for a connection (Airflow 3.3.2; 8 s were seen on a busy machine).
THRESHOLD = 10

pytestmark = [pytest.mark.kills, pytest.mark.airflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    found = programs()
    if found is None:
        not_here("PostgreSQL is not installed: two triggerers cannot share SQLite. apt-get install postgresql")
    with Postgres(found) as server:
        yield server


@pytest.fixture(scope="module")
def airflow(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    home = tmp_path_factory.mktemp("two-triggerers")
    dags = shutil.copytree(HERE / "driven_dags", home / "dags")
    env = {
        **SOON,
        "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": (home / "batches").as_uri(),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(THRESHOLD),
    }
    with AirflowStack(home / "home", dags, env=env) as running:
        yield running


@dataclass(frozen=True)
class Triggerers:
    """The two of them, and which has a scene's trigger: on a busy machine Airflow may hand it over at any time."""

    airflow: AirflowStack
    database: Postgres
    jobs: dict[str, int] = field(default_factory=dict)

    def wait_for(self, name: str, scene: Scene) -> None:
        """The one of this name has just been launched."""
        scene.wait_until(f"{name} alive", lambda: self._alive() - set(self.jobs.values()))
        (self.jobs[name],) = self._alive() - set(self.jobs.values())

    def wait_until_alive(self, name: str, scene: Scene) -> None:
        scene.wait_until(f"{name} alive again", lambda: self.jobs[name] in self._alive())

    def owner(self, scene: Scene) -> str:
        """The one that has the scene's trigger."""
        scene.wait_until("owned", lambda: self._job_of(scene) in self.jobs.values())
        job = self._job_of(scene)
        return next(name for name, known in self.jobs.items() if known == job)

    def wait_for_takeover(self, scene: Scene, old: str) -> None:
        """The other one has the scene's trigger, and polls."""
        scene.wait_until("taken over", lambda: self._job_of(scene) not in (None, self.jobs[old]))
        scene.wait_for_a_poll()

    @contextmanager
    def frozen(self, name: str, *, offspring: bool) -> Iterator[None]:
        self.airflow.processes.signal(name, signal.SIGSTOP, offspring=offspring)
        try:
            yield
        finally:
            self.airflow.processes.signal(name, signal.SIGCONT, offspring=offspring)

    def _alive(self) -> set[int]:
        """Job ids of those that tell of themselves."""
        statement = (
            "SELECT id FROM job WHERE job_type = 'TriggererJob' AND end_date IS NULL"
            f" AND latest_heartbeat > now() - interval '{THRESHOLD} seconds'"
        )
        return {row[0] for row in self.database.query(statement)}

    def _job_of(self, scene: Scene) -> int | None:
        statement = "SELECT triggerer_id FROM trigger JOIN task_instance ON trigger_id = trigger.id WHERE run_id = %s"
        return self.database.query(statement, scene.run.run_id)[0][0]


@pytest.fixture(scope="module")
def triggerers(airflow: AirflowStack, database: Postgres) -> Triggerers:
    return Triggerers(airflow, database)


@pytest.fixture(scope="module")
def scenes(airflow: AirflowStack, triggerers: Triggerers) -> Iterator[dict[str, Scene]]:
    """All runs wait on the first triggerer; the second stands by."""
    first, second = NAMES
    airflow.require_dag(DAG)
    with ExitStack() as emulators:
        found = {
            name: begin(airflow, emulators.enter_context(endless()), name, provider)
            for name, provider in SCENES.items()
        }
        for scene in found.values():
            scene.wait_until_waiting()
        triggerers.wait_for(first, found["stalled"])
        airflow.launch(COMPONENT, second)
        triggerers.wait_for(second, found["stalled"])
        yield found
        assert [scene.calls("cancel") for name, scene in found.items() if name != "failed"] == [0, 0, 0, 0]


def test_a_triggerer_that_comes_back_from_a_stall_cancels_nothing(scenes, triggerers):
    """Airflow tells its triggers that a user killed them; the other one goes on with the batch."""
    scene = scenes["stalled"]
    name = triggerers.owner(scene)
    with triggerers.frozen(name, offspring=False):  # the child goes on: both run the trigger
        triggerers.wait_for_takeover(scene, name)
    scene.wait_until("on_kill by mistake", lambda: "its batch is left to" in scene.log)
    scene.require_success()


def test_a_triggerer_that_was_stopped_as_a_whole_cancels_nothing(scenes, triggerers):
    """As after a suspended machine."""
    scene = scenes["stopped"]
    name = triggerers.owner(scene)
    with triggerers.frozen(name, offspring=True):
        triggerers.wait_for_takeover(scene, name)
    triggerers.wait_until_alive(name, scene)
    scene.wait_for_a_poll()
    scene.require_success()


def test_another_triggerer_finishes_what_a_killed_one_looked_after(scenes, airflow, triggerers):
    """It finds all it needs in the trigger's arguments and in stage storage."""
    scene = scenes["killed"]
    name = triggerers.owner(scene)
    airflow.processes.kill(name)
    triggerers.wait_for_takeover(scene, name)
    scene.require_success()
    airflow.launch(COMPONENT, name)
    triggerers.wait_for(name, scene)


def test_a_rolling_restart_cancels_nothing(scenes, airflow, triggerers):
    """A triggerer that is asked to end hands its triggers over at once."""
    scene = scenes["restarted"]
    name = triggerers.owner(scene)
    airflow.processes.stop(name)
    triggerers.wait_for_takeover(scene, name)
    scene.require_success()


def test_with_two_triggerers_a_task_that_is_marked_failed_cancels_its_batch_once(scenes):
    """Whichever of them has the trigger."""
    scene = scenes["failed"]
    scene.wait_for_a_poll()
    scene.set_state("failed")
    scene.require_cancelled()
