"""Two triggerers share the triggers of one Airflow, on PostgreSQL; one of them stalls, dies or is restarted.

Airflow calls `on_kill` of a live trigger when its triggerer comes back from a stall and finds the trigger with another
one (3.3.2, seen on a stopped supervisor): a trigger that takes this for a kill cancels a batch that is paid for.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from postgres import postgres, programs
from scenes import DAG, SOON, Scene, begin, endless

from airflow_batch_provider.demo.stack import AirflowStack

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SCENES = {"stalled": "anthropic", "stopped": "gemini", "killed": "openai", "restarted": "anthropic", "failed": "openai"}
FIRST, SECOND = "triggerer", "triggerer-2"

pytestmark = [pytest.mark.kills, pytest.mark.airflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    found = programs()
    if found is None:
        reason = "PostgreSQL is not installed: two triggerers cannot share SQLite. apt-get install postgresql"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with postgres(found) as url:
        yield url


@pytest.fixture(scope="module")
def airflow(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    home = tmp_path_factory.mktemp("two-triggerers")
    dags = shutil.copytree(HERE / "driven_dags", home / "dags")
    env = {
        **SOON,
        "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": (home / "batches").as_uri(),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
    }
    with AirflowStack(home / "home", dags, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def scenes(airflow: AirflowStack, database: str) -> Iterator[dict[str, Scene]]:
    """All runs wait on the first triggerer; the second stands by."""
    airflow.require_dag(DAG)
    with ExitStack() as emulators:
        found = {
            name: begin(airflow, emulators.enter_context(endless()), name, provider)
            for name, provider in SCENES.items()
        }
        for scene in found.values():
            scene.wait_until_waiting()
        airflow.launch(FIRST, SECOND)
        found["stalled"].wait_until("a second triggerer", lambda: len(alive(database)) == 2)
        yield found
        assert [scene.calls("cancel") for name, scene in found.items() if name != "failed"] == [0, 0, 0, 0]


def query(database: str, statement: str, *values: object) -> list[tuple]:
    with closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def alive(database: str) -> set[int]:
    """Job ids of the triggerers that tell of themselves."""
    statement = (
        "SELECT id FROM job WHERE job_type = 'TriggererJob' AND end_date IS NULL"
        " AND latest_heartbeat > now() - interval '5 seconds'"
    )
    return {row[0] for row in query(database, statement)}


def triggerer_of(database: str, scene: Scene) -> int | None:
    """Job id of the triggerer that runs the scene's trigger."""
    statement = "SELECT triggerer_id FROM trigger JOIN task_instance ON trigger_id = trigger.id WHERE run_id = %s"
    return query(database, statement, scene.run.run_id)[0][0]


def wait_for_takeover(database: str, scene: Scene, old: int | None) -> None:
    scene.wait_until("taken over", lambda: triggerer_of(database, scene) not in (None, old), 60)
    scene.wait_for_a_look()


def test_a_triggerer_that_comes_back_from_a_stall_cancels_nothing(scenes, airflow, database):
    """Airflow tells its triggers that a user killed them; the other one goes on with the batch."""
    scene = scenes["stalled"]
    old = triggerer_of(database, scene)
    airflow.processes.signal(FIRST, signal.SIGSTOP, offspring=False)  # the child goes on: both run the trigger
    wait_for_takeover(database, scene, old)
    airflow.processes.signal(FIRST, signal.SIGCONT, offspring=False)
    scene.wait_until("on_kill by mistake", lambda: "its batch is left to" in scene.log, 60)
    scene.require_success()


def test_a_triggerer_that_was_stopped_as_a_whole_cancels_nothing(scenes, airflow, database):
    """As after a suspended machine."""
    scene = scenes["stopped"]
    old = triggerer_of(database, scene)
    name = SECOND  # took everything over in the test before
    airflow.processes.signal(name, signal.SIGSTOP, offspring=True)
    wait_for_takeover(database, scene, old)
    airflow.processes.signal(name, signal.SIGCONT, offspring=True)
    scene.wait_until("back again", lambda: len(alive(database)) == 2, 60)
    scene.wait_for_a_look()
    scene.require_success()


def test_another_triggerer_finishes_what_a_killed_one_looked_after(scenes, airflow, database):
    """It finds all it needs in the trigger's arguments and in stage storage."""
    scene = scenes["killed"]
    old = triggerer_of(database, scene)
    airflow.processes.kill(FIRST)
    wait_for_takeover(database, scene, old)
    scene.require_success()


def test_a_rolling_restart_cancels_nothing(scenes, airflow, database):
    """A triggerer that is asked to end hands its triggers over at once."""
    scene = scenes["restarted"]
    airflow.launch(FIRST)
    scene.wait_until("both again", lambda: len(alive(database)) == 2, 60)
    old = triggerer_of(database, scene)
    airflow.processes.stop(SECOND)
    wait_for_takeover(database, scene, old)
    scene.require_success()


def test_with_two_triggerers_a_task_that_is_marked_failed_cancels_its_batch_once(scenes):
    """Whichever of them has the trigger."""
    scene = scenes["failed"]
    scene.wait_for_a_look()
    scene.set_state("failed")
    scene.require_cancelled()
