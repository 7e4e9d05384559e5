"""`make cluster`: PostgreSQL, Redis, S3, an Airflow of ten processes and the emulator run the example DAGs, until Ctrl-C.

`CLUSTER_EXIT=1` ends it after the DAGs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from cluster import Cluster, missing

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.demo.stack import PASSWORD, USERNAME
from airflow_batch_provider.demo.terminal import Narrator, exit_code_of, wait_for_ctrl_c
from airflow_batch_provider.emulator.server import EmulatorServer

EXAMPLES = Path(__file__).parents[2] / "example_dags"
_RUN_SECONDS = 900.0


def main() -> int:
    """Run the cluster; the exit code of `exit_code_of`."""
    if needed := missing():
        print(f"A cluster needs {', '.join(needed)}.", file=sys.stderr)
        return 1
    return exit_code_of(_run, "The cluster")


def _run() -> None:
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as home:
        _cluster(Path(home), stay=os.environ.get("CLUSTER_EXIT", "") in ("", "0"))


def _cluster(home: Path, *, stay: bool) -> None:
    narrator = Narrator()
    with EmulatorServer() as emulator:
        narrator.say(f"the three batch APIs are emulated at {emulator.url}")
        cluster = Cluster(
            home / "airflow",
            EXAMPLES,
            plugins=EXAMPLES / "plugins",
            env=to_emulator(emulator),
            say=lambda line: narrator.say(f"starting up: {line}"),
        )
        with cluster:
            narrator.say(f"Airflow is up at {cluster.airflow.url}")
            _run_examples(cluster, narrator)
            print(f"\nAirflow   {cluster.airflow.url}  (login {USERNAME} / {PASSWORD})")
            print(f"Emulator  {emulator.url}\nS3        {cluster.s3.url}\nLogs      {home}/airflow\n", flush=True)
            if stay:
                wait_for_ctrl_c(cluster.airflow.check)
        narrator.say("everything is stopped")


def _run_examples(cluster: Cluster, narrator: Narrator) -> None:
    rest = cluster.airflow.rest
    dags = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    for dag_id in dags:
        cluster.airflow.require_dag(dag_id)
    runs = [rest.trigger(dag_id) for dag_id in dags]
    narrator.say(f"{len(runs)} example DAGs run")
    for run in runs:
        rest.require_success(run, rest.wait(run, timeout_seconds=_RUN_SECONDS))
        narrator.say(f"{run.dag_id} has succeeded")


if __name__ == "__main__":
    sys.exit(main())
