"""What many tasks cost: measured while they start, wait and end on a cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from cluster import BUCKET_PATH
from scenes import SLOW_MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster import Cluster

    from airflow_batch_provider.emulator.server import EmulatorServer

POLLS = ("list", "retrieve", "get")
_LONGEST = 3600 * SLOW_MACHINE
_WATCH_SECONDS = 120.0


@dataclass(frozen=True)
class Footprint:
    """What a deployment keeps: rows by table of Airflow's database, its bytes, and objects of stage storage with theirs."""

    rows: dict[str, int]
    database: int
    objects: int
    stored: int

    @classmethod
    def of(cls, cluster: Cluster) -> Footprint:
        tables = [
            name for (name,) in cluster.postgres.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        rows = {name: cluster.postgres.query(f'SELECT count(*) FROM "{name}"')[0][0] for name in tables}
        size = sum(
            cluster.postgres.query("SELECT pg_total_relation_size(%s)", f'public."{name}"')[0][0] for name in tables
        )
        sizes = cluster.s3.contents(f"{BUCKET_PATH}/").values()
        return cls(rows, size, len(sizes), sum(sizes))

    def per_task(self, before: Footprint, tasks: int) -> str:
        """What came since then, for each of so many tasks."""
        more = {name: (now - before.rows[name]) / tasks for name, now in self.rows.items()}
        tables = ", ".join(f"{name} {number:.2f}" for name, number in sorted(more.items()) if number >= 0.1)
        return (
            f"{sum(more.values()):.1f} rows ({tables}), {(self.database - before.database) / tasks:.0f} bytes in the database; "
            f"{(self.objects - before.objects) / tasks:.1f} objects, {(self.stored - before.stored) / tasks:.0f} bytes stored"
        )


@dataclass(frozen=True)
class Crowd:
    """Tasks at one provider, and what is known of them."""

    cluster: Cluster
    emulator: EmulatorServer
    run_id: str
    tasks: int

    def states(self) -> dict[str, int]:
        return self.cluster.states(self.run_id)

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = _LONGEST) -> float:
        """Wait; the seconds that it took."""
        began = time.monotonic()
        while not holds():
            waited = time.monotonic() - began
            assert waited < seconds, f"{what} is not so after {waited:.0f} s: {self.states()}"
            self.cluster.airflow.check()
            time.sleep(1)
        return time.monotonic() - began

    def wait_until_deferred(self) -> float:
        return self.wait_until("all are deferred", lambda: self.states() == {"deferred": self.tasks})

    def watched(self) -> str:
        """Polls a minute, and what each triggerer takes, while nothing else happens."""
        triggerers = ("triggerer", "triggerer-2")
        before, polls, began = {name: self._cpu(name) for name in triggerers}, self._polls(), time.monotonic()
        time.sleep(_WATCH_SECONDS)
        passed = time.monotonic() - began
        cpu = ", ".join(f"{(self._cpu(name) - before[name]) / passed:.1%}" for name in triggerers)
        memory = ", ".join(f"{self._memory(name) / 2**20:.0f} MiB" for name in triggerers)
        a_minute = 60 * (self._polls() - polls) / passed
        return f"{a_minute:.0f} polls a minute; each triggerer takes {cpu} of a core and {memory}"

    def end(self) -> float:
        """Let the batches end; the seconds until all tasks have succeeded."""
        self.emulator.emulator.change({"progress": {"running": 0.0}})
        return self.wait_until("all succeed", lambda: self.states() == {"success": self.tasks})

    def require_bought_once(self) -> None:
        books = self.emulator.books()
        assert (books["rows_bought"], books["bought_twice"]) == (self.tasks, 0)
        assert len(books["jobs"]) == self.tasks

    def _polls(self) -> int:
        calls = self.emulator.books()["calls"]
        return sum(number for route, number in calls.items() if route.rpartition(".")[2] in POLLS)

    def _family(self, name: str) -> list[psutil.Process]:
        parent = psutil.Process(self.cluster.airflow.processes.pid(name))
        return [parent, *parent.children(recursive=True)]

    def _cpu(self, name: str) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._family(name))

    def _memory(self, name: str) -> int:
        return sum(process.memory_full_info().uss for process in self._family(name))
