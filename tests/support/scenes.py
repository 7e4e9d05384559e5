"""One run of the DAG `killable` with an emulator, a connection and books of its own, so that nothing disturbs another."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from airflow_batch_provider.demo.connections import addresses
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from airflow_batch_provider.demo.rest import Run, TaskInstance
    from airflow_batch_provider.demo.stack import AirflowStack

DAG = "killable"
ROWS = 3
MODELS = {
    "anthropic": "anthropic:claude-haiku-4-5",
    "openai": "openai:gpt-5-mini",
    "gemini": "google:gemini-2.5-flash",
}
_FOREVER = 1e9
# How many times as long to wait for a real Airflow; for machines that do much else.
SLOW_MACHINE = float(os.environ.get("SLOW_MACHINE", "1"))
# Seconds; generous, because a busy machine may take ten times as long as an idle one.
_LONGEST_WAIT = 180.0 * SLOW_MACHINE
# Seconds until Airflow gives a dead component or a dead task up; its own values are 30 and 300.
SOON = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}


@dataclass(frozen=True)
class Scene:
    """A run whose batch goes on until `end_batch`; `hit` are the processes that got a signal."""

    stack: AirflowStack
    emulator: EmulatorServer
    run: Run
    hit: list[psutil.Process] = field(default_factory=list)

    @property
    def task(self) -> TaskInstance:
        return self.stack.rest.task_instances(self.run)[0]

    @property
    def path(self) -> str:
        return f"{self.run.path}/taskInstances/ask"

    @property
    def log(self) -> str:
        return self.stack.rest.log(self.run, self.task)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The batches that the provider ever had of this run."""
        return self.emulator.books()["jobs"]

    @property
    def job(self) -> dict[str, Any]:
        """The only one."""
        assert len(self.jobs) == 1, self.story
        return self.jobs[0]

    def calls(self, verb: str) -> int:
        """How often the provider was asked for something, by the end of the route's name."""
        calls = self.emulator.books()["calls"]
        return sum(number for route, number in calls.items() if route.endswith(f".{verb}"))

    @property
    def polls(self) -> int:
        return sum(self.calls(verb) for verb in ("list", "retrieve", "get"))

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float = _LONGEST_WAIT) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{self.run.run_id}: {what} is not so after {seconds} s: {self.story}"
            time.sleep(0.2)

    def wait_for(self, state: str, *, attempt: int = 1, seconds: float = _LONGEST_WAIT) -> None:
        def reached() -> bool:
            task = self.task
            return (task.state, task.try_number) == (state, attempt)

        self.wait_until(f"{state!r} in try {attempt}", reached, seconds)

    def wait_for_a_poll(self) -> None:
        """A trigger runs and polls the batch, now."""
        seen = self.polls
        self.wait_until("another poll", lambda: self.polls > seen)

    def wait_until_waiting(self, *, attempt: int = 1) -> None:
        """The task is deferred and a trigger looks after its batch."""
        self.wait_for("deferred", attempt=attempt)
        self.wait_for_a_poll()

    def send(self, number: signal.Signals, *, worker: bool) -> None:
        """A signal to the task's process, and first to the executor's worker that supervises it, where `worker`."""
        task = psutil.Process(self.stack.rest.get(self.path)["pid"])
        above = task.parent()
        assert above is not None
        assert "LocalExecutor" in " ".join(above.cmdline())
        for process in [above, task] if worker else [task]:
            process.send_signal(number)
            self.hit.append(process)

    def set_state(self, state: str) -> None:
        self.stack.rest.send("PATCH", self.path, {"new_state": state})

    def clear(self) -> None:
        body = {"dry_run": False, "only_failed": False, "dag_run_id": self.run.run_id, "task_ids": ["ask"]}
        self.stack.rest.send("POST", f"/dags/{DAG}/clearTaskInstances", body)

    def end_batch(self) -> None:
        self.emulator.emulator.change({"progress": {"running": 0.0}})

    def require_success(self, *, attempt: int = 1, seconds: float = _LONGEST_WAIT) -> None:
        """The run succeeds in that try, and every row was bought once, in one batch."""
        self.end_batch()
        self.stack.rest.require_success(self.run, self.stack.rest.wait(self.run, timeout_seconds=seconds))
        books = self.emulator.books()
        assert self.task.try_number == attempt, self.log
        assert self.calls("cancel") == 0
        assert self.job["phase"] == "completed"
        assert (books["rows_bought"], books["bought_twice"]) == (ROWS, 0)
        assert self.job["billed"] == ROWS
        counts = self.stack.rest.xcom(self.run, "ask")["counts"]
        assert counts == {**dict.fromkeys(counts, 0), "succeeded": ROWS}

    def require_cancelled(self) -> None:
        """The batch was cancelled once, before it cost anything."""
        self.wait_until("cancelled", lambda: self.job["phase"] == "cancelled", 30)
        assert self.calls("cancel") == 1
        assert self.emulator.books()["rows_bought"] == 0

    @property
    def story(self) -> str:
        books = self.emulator.books()
        jobs = [(job["id"], job["phase"], job["billed"]) for job in books["jobs"]]
        return f"{self.task}, calls {books['calls']}, jobs {jobs}\n{self.log[-4000:]}"


def begin(stack: AirflowStack, emulator: EmulatorServer, name: str, provider: str = "anthropic") -> Scene:
    """Connect Airflow with the emulator and start a run, whose id is the scene's name."""
    conf = connect(stack, emulator, name, provider)
    return Scene(stack, emulator, stack.rest.trigger(DAG, conf, run_id=name))


def connect(stack: AirflowStack, emulator: EmulatorServer, name: str, provider: str) -> dict[str, str]:
    """Make one connection; what a DAG's run is told of it."""
    stack.rest.send("POST", "/connections", connection(emulator, name, provider))
    return {"conn_id": name, "model": MODELS[provider]}


def connection(emulator: EmulatorServer, name: str, provider: str, key: str = "any") -> dict[str, str]:
    """A connection to the emulator, as Airflow's REST API takes it."""
    return {
        "connection_id": name,
        "conn_type": f"{provider}_batch",
        "host": addresses(emulator)[provider],
        "password": key,
        "extra": json.dumps({"console": f"{emulator.url}/#{{batch_id}}"}),
    }


def endless() -> EmulatorServer:
    """An emulator whose batches run until they are told to end."""
    return EmulatorServer(Settings(progress=Progress(pending=0.0, running=_FOREVER, finalizing=0.0, settle=0.5)))
