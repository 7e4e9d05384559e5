"""Tasks under way on a cluster, with an emulator of their own, whose books say what was bought."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
from cluster import BUCKET_PATH
from scenes import MODELS, SLOW_MACHINE, connection
from upath import UPath

from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cluster import Cluster

    from airflow_batch_provider.demo.rest import Run

ROWS = 2
# The tasks' own deadline is 30 minutes after their first submit; what is not over by then hangs.
_LONGEST = 40 * 60 * SLOW_MACHINE
_LOOK_SECONDS = 1.0
_SOME_TASK_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """One run of a DAG of `dags/load.py`; `revived` are the components that ended by themselves meanwhile."""

    cluster: Cluster
    emulator: EmulatorServer
    run: Run
    tasks: int
    revived: list[str] = field(default_factory=list)

    def states(self) -> dict[str, int]:
        return self.cluster.states(self.run.run_id)

    def tries(self) -> int:
        """How often tasks were begun, all together."""
        statement = "SELECT sum(try_number) FROM task_instance WHERE run_id = %s"
        return int(self.cluster.postgres.query(statement, self.run.run_id)[0][0])

    @property
    def progress(self) -> float:
        """From 0 to 1: half of it is submitting, half is landing."""
        submitted = min(len(self.emulator.books()["jobs"]), self.tasks)
        return (submitted + self.states().get("success", 0)) / (2 * self.tasks)

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = _LONGEST) -> None:
        """Look until it is so; components that end by themselves are started again."""
        deadline = time.monotonic() + seconds
        while not self._is_so(holds):
            assert time.monotonic() < deadline, (
                f"{self.run.run_id}: {what} is not so after {seconds:.0f} s: {self.story}"
            )
            self.revived.extend(self.cluster.revive())
            time.sleep(_LOOK_SECONDS)

    def _is_so(self, holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except psycopg2.OperationalError:  # it is being restarted
            return False

    def go_through(self, faults: Sequence[Callable[[], None]]) -> None:
        """Let these things happen one after the other, spread over the whole time in which the tasks are under way."""
        for number, strike in enumerate(faults):
            share = (number + 0.5) / (len(faults) + 1)
            self.wait_until(f"{share:.0%} done", lambda share=share: self.progress >= share)
            assert self.progress < 1, f"all tasks were over before fault {number}: {self.story}"
            strike()
            assert self.emulator.books()["bought_twice"] == 0, self.story

    def a_task(self):
        """The process of one of the tasks, when there is one."""
        found = []

        def one() -> bool:
            found.extend(filter(None, [self.cluster.task()]))
            return bool(found)

        self.wait_until("a task on a worker", one, _SOME_TASK_SECONDS * SLOW_MACHINE)
        return found[0]

    def require_balanced(self) -> None:
        """All tasks succeed before their deadline, every row was bought once, and every answer is in the results."""
        self.wait_until("the end", lambda: self._run_state() in ("success", "failed"))
        books = self.emulator.books()
        expected = self.tasks * ROWS
        assert self.states() == {"success": self.tasks}, self.story
        assert (books["rows_bought"], books["bought_twice"]) == (expected, 0), self.story
        assert sum(job["billed"] for job in books["jobs"]) == expected, self.story
        assert sum(self._answers(manifest) for manifest in self._manifests()) == expected
        left = [name for name in self.cluster.s3.contents(f"{BUCKET_PATH}/") if "/open/" in name]
        assert left == [], "the registry still waits for batches"
        print(f"{self.run.run_id}: {self.tasks} tasks took {self.tries()} tries")

    def _run_state(self) -> str:
        return self.cluster.postgres.query("SELECT state FROM dag_run WHERE run_id = %s", self.run.run_id)[0][0]

    def _manifests(self) -> list[dict[str, Any]]:
        rows = self.cluster.postgres.query(
            "SELECT value FROM xcom WHERE run_id = %s AND key = 'return_value'", self.run.run_id
        )
        manifests = [json.loads(value) if isinstance(value, str) else value for (value,) in rows]
        assert len(manifests) == self.tasks
        return manifests

    def _answers(self, manifest: dict[str, Any]) -> int:
        where = f"s3://{manifest['results'].partition('@')[2]}"
        lines = UPath(where, key="k", secret="s", endpoint_url=self.cluster.s3.url).read_text().splitlines()
        return sum(json.loads(line)["status"] == "succeeded" for line in lines)

    @property
    def story(self) -> str:
        books = self.emulator.books()
        jobs = [(job["id"], job["phase"], job["billed"]) for job in books["jobs"]]
        sums = {name: books[name] for name in ("rows_asked", "rows_bought", "bought_twice")}
        return f"{self.states()}, {sums}, revived {self.revived}, calls {books['calls']}, jobs {jobs}"


@contextmanager
def load(cluster: Cluster, name: str, *, dag: str = "load", mapped: int = 16, seconds: float = 20) -> Iterator[Load]:
    """A run of the DAG under the scene's name.

    Args:
        mapped: how many mapped tasks the DAG has for each provider.
        seconds: how long each batch runs.
    """
    cluster.airflow.require_dag(dag)
    progress = Progress(pending=1.0, running=seconds, finalizing=1.0)
    with EmulatorServer(Settings(progress=progress)) as emulator:
        for each in connections(emulator, name, key="first"):
            cluster.airflow.rest.send("POST", "/connections", each)
        run = cluster.airflow.rest.trigger(dag, run_id=name)
        yield Load(cluster, emulator, run, tasks=len(MODELS) * (mapped + 1))


def connections(emulator: EmulatorServer, name: str, key: str) -> list[dict[str, str]]:
    """The connections of a scene, as Airflow's REST API takes them."""
    return [connection(emulator, f"{name}-{provider}", provider, key) for provider in MODELS]
