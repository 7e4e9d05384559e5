"""One measurement of `bench_polling.py`, in a process of its own: waiting tasks under Airflow's own TriggerRunner.

Runs against any checkout of the package that PYTHONPATH names, so that two can be compared.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen
from uuid import UUID

os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
PROVIDER, STAGE, TASKS, INTERVAL, RECORD = (
    SETTINGS[name] for name in ("provider", "stage", "tasks", "interval", "record")
)
ACCOUNTS = [f"a{number}" for number in range(SETTINGS["accounts"])]
for name in [*ACCOUNTS, "dead"]:
    address = f"{SETTINGS['url']}/{name}" + ("/v1" if PROVIDER == "openai" else "")
    connection = {"conn_type": f"{PROVIDER}_batch", "password": "any", "host": address}
    os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)

from airflow.executors.workloads import RunTrigger  # noqa: E402
from airflow.executors.workloads.task import TaskInstanceDTO  # noqa: E402
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages  # noqa: E402
from airflow.sdk.execution_time import task_runner  # noqa: E402
from polled_stages import CHECKS  # noqa: E402

from airflow_batch_provider.ledger.landed import LandedRows  # noqa: E402
from airflow_batch_provider.ledger.waiting import Waiting  # noqa: E402
from airflow_batch_provider.providers import connection_ref  # noqa: E402
from airflow_batch_provider.stages import PollConfig, SuspendedState, TaskKey  # noqa: E402
from airflow_batch_provider.stages.config import BatchConfig  # noqa: E402
from airflow_batch_provider.stages.suspension import StageLocation, Suspension  # noqa: E402
from airflow_batch_provider.stages.wait import WaitConfig  # noqa: E402
from airflow_batch_provider.triggers.stage import AsyncBatchTrigger  # noqa: E402

MODEL = {"anthropic": "claude-x", "openai": "gpt-x"}[PROVIDER]
DEAD_TASKS = 100
# Seconds after which a burst of starts is over, also on a busy machine, and the first polls begin.
SETTLED = 20.0


class Supervisor:
    """The process above a triggerer: gives out triggers when it is asked, and takes everything, in order."""

    def __init__(self) -> None:
        self._reader_task = asyncio.ensure_future(asyncio.Event().wait())
        self.to_create: list[RunTrigger] = []
        self.came: dict[int, float] = {}
        self.records = 0
        self._pipe = asyncio.Lock()

    async def asend(self, message: Any) -> Any:
        async with self._pipe:
            if isinstance(message, messages.TriggerStateChanges):
                return self._changed(message)
            self.records += 1
            if RECORD:
                await asyncio.sleep(RECORD)
            return None

    def _changed(self, message: messages.TriggerStateChanges) -> messages.TriggerStateSync:
        for entry in message.events or ():
            assert entry.trigger_id not in self.came, "an end was told twice"
            assert entry.event.payload["status"] == "ready", entry.event.payload
            self.came[entry.trigger_id] = time.time()
        assert not message.failures, message.failures
        due, self.to_create = self.to_create, []
        return messages.TriggerStateSync(to_create=due, to_cancel=set())


class Runner(TriggerRunner):
    """Airflow's runner of triggers, whose supervisor is in this process."""

    async def init_comms(self) -> None:
        self.comms_decoder = task_runner.SUPERVISOR_COMMS = Supervisor()


def suspension(storage: str, account: str, batch_id: str, offset: float) -> Suspension:
    """A wait whose first poll comes `offset` seconds from now, with the files that its worker left."""
    now, ref = datetime.now(UTC), connection_ref(account, MODEL)
    key = TaskKey("dag", "run", f"{account}-{batch_id}")
    folder = Path(storage, "dag", "run", key.task_id)
    folder.mkdir(parents=True)
    config = {
        "Generate": lambda: BatchConfig(model=MODEL, connection=ref, system="Classify. " * 50),
        "Wait": lambda: WaitConfig(batch_id=batch_id, connection=ref),
        "Sleeper": lambda: WaitConfig(batch_id=batch_id, connection=ref),
    }[STAGE]()
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "landed.json").write_text(LandedRows(nonce="n", requests=10**6, asked=10**6).model_dump_json())
    waiting = Waiting(batch_ids=(batch_id,), queued=0, started_at=now, seen_at=now, newest_at=now)
    return Suspension(
        location=StageLocation(
            stage=f"polled_stages.{STAGE}", task=key, storage=Path(storage).as_uri(), conn_id=account
        ),
        state=SuspendedState(batch_id=batch_id, submitted_at=now, metadata=waiting.model_dump(mode="json")),
        poll=PollConfig(
            interval=timedelta(seconds=INTERVAL), first_poll=timedelta(seconds=offset), max_wait=timedelta(hours=5)
        ),
        suspended_at=now,
        token="t",
    )


def workload(place: int, wait: Suspension) -> RunTrigger:
    """What Airflow's triggerer is told of a deferred task."""
    kind = "polled_stages.Sleeper" if STAGE == "Sleeper" else AsyncBatchTrigger(**wait.kwargs()).serialize()[0]
    task = wait.task
    instance = TaskInstanceDTO(
        id=UUID(int=place),
        dag_version_id=UUID(int=0),
        task_id=task.task_id,
        dag_id=task.dag_id,
        run_id=task.run_id,
        try_number=1,
        pool_slots=1,
        priority_weight=1,
    )
    return RunTrigger(id=place, classpath=kind, encrypted_kwargs=json.dumps(wait.kwargs()), ti=instance)


def waits() -> list[tuple[str, str, float]]:
    """Connection, batch and first poll of every task, spread over the interval."""
    chance = random.Random(7)  # ends come in the order of the ids; the moments of polls must have nothing to do with it
    offsets = [SETTLED + INTERVAL * place / TASKS for place in range(TASKS)]
    chance.shuffle(offsets)
    found = [(ACCOUNTS[number % len(ACCOUNTS)], f"batch_{number:05d}", offset) for number, offset in enumerate(offsets)]
    if SETTINGS["dead"]:
        found += [("dead", f"batch_{number}", SETTLED + INTERVAL * number / DEAD_TASKS) for number in range(DEAD_TASKS)]
    return found


def workloads(storage: str, some: dict[int, tuple[str, str, float]]) -> list[RunTrigger]:
    """What Airflow's triggerer is told of these waits, which begin now."""
    return [workload(place, suspension(storage, *wait)) for place, wait in some.items()]


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def asked(path: str) -> dict[str, Any]:
    with urlopen(f"{SETTINGS['url']}/{path}") as reply:
        return json.load(reply)


async def moment() -> SimpleNamespace:
    """The books of the server, and ours."""
    books = await asyncio.to_thread(asked, "books")
    return SimpleNamespace(**books, cpu=cpu(), at=time.time(), checks=CHECKS["number"])


async def noticed(supervisor: Supervisor) -> list[float]:
    """End all batches; how many seconds later each was noticed, sorted."""
    ends = await asyncio.to_thread(asked, f"end?seconds={INTERVAL}")
    deadline = time.time() + 5 * INTERVAL
    while len(supervisor.came) < TASKS and time.time() < deadline:  # noqa: ASYNC110 — nothing tells when Airflow asked
        await asyncio.sleep(0.5)
    assert sorted(supervisor.came) == list(range(TASKS)), f"{len(supervisor.came)} of {TASKS} ends were noticed"
    late = sorted(supervisor.came[place] - end for place, end in enumerate(ends.values()))
    assert late[0] > 0, "an end was noticed before it came"
    return late


async def started(runner: Runner, waits: list[RunTrigger]) -> float:
    """Start triggers; the CPU seconds until all of them sleep."""
    supervisor: Any = runner.comms_decoder
    used, wanted = cpu(), len(runner.triggers) + len(waits)
    supervisor.to_create = waits
    while len(runner.triggers) < wanted or work_left():  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.25)
    await asyncio.sleep(1)
    return cpu() - used


def work_left() -> bool:
    """Whether a thread has anything to do for this event loop; what is left then is less than a trigger's start."""
    executor: Any = getattr(asyncio.get_running_loop(), "_default_executor", None)
    return executor is not None and executor._work_queue.qsize() > 0  # noqa: SLF001 — nothing public tells


async def measure(runner: Runner, storage: str) -> dict[str, Any]:
    """Start the triggers, let them wait, end the batches."""
    await asyncio.sleep(0.1)
    supervisor: Any = runner.comms_decoder
    everyone = dict(enumerate(waits()))
    first = {account: place for place, (account, _, _) in reversed(everyone.items())}
    supervisor.to_create = workloads(storage, {place: (*everyone[place][:2], 0.0) for place in first.values()})
    # They pay what is paid once: they are polled at once, and Airflow gets a record of each whose connection works.
    records = 0 if STAGE == "Sleeper" else len(ACCOUNTS)
    while CHECKS["number"] < len(first) or supervisor.records < records:  # noqa: ASYNC110 — nothing tells
        await asyncio.sleep(0.5)
    memory = resident()
    others = workloads(storage, {place: everyone[place] for place in everyone.keys() - set(first.values())})
    begun = time.time()
    start = await started(runner, others)
    assert time.time() < begun + SETTLED, "the machine is too busy: polls began before all had started"
    await asyncio.sleep(begun + SETTLED + INTERVAL + 2 - time.time())
    before = await moment()
    await asyncio.sleep(INTERVAL)
    after = await moment()
    memory = resident() - memory
    intervals = (after.at - before.at) / INTERVAL
    found = {
        "start_ms": start * 1000 / len(others),
        "kib": memory / 1024 / len(others),
        "cpu_ms": (after.cpu - before.cpu) * 1000 / len(everyone) / intervals,
        "checks": (after.checks - before.checks) / len(everyone) / intervals,
    }
    if STAGE == "Sleeper":
        return found
    assert after.requests > before.requests > 0
    assert not SETTINGS["dead"] or before.dead_requests > 0
    living = TASKS / len(everyone)  # those at the dead connection back off
    assert 0.85 * living < found["checks"] < 1.15, f"{found['checks']} checks of a task in an interval"
    assert supervisor.records >= TASKS, f"{supervisor.records} progress records of {TASKS} tasks"
    late = await noticed(supervisor)
    return found | {
        "sockets": after.sockets - 1,
        "requests": (after.requests - before.requests) * 60 / (after.at - before.at),
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
    }


async def main() -> dict[str, Any]:
    runner = Runner()
    running = asyncio.create_task(runner.arun())
    with tempfile.TemporaryDirectory() as storage:
        found = await measure(runner, storage)
        runner.stop = True
        for details in runner.triggers.values():
            details["task"].cancel()
        await asyncio.gather(*(details["task"] for details in runner.triggers.values()), return_exceptions=True)
        await running
    return found


print(json.dumps(asyncio.run(main())))
