"""Hundreds of tasks on one connection, and what each of them costs the deployment while it waits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crowd import Crowd, Footprint
from scenes import connect, endless

if TYPE_CHECKING:
    from cluster import Cluster

    from airflow_batch_provider.demo.rest import Run
    from airflow_batch_provider.emulator.server import EmulatorServer

pytestmark = pytest.mark.cluster
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_200_tasks_of_one_minute_on_one_connection_are_each_bought_once(cluster, provider):
    """Also where only one worker submits at a time, because the provider keeps no names."""
    cluster.airflow.require_dag("crowd_200")
    name = f"crowd-{provider}"
    with endless() as emulator:
        before = Footprint.of(cluster)
        run = cluster.airflow.rest.trigger("crowd_200", connect(cluster.airflow, emulator, name, provider), run_id=name)
        crowd = Crowd(cluster, emulator, run.run_id, 200)
        submitted = crowd.wait_until("all submitted", lambda: len(emulator.books()["jobs"]) == crowd.tasks)
        crowd.wait_until_deferred()
        print(f"{provider}: all submitted after {submitted:.0f} s")
        print(f"waiting, each task: {Footprint.of(cluster).per_task(before, crowd.tasks)}")
        print(crowd.watched())
        print(f"all done {crowd.end():.0f} s after the last batch ended")
        print(f"done, each task: {Footprint.of(cluster).per_task(before, crowd.tasks)}")
        crowd.require_bought_once()


def test_1000_deferred_tasks_on_two_triggerers_cost_little_and_all_wake_up(cluster):
    """They are deferred by one program, 8 at a time: what it costs to start tasks is the other test's."""
    with endless() as emulator:
        conf = connect(cluster.airflow, emulator, "deferred", "openai")
        cluster.airflow.wait_for_dag("crowd_1000")
        run = cluster.airflow.rest.trigger("crowd_1000", conf, run_id="deferred")
        crowd = Crowd(cluster, emulator, run.run_id, 1000)
        crowd.wait_until("tasks", lambda: crowd.states() == {"none": crowd.tasks}, 120)
        began = time.monotonic()
        defer_all(cluster, emulator, run, conf)
        print(f"{crowd.tasks} submitted and deferred in {time.monotonic() - began:.0f} s")
        cluster.airflow.require_dag("crowd_1000")
        statement = "SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL"
        crowd.wait_until("all are taken", lambda: cluster.postgres.query(statement)[0][0] >= crowd.tasks)
        print(crowd.watched())
        shares = "SELECT count(*) FROM trigger GROUP BY triggerer_id"
        print(f"each triggerer has: {cluster.postgres.query(shares)}")
        emulator.emulator.change({"progress": {"running": 0.0}})
        woken = crowd.wait_until("all are woken", lambda: "deferred" not in crowd.states())
        print(f"all woken after {woken:.0f} s")
        cluster.airflow.rest.send("PATCH", run.path, {"state": "failed"})
        assert emulator.books()["bought_twice"] == 0


def defer_all(cluster: Cluster, emulator: EmulatorServer, run: Run, conf: dict[str, str]) -> None:
    """Submit and defer every task of a run, by one program in place of the workers."""
    connection = {"conn_type": "openai_batch", "host": emulator.openai_url, "password": "any"}
    subprocess.run(
        [sys.executable, str(SUPPORT / "deferred_crowd.py"), run.run_id, *conf.values()],
        env={**cluster.airflow.env, f"AIRFLOW_CONN_{conf['conn_id'].upper()}": json.dumps(connection)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
