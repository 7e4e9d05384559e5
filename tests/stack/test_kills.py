"""Processes of a running Airflow are killed, frozen and restarted, tasks are marked and cleared; the books stay balanced.

Every scene is a run with an emulator of its own. All runs start at once, and those that are hit while they submit are
hit then: they recover in the background while the tests before theirs go on.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from scenes import DAG, Scene, begin, endless

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.demo.stack import AirflowStack

# Name → provider.
SCENES = {
    "killed-before-commit": "anthropic",
    "killed-after-commit": "anthropic",
    "killed-after-commit-too": "openai",
    "killed-while-uploading": "openai",
    "zombie-while-submitting": "gemini",
    "killed-while-landing": "anthropic",
    "machine-lost-while-landing": "openai",
    "marked-failed": "openai",
    "marked-success": "anthropic",
    "run-failed": "gemini",
    "cleared": "anthropic",
    "triggerer-frozen": "openai",
    "trigger-1": "anthropic",
    "trigger-2": "openai",
    "trigger-3": "gemini",
    "trigger-4": "anthropic",
    "scheduler-restarted": "openai",
}

# Seconds that a reply is held back: until its client is killed, for certain.
HELD = 45.0
# Longer than Airflow waits for a triggerer's heartbeat here.
FROZEN = 7.0
pytestmark = pytest.mark.kills


@pytest.fixture(scope="module")
def scenes(stack: AirflowStack) -> Iterator[dict[str, Scene]]:
    stack.require_dag(DAG)
    with ExitStack() as emulators:
        servers = {name: emulators.enter_context(endless()) for name in SCENES}
        hold(servers["killed-before-commit"], "anthropic.create", "before")
        hold(servers["killed-after-commit"], "anthropic.create", "after")
        hold(servers["killed-after-commit-too"], "openai.batches.create", "after")
        hold(servers["killed-while-uploading"], "openai.files.create", "after")
        hold(servers["zombie-while-submitting"], "google.create", "after")
        found = {name: begin(stack, servers[name], name, provider) for name, provider in SCENES.items()}
        for name in ("killed-before-commit", "killed-while-uploading"):
            interrupt(found[name], "create", signal.SIGKILL, worker=False, jobs=0)
        for name in ("killed-after-commit", "killed-after-commit-too"):
            interrupt(found[name], "create", signal.SIGKILL, worker=False, jobs=1)
        interrupt(found["zombie-while-submitting"], "create", signal.SIGSTOP, worker=True, jobs=1)
        yield found


def hold(emulator, route, when):
    emulator.faults.add(route, "stall", seconds=HELD, when=when)


def interrupt(scene: Scene, verb: str, number: signal.Signals, *, worker: bool, jobs: int = 1) -> None:
    """Hit the task's process while it waits for the reply to a call of that verb, the provider having so many batches."""
    scene.wait_until(f"a call of {verb}", lambda: scene.calls(verb) > 0 and len(scene.jobs) == jobs)
    scene.send(number, worker=worker)


def test_a_task_marked_failed_while_it_is_deferred_takes_its_batch_along(scenes):
    """The trigger sees that nobody waits any more."""
    scene = scenes["marked-failed"]
    scene.wait_until_waiting()
    scene.set_state("failed")
    scene.require_cancelled()


def test_a_task_marked_success_while_it_is_deferred_takes_its_batch_along(scenes):
    """Whoever declares it done will not read its answers."""
    scene = scenes["marked-success"]
    scene.wait_until_waiting()
    scene.set_state("success")
    scene.require_cancelled()


def test_a_run_set_to_failed_takes_the_batches_of_its_tasks_along(scenes):
    """Airflow fails the deferred task with its run."""
    scene = scenes["run-failed"]
    scene.wait_until_waiting()
    scene.stack.rest.send("PATCH", scene.run.path, {"state": "failed"})
    scene.require_cancelled()


def test_a_cleared_task_goes_on_with_the_batch_that_runs(scenes):
    """Its next try attaches to it, in one attempt; nothing is cancelled, nothing bought again."""
    scene = scenes["cleared"]
    scene.wait_until_waiting()
    scene.clear()
    scene.wait_until_waiting(attempt=2)
    scene.require_success(attempt=2)


def test_a_killed_or_frozen_landing_is_done_again_and_nothing_is_bought_again(scenes):
    """The task's process alone, and its supervisor with it, which Airflow only notices by their silence."""
    alone, machine = scenes["killed-while-landing"], scenes["machine-lost-while-landing"]
    hold(alone.emulator, "anthropic.results", "after")
    hold(machine.emulator, "openai.files.content", "after")
    for scene, verb, worker in ((alone, "results", False), (machine, "content", True)):
        scene.wait_until_waiting()
        scene.end_batch()
        interrupt(scene, verb, signal.SIGKILL, worker=worker)
    alone.require_success(attempt=2)
    machine.require_success(attempt=2)


def test_a_triggerer_that_was_frozen_goes_on_where_it_was(scenes, stack):
    """Beyond its health threshold; it cancels nothing when it wakes up."""
    scene = scenes["triggerer-frozen"]
    scene.wait_until_waiting()
    stack.processes.signal("triggerer", signal.SIGSTOP, offspring=True)
    time.sleep(FROZEN)
    stack.processes.signal("triggerer", signal.SIGCONT, offspring=True)
    scene.wait_for_a_poll()
    scene.require_success()


def test_a_new_triggerer_goes_on_after_a_killed_one_and_lost_triggers_get_successors(scenes, stack):
    """One cannot be imported, one crashes, one is timed out by Airflow; the restart at the end cancels nothing."""
    waiting = [scenes[f"trigger-{number}"] for number in (1, 2, 3, 4)]
    for scene in waiting:
        scene.wait_until_waiting()

    stack.processes.kill("triggerer")
    *lost, healthy = sorted(waiting, key=lambda scene: trigger_of(stack, scene))
    unknown, crashing, overdue = lost
    change(stack, "UPDATE trigger SET classpath = 'nowhere.Gone' WHERE id = ?", trigger_of(stack, unknown))
    change(
        stack,
        "UPDATE trigger SET kwargs = replace(kwargs, '\"file://', '\"file://\\u0000') WHERE id = ?",  # no path holds a NUL
        trigger_of(stack, crashing),
    )
    change(
        stack,
        "UPDATE task_instance SET trigger_timeout = '2000-01-01 00:00:00.000000' WHERE trigger_id = ?",
        trigger_of(stack, overdue),
    )
    before = {scene.run: trigger_of(stack, scene) for scene in lost}
    stack.launch("triggerer")
    for scene in lost:
        scene.wait_until(
            "another trigger", lambda scene=scene: trigger_of(stack, scene) not in (None, before[scene.run])
        )
    for scene in waiting:
        scene.wait_until_waiting()

    # Airflow 3.3.2 on SQLite never forgets the id of a trigger that could not be loaded, and gives it to a later one.
    stack.processes.stop("triggerer")
    stack.launch("triggerer")
    for scene in waiting:
        scene.wait_until_waiting()
        scene.require_success()
    assert "The trigger was lost" not in healthy.log
    assert all("The trigger was lost" in scene.log for scene in lost)


def trigger_of(stack, scene):
    with closing(database(stack)) as connection:
        (found,) = connection.execute("SELECT trigger_id FROM task_instance WHERE run_id = ?", (scene.run.run_id,))
    return found[0]


def change(stack, statement, trigger_id):
    with closing(database(stack)) as connection, connection:
        assert connection.execute(statement, (trigger_id,)).rowcount == 1


def database(stack):
    return sqlite3.connect(stack.home / "airflow.db", timeout=30)


def test_a_task_killed_while_it_submits_pays_once(scenes):
    """Whether the provider has the batch or not, and whatever it keeps to recognise it by."""
    for name in ("killed-after-commit", "killed-after-commit-too", "killed-while-uploading", "killed-before-commit"):
        scenes[name].wait_until_waiting(attempt=2)
        scenes[name].require_success(attempt=2)
    assert scenes["killed-while-uploading"].calls("files.create") == 1


def test_a_zombie_that_wakes_up_after_its_successor_went_on_disturbs_nothing(scenes):
    """Its create was answered while it was frozen; it finds its place taken, and ends."""
    scene = scenes["zombie-while-submitting"]
    scene.wait_until_waiting(attempt=2)
    for process in scene.hit:
        process.send_signal(signal.SIGCONT)
    task = scene.hit[-1]
    scene.wait_until("the zombie's end", lambda: not task.is_running(), HELD)
    scene.wait_for_a_poll()
    scene.require_success(attempt=2)


def test_a_restarted_scheduler_finds_the_deferred_task_again(scenes, stack):
    """Nothing of a wait is in the scheduler: the batch ends while there is none."""
    scene = scenes["scheduler-restarted"]
    scene.wait_until_waiting()
    stack.processes.stop("scheduler")
    scene.end_batch()
    scene.wait_for("scheduled")
    stack.launch("scheduler")
    scene.require_success()
