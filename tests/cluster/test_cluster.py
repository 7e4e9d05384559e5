"""Each kind of process of a cluster is killed, frozen and restarted, and each service fails, while tasks are under way."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from cluster import HEARTBEAT_SECONDS, WORKERS
from cluster_load import connections, load
from small_disk import small_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster import Cluster
    from cluster_load import Load

# One of each kind; the others of the pairs go on.
COMPONENTS = ("scheduler", "triggerer", "worker-1", "dag-processor", "api-server")
# Seconds: longer than a component may be silent here before Airflow gives it, or its tasks, up.
FROZEN = HEARTBEAT_SECONDS + 15
# Longest time that a worker gets to end its tasks when it is asked to go.
DRAIN_SECONDS = 120
OUTAGE = 20
SKEW = 45


def kill(cluster: Cluster, name: str) -> None:
    """As if its machine were gone, and another one took its place."""
    cluster.airflow.processes.kill(name)
    cluster.airflow.launch(name)


def freeze(cluster: Cluster, name: str) -> None:
    """As a machine that is suspended."""
    cluster.airflow.processes.signal(name, signal.SIGSTOP, offspring=True)
    time.sleep(FROZEN)
    cluster.airflow.processes.signal(name, signal.SIGCONT, offspring=True)


def signal_a_task(running: Load, number: signal.Signals) -> psutil.Process:
    """One that is still there then; its process."""
    while True:
        with suppress(psutil.NoSuchProcess):
            task = running.a_task()
            task.send_signal(number)
            return task


def kill_a_task(running: Load) -> None:
    signal_a_task(running, signal.SIGKILL)


def freeze_a_task(running: Load) -> None:
    task = signal_a_task(running, signal.SIGSTOP)
    time.sleep(FROZEN)
    with suppress(psutil.NoSuchProcess):  # its worker has ended it
        task.resume()


def restart_worker(cluster: Cluster, name: str, env: dict[str, str] | None = None) -> None:
    """A worker that is asked to go ends its tasks first."""
    cluster.airflow.processes.drain(name, DRAIN_SECONDS)
    cluster.airflow.launch(name, env=env)
    cluster.wait_until_ready(name)


def restart(cluster: Cluster, name: str) -> None:
    if name in WORKERS:
        restart_worker(cluster, name)
    else:
        cluster.airflow.processes.stop(name)
        cluster.airflow.launch(name)


@pytest.mark.kills
def test_a_worker_and_a_triggerer_that_are_killed_cost_nothing(cluster):
    """The small scene of `make test-all`."""
    with load(cluster, "killed-small", dag="small_load", mapped=1, seconds=5) as running:
        running.go_through([partial(kill, cluster, name) for name in ("worker-1", "triggerer")])
        running.require_balanced()


@pytest.mark.cluster
def test_whatever_is_killed_every_row_is_bought_once_and_none_is_lost(cluster):
    """One process of each kind after the other, a task's own among them."""
    with load(cluster, "killed") as running:
        kills: list[Callable[[], None]] = [partial(kill, cluster, name) for name in COMPONENTS]
        running.go_through([*kills, partial(kill_a_task, running)])
        running.require_balanced()


@pytest.mark.cluster
def test_whatever_is_frozen_every_row_is_bought_once_and_none_is_lost(cluster):
    """Airflow gives it up meanwhile, and it wakes up beside its successor."""
    with load(cluster, "frozen", dag="large_load", mapped=45) as running:
        freezes: list[Callable[[], None]] = [partial(freeze, cluster, name) for name in COMPONENTS]
        running.go_through([*freezes, partial(freeze_a_task, running)])
        running.require_balanced()


@pytest.mark.cluster
def test_whatever_service_fails_every_row_is_bought_once_and_none_is_lost(cluster):
    """The database is restarted, the broker comes back empty, the object store refuses, then hesitates."""

    def refuse() -> None:
        cluster.s3.unavailable = True
        time.sleep(OUTAGE)
        cluster.s3.unavailable = False

    def hesitate() -> None:
        cluster.s3.delay = 3.0
        time.sleep(OUTAGE)
        cluster.s3.delay = 0.0

    with load(cluster, "services") as running:
        running.go_through([partial(cluster.postgres.restart, 5), partial(cluster.redis.lose, 5), refuse, hesitate])
        running.require_balanced()


@pytest.mark.cluster
def test_a_worker_whose_disk_is_full_loses_nothing(cluster, tmp_path):
    """The disk of its temporary files, while tasks submit and while they land: they fail, and go on once there is room."""
    if os.geteuid() != 0:
        pytest.skip("Only root may mount a small disk.")
    with ExitStack() as undo:
        disk = undo.enter_context(small_disk(tmp_path / "disk"))

        def fill() -> None:
            disk.fill()
            time.sleep(OUTAGE)
            disk.make_room()

        undo.callback(restart_worker, cluster, WORKERS[0])
        restart_worker(cluster, WORKERS[0], {"TMPDIR": str(disk.path)})
        with load(cluster, "full") as running:
            running.go_through([fill, fill])
            running.require_balanced()
            assert running.tries() > running.tasks


@pytest.mark.cluster
def test_a_rolling_restart_loses_nothing(cluster):
    """Every component, the workers by their own leave."""
    with load(cluster, "rolling") as running:
        names = [*COMPONENTS, "scheduler-2", "triggerer-2", "worker-2"]
        running.go_through([partial(restart, cluster, name) for name in names])
        running.require_balanced()


@pytest.mark.cluster
def test_a_key_that_is_rotated_while_tasks_wait_loses_nothing(cluster):
    """The old key is dead at the moment in which the connections get the new one."""
    with load(cluster, "rotated") as running:

        def rotate() -> None:
            for connection in connections(running.emulator, "rotated", key="second"):
                cluster.airflow.rest.send("PATCH", f"/connections/{connection['connection_id']}", connection)
            running.emulator.emulator.change({"keys": ["second"]})

        running.go_through([rotate])
        running.require_balanced()


@pytest.mark.cluster
def test_a_triggerer_that_is_drained_hands_its_tasks_over(cluster):
    """The other one has them all, and what it polls ends."""
    with load(cluster, "drained") as running:
        running.go_through([partial(cluster.airflow.processes.stop, "triggerer")])
        running.require_balanced()
    cluster.airflow.launch("triggerer")


def faketime() -> str | None:
    """The library that shows a process another time; the path, None where it is not installed."""
    return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@pytest.mark.cluster
def test_workers_whose_clocks_are_90_seconds_apart_buy_once(cluster):
    """One is ahead, one behind; leases and claims go by what the provider or the storage says."""
    library = faketime()
    if library is None:
        pytest.skip("faketime is not installed: apt-get install faketime")
    try:
        for name, sign in zip(WORKERS, "+-", strict=True):
            shown = {"LD_PRELOAD": library, "FAKETIME": f"{sign}{SKEW}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            restart_worker(cluster, name, shown)
        with load(cluster, "skewed") as running:
            running.go_through([partial(kill_a_task, running), partial(kill_a_task, running)])
            running.require_balanced()
    finally:
        for name in WORKERS:
            restart_worker(cluster, name)
