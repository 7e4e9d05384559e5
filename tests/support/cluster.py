"""A whole cluster on loopback: PostgreSQL, Redis, S3, and an Airflow of two schedulers, triggerers and Celery workers each."""

from __future__ import annotations

import importlib.util
import json
import time
from contextlib import ExitStack, suppress
from itertools import chain
from typing import TYPE_CHECKING, Self

import psutil
from postgres import Postgres, programs
from redis_server import RedisServer
from redis_server import program as redis_program
from s3_server import KEY, S3Server
from scenes import SOON

from airflow_batch_provider.demo.stack import COMPONENTS, AirflowStack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

WORKERS = ("worker-1", "worker-2")
CONCURRENCY = 4
# Seconds without a sign of life after which Airflow gives up a task; its own value is 300.
HEARTBEAT_SECONDS = 60
BUCKET_PATH = "cluster"
# The pid file is each worker's own; a worker that knows no others starts seconds earlier.
_WORKER = (
    "celery",
    "worker",
    "--skip-serve-logs",
    "--without-mingle",
    "--without-gossip",
    "--concurrency",
    str(CONCURRENCY),
)
_READY_SECONDS = 600.0


def missing() -> list[str]:
    """What has to be installed before a cluster can start."""
    needed = {
        "PostgreSQL (apt-get install postgresql)": programs(),
        "Redis (apt-get install redis-server)": redis_program(),
        "apache-airflow-providers-celery (pip install --group cluster)": importlib.util.find_spec("celery"),
    }
    return [name for name, found in needed.items() if found is None]


def components() -> dict[str, tuple[str, ...]]:
    """What an Airflow of a cluster consists of, by name."""
    worker = {f"worker-{n}": (*_WORKER, "--celery-hostname", f"worker-{n}", "--pid", f"worker-{n}.pid") for n in (1, 2)}
    twins = {f"{name}-2": tuple(COMPONENTS[name]) for name in ("scheduler", "triggerer")}
    return {**{name: tuple(words) for name, words in COMPONENTS.items()}, **twins, **worker}


class Cluster:
    """All of it, started on entry and gone on exit: no process and no folder but `home` outlives it.

    Args:
        home: scratch folder for Airflow; made when missing, kept on exit.
        dags: folder of DAG files.
        plugins: plugins folder.
        env: further variables for every component of Airflow; they win.
        say: told what is being waited for, one line each.

    Attributes:
        postgres, redis, s3, airflow: its parts.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        plugins: Path | None = None,
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        bin_ = programs()
        assert bin_ is not None, missing()
        self._say = say
        self.postgres, self.redis, self.s3 = Postgres(bin_), RedisServer(), S3Server()
        env = {**self._settings(), **(env or {})}
        self.airflow = AirflowStack(home, dags, plugins=plugins, env=env, components=components(), say=say)

    def _settings(self) -> dict[str, str]:
        stages = {"conn_type": "aws", "login": KEY["key"], "password": KEY["secret"]}
        return {
            **SOON,
            "AIRFLOW_CONN_STAGES": json.dumps({**stages, "extra": {"endpoint_url": self.s3.url}}),
            "AIRFLOW__API__WORKERS": "2",
            "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": f"s3://stages@batches/{BUCKET_PATH}",
            "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "2000",
            # As many as the workers can run: what waits in Redis waits in vain when Redis is lost, and its token ages.
            "AIRFLOW__CORE__PARALLELISM": str(2 * CONCURRENCY),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.url,
            "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            # Seconds until a task is queued again that a dead worker or a lost Redis had; Airflow's own is 600.
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
            # On a machine of 2 cores that does much else, answers were seen to take longer than Airflow's own 5 seconds.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            # There is one API server: a worker waits minutes for its successor, instead of a quarter of one.
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        }

    def start(self) -> None:
        """Start everything and wait until all of it works.

        Raises:
            ProcessDied: a component ended, with its last words.
            TimeoutError: not all are ready after 10 minutes.
        """
        with ExitStack() as undo:
            for name, server in (("PostgreSQL", self.postgres), ("Redis", self.redis), ("S3", self.s3)):
                self._say(f"starting {name}")
                undo.enter_context(server)
            undo.enter_context(self.airflow)
            for worker in WORKERS:
                self.wait_until_ready(worker)
            self._undo = undo.pop_all()

    def wait_until_ready(self, worker: str) -> None:
        """A Celery worker that was just launched takes tasks."""
        deadline = time.monotonic() + _READY_SECONDS
        while f"{worker} ready." not in self.airflow.processes.tail(worker, 200):
            self.airflow.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{worker} is not ready: {self.airflow.processes.tail(worker)}")
            time.sleep(0.3)

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as Kubernetes or systemd would; the names of these components."""
        ended = self.airflow.processes.ended()
        for name in ended:
            self.airflow.processes.stop(name)
            self.airflow.launch(name)
        return ended

    def states(self, run_id: str) -> dict[str, int]:
        """How many tasks of a run are in which state; asked of the database, because the API server may be gone."""
        statement = "SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE run_id = %s GROUP BY 1"
        return dict(self.postgres.query(statement, run_id))

    def task(self) -> psutil.Process | None:
        """The process of a task that runs on a worker now; None where there is none."""
        return next(filter(_is_task, chain.from_iterable(map(self._started_by, WORKERS))), None)

    def _started_by(self, worker: str) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.airflow.processes.pid(worker)).children(recursive=True)
        return []

    def stop(self) -> None:
        """End all of it."""
        self._undo.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _is_task(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it has just ended, or is a zombie
        return " ".join(process.cmdline()).startswith("airflow worker")
    return False
