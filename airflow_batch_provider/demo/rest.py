"""Airflow's REST API, as far as running a DAG and looking at what became of it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_SECONDS = 0.4
_SENDS = 5
_ENDED = frozenset({"success", "failed"})


class RunFailed(RuntimeError):
    """A DAG run did not succeed; the message holds the end of the failed tasks' logs."""


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run, as it was when looked at; `state` is Airflow's word, None before it is scheduled."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int

    @property
    def label(self) -> str:
        """The task's name for people, with its map index when it has one."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True)
class Run:
    """One DAG run."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """Where the REST API keeps it."""
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"


class AirflowRest:
    """A client that logs in by itself.

    Args:
        url: of the API server, without a trailing slash.
        username, password: of a SimpleAuthManager user.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self._login = {"username": username, "password": password}
        self._url = url
        # trust_env off: a proxy of the environment must not see calls to this machine.
        # On a machine that is busy starting it, Airflow was seen to take more than half a minute for an answer.
        self._http = httpx2.Client(base_url=f"{url}/api/v2", timeout=120, trust_env=False)

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    def health(self) -> dict[str, str]:
        """Status of every component by name; empty while the API server does not answer."""
        try:
            reply = self._http.get("/monitor/health", timeout=5)
        except httpx2.TransportError:
            return {}
        if reply.status_code != httpx2.codes.OK:
            return {}
        return {name: str(part.get("status")) for name, part in reply.json().items() if part}

    def log_in(self) -> None:
        """Get a token for the calls that follow."""
        reply = self._http.post(f"{self._url}/auth/token", json=self._login)
        reply.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at a path below `/api/v2`.

        Raises:
            httpx2.HTTPStatusError: Airflow refused.
        """
        reply = self._http.get(path, params=params)
        reply.raise_for_status()
        return reply.json()

    def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Change something; the reply's JSON. What got a 500, as Airflow's locked SQLite makes it, is sent again.

        Where it had been done all the same there is no reply but that it is there already; then `body` is returned.

        Raises:
            httpx2.HTTPStatusError: Airflow refused.
        """
        for send in range(_SENDS):
            reply = self._http.request(method, path, json=body)
            if send and reply.status_code == httpx2.codes.CONFLICT:
                return body
            if reply.status_code != httpx2.codes.INTERNAL_SERVER_ERROR:
                break
        reply.raise_for_status()
        return reply.json()

    def import_errors(self) -> list[str]:
        """What keeps DAG files from being read."""
        found = self.get("/importErrors")["import_errors"]
        return [f"{error['filename']}:\n{error['stack_trace']}" for error in found]

    def knows(self, dag_id: str) -> bool:
        """True when the DAG has been read and may be run."""
        return self._http.get(f"/dags/{dag_id}").status_code == httpx2.codes.OK

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run it."""
        self.send("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> Run:
        """Start a run of a DAG, by default under an id like Airflow's; under it, what is sent twice is one run."""
        run_id = run_id or f"manual__{datetime.now(UTC).isoformat()}"
        body = {"logical_date": None, "conf": conf or {}, "dag_run_id": run_id}
        return Run(dag_id, self.send("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def state(self, run: Run) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return str(self.get(run.path)["state"])

    def task_instances(self, run: Run) -> list[TaskInstance]:
        """The tasks of a run, mapped ones one by one."""
        found = self.get(f"{run.path}/taskInstances", limit=100)["task_instances"]
        return [TaskInstance(ti["task_id"], ti["map_index"], ti["state"], ti["try_number"]) for ti in found]

    def xcom(self, run: Run, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task left for others."""
        path = f"{run.path}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index, deserialize="true")["value"]

    def log(self, run: Run, task: TaskInstance) -> str:
        """The log of a task's last try: worker's and triggerer's lines together."""
        path = f"{run.path}/taskInstances/{task.task_id}/logs/{max(task.try_number, 1)}"
        lines = self.get(path, map_index=task.map_index)["content"]
        return "\n".join(_line(entry) for entry in lines)

    def wait(
        self,
        run: Run,
        *,
        timeout_seconds: float,
        on_change: Callable[[TaskInstance], None] = lambda _task: None,
    ) -> str:
        """Look at a run until it ended; tells `on_change` each new state of each task.

        Raises:
            TimeoutError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_seconds
        seen: set[TaskInstance] = set()
        while True:
            state = self.state(run)
            tasks = self.task_instances(run)
            for task in tasks:
                if task not in seen:
                    seen.add(task)
                    on_change(task)
            if state in _ENDED:
                return state
            if time.monotonic() > deadline:
                states = ", ".join(f"{task.label} {task.state}" for task in tasks)
                raise TimeoutError(f"{run.dag_id} did not end within {timeout_seconds:.0f} s: {states}.")
            time.sleep(_LOOK_SECONDS)

    def require_success(self, run: Run, state: str) -> None:
        """Make sure that a run went well.

        Raises:
            RunFailed: it did not; with the tail of the logs.
        """
        if state == "success":
            return
        failed = [task for task in self.task_instances(run) if task.state == "failed"]
        tails = [f"--- {task.label}\n" + "\n".join(self.log(run, task).splitlines()[-40:]) for task in failed]
        raise RunFailed("\n".join([f"{run.dag_id} {run.run_id} ended as {state!r}.", *tails]))


def _line(entry: dict[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return " ".join([str(entry.get("level", "")), str(entry.get("event", "")), *errors[:1]]).strip()
