"""One measurement of `bench_polling.py`, in a process of its own: waiting tasks under Airflow's own TriggerRunner.

Runs against any checkout of the package that PYTHONPATH names, so that two can be compared.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
CONNECTIONS = {
    "alive": SETTINGS["url"] + ("/v1" if SETTINGS["provider"] == "openai" else ""),
    "dead": "http://10.255.255.1:9",
}
for name, address in CONNECTIONS.items():
    connection = {"conn_type": f"{SETTINGS['provider']}_batch", "password": "any", "host": address}
    os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)

from airflow.jobs.triggerer_job_runner import TriggerRunner  # noqa: E402
from airflow.sdk.execution_time import task_runner  # noqa: E402

from airflow_batch_provider.providers import provider_class  # noqa: E402
from airflow_batch_provider.stages import PollConfig, SuspendedState, TaskKey  # noqa: E402
from airflow_batch_provider.triggers.stage import AsyncBatchTrigger  # noqa: E402

try:
    from airflow_batch_provider.stages.suspension import Suspension
except ImportError:
    from airflow_batch_provider.triggers.suspension import Suspension

STAGE = "airflow_batch_provider.stages.wait.WaitForBatch"
INTERVAL = SETTINGS["interval"]


def suspension(storage: str, conn_id: str, batch_id: str, offset: float) -> Suspension:
    """A wait whose first look comes `offset` seconds from now."""
    now = datetime.now(UTC)
    key = TaskKey("dag", "run", f"{conn_id}-{batch_id}")
    folder = Path(storage, "dag", "run", key.task_id)
    folder.mkdir(parents=True)
    config = {"batch_id": batch_id, "conn_id": f"{SETTINGS['provider']}@{conn_id}"}
    (folder / "config.json").write_text(json.dumps(config))
    return Suspension(
        stage=STAGE,
        task=key,
        storage=Path(storage).as_uri(),
        conn_id=conn_id,
        state=SuspendedState(batch_id=batch_id, submitted_at=now),
        poll=PollConfig(
            interval=timedelta(seconds=INTERVAL), first_poll=timedelta(seconds=offset), max_wait=timedelta(hours=5)
        ),
        suspended_at=now,
        token="t",
    )


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def books() -> dict[str, Any]:
    with urlopen(f"{SETTINGS['url']}/books") as reply:
        return json.load(reply)


class Events(deque[Any]):
    """Airflow's outbound queue of a runner, which notes when an event came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[int, float] = {}

    def append(self, entry: Any) -> None:
        assert entry.event.payload["status"] == "ready", entry.event.payload
        self.came[entry.trigger_id] = time.time()


class Comms:
    """The supervisor, which takes everything."""

    async def asend(self, _message: Any) -> None:
        return None


def waits(storage: str) -> list[Suspension]:
    """Those whose ends are timed, then the neighbours at the dead connection."""
    step = INTERVAL / len(SETTINGS["ids"])
    found = [suspension(storage, "alive", one, 2 + step * place) for place, one in enumerate(SETTINGS["ids"])]
    if SETTINGS["neighbour"]:
        found += [suspension(storage, "dead", f"batch_dead{place}", 2 + place * step) for place in range(100)]
    return found


async def noticed(events: Events, number: int) -> list[float]:
    """End all batches; how many seconds later each was noticed, sorted."""
    with await asyncio.to_thread(urlopen, f"{SETTINGS['url']}/end") as reply:
        ends = list(json.load(reply).values())
    deadline = time.time() + 5 * INTERVAL
    while len(events.came) < number and time.time() < deadline:  # noqa: ASYNC110 — as a triggerer's loop does
        await asyncio.sleep(0.5)
    assert sorted(events.came) == list(range(number)), f"{len(events.came)} of {number} ends were noticed"
    return sorted(came - ends[place] for place, came in events.came.items())


async def measure() -> dict[str, Any]:
    """Start the triggers, let them wait, end the batches."""
    task_runner.SUPERVISOR_COMMS = Comms()
    provider_class(SETTINGS["provider"])  # the SDK's import is not the triggers' cost
    runner = TriggerRunner()
    runner.events = events = Events()
    with tempfile.TemporaryDirectory() as storage:
        suspended = waits(storage)
        memory, used = resident(), cpu()
        for place, wait in enumerate(suspended):
            trigger = AsyncBatchTrigger(**wait.kwargs())
            task = asyncio.create_task(runner.run_trigger(place, trigger))
            runner.triggers[place] = {"task": task, "name": str(place), "events": 0, "is_watcher": False}
        await asyncio.sleep(1.9)
        start = (cpu() - used) * 1000 / len(suspended)
        await asyncio.sleep(INTERVAL + 2)
        before, used, began = await asyncio.to_thread(books), cpu(), time.time()
        await asyncio.sleep(2 * INTERVAL)
        after, used, minutes = await asyncio.to_thread(books), cpu() - used, (time.time() - began) / 60
        memory = resident() - memory
        late = await noticed(events, len(SETTINGS["ids"]))
        for details in runner.triggers.values():
            details["task"].cancel()
        await asyncio.gather(*(details["task"] for details in runner.triggers.values()), return_exceptions=True)
    assert after["requests"] > before["requests"] > 0
    return {
        "start_ms": start,
        "kib": memory / 1024 / len(suspended),
        "sockets": after["sockets"] - 1,
        "requests": (after["requests"] - before["requests"]) / minutes,
        "cpu_ms": used * 1000 / len(suspended) / 2,
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
    }


print(json.dumps(asyncio.run(measure())))
