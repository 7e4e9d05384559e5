"""All of Airflow on this machine: scheduler, triggerer, API server and dag-processor, on SQLite unless told otherwise.

They start side by side after one migration of the database: `airflow standalone` starts the same four, but leaves
them behind when its own process is killed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.demo.processes import Processes
from airflow_batch_provider.demo.rest import AirflowRest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# By name, the arguments of `airflow` that start each. The log servers would listen on every interface; without them the
# API server reads the same files from disk.
COMPONENTS: Mapping[str, Sequence[str]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
USERNAME = PASSWORD = "admin"  # noqa: S105 — a scratch Airflow on loopback, printed for people to log in with
# Airflow writes from many processes; SQLite's own wait of 5 s is not enough for a dozen tasks at once on 2 CPUs.
_SQLITE_WAIT, _SQLITE_WAIT_OF_API_SERVER = "?timeout=60", "?timeout=5"  # seconds
_FOREIGN = ("AIRFLOW_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_")
# A machine that does much else was seen to take minutes; a component that died is noticed at once.
_START_SECONDS = 600.0
_REMIND_SECONDS = 5.0
_PARSE_SECONDS = 90.0


class AirflowStack:
    """A real Airflow, started on entry and gone on exit; no process outlives it.

    `processes` holds the components by name, to be killed, stopped or suspended; `launch` starts one again.

    Args:
        home: scratch folder, becomes AIRFLOW_HOME; made when missing, kept on exit.
        dags: folder of DAG files.
        plugins: plugins folder; its modules are importable by workers and by the triggerer.
        env: further variables for all components, such as `AIRFLOW_CONN_…`; they win.
        components: what to start: by name, the arguments of `airflow`.
        say: told what is being waited for, one line each.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        plugins: Path | None = None,
        env: Mapping[str, str] | None = None,
        components: Mapping[str, Sequence[str]] = COMPONENTS,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.home = home.resolve()
        self._say = say
        self._components = components
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            **_clean_environment(),
            **_airflow_settings(self.home, dags.resolve(), plugins and plugins.resolve()),
            **_addresses(port),
            **(env or {}),
        }
        self.processes = Processes(self.home / "components", self.env)
        self.rest = AirflowRest(self.url, USERNAME, PASSWORD)

    def start(self) -> None:
        """Migrate the database, start the components and wait until all are healthy.

        Raises:
            ProcessDied: a component ended, with its last words.
            TimeoutError: not all are healthy after 10 minutes.
        """
        self._write_login()
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._say("preparing the database")
            self.processes.run("migrate", _airflow("db", "migrate"))
            self._say(f"starting {', '.join(self._components)}")
            for component in self._components:
                self.launch(component)
            self._wait_until_healthy()
            self.rest.log_in()
            undo.pop_all()

    def launch(self, component: str, name: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start a component, again or once more under another name; returns before it is ready.

        Args:
            env: further variables for this process alone.
        """
        own = _settings_of_api_server(self.env) if component == "api-server" else {}
        self.processes.start(name or component, _airflow(*self._components[component]), {**own, **(env or {})})

    def stop(self) -> None:
        """End all components and everything they started."""
        self.rest.close()
        self.processes.stop()

    def check(self) -> None:
        """Make sure that all components live; raises `ProcessDied` otherwise."""
        self.processes.check()

    def require_dag(self, dag_id: str) -> None:
        """Wait until the DAG's file has been read, and unpause it; raises what `wait_for_dag` does."""
        self.wait_for_dag(dag_id)
        self.rest.unpause(dag_id)

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG's file has been read.

        Raises:
            ProcessDied: a component ended.
            RuntimeError: it cannot be read, with Airflow's import errors; or it is not there in time.
        """
        deadline = time.monotonic() + _PARSE_SECONDS
        while not self.rest.knows(dag_id):
            self.check()
            if errors := self.rest.import_errors():
                raise RuntimeError("\n".join([f"DAG {dag_id!r} cannot be read:", *errors]))
            if time.monotonic() > deadline:
                raise RuntimeError(f"DAG {dag_id!r} was not found after {_PARSE_SECONDS:.0f} s. See {self.home}.")
            time.sleep(0.3)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_login(self) -> None:
        file = self.home / "passwords.json"
        file.write_text(json.dumps({USERNAME: PASSWORD}))
        file.chmod(0o600)

    def _wait_until_healthy(self) -> None:
        started = time.monotonic()
        said: tuple[list[str], int] | None = None
        while unhealthy := _unhealthy(self.rest.health()):
            self.check()
            waited = time.monotonic() - started
            line = (unhealthy, int(waited / _REMIND_SECONDS))
            if line != said:
                self._say(f"waiting for {', '.join(unhealthy)}")
                said = line
            if waited > _START_SECONDS:
                names = ", ".join(unhealthy)
                raise TimeoutError(f"Not healthy after {_START_SECONDS:.0f} s: {names}. See the logs in {self.home}.")
            time.sleep(0.25)


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _unhealthy(health: Mapping[str, str]) -> list[str]:
    if not health:
        return ["API server"]
    names = ("scheduler", "dag_processor", "triggerer")
    return [name.replace("_", "-") for name in names if health.get(name) != "healthy"]


def _clean_environment() -> dict[str, str]:
    """Our environment less the settings of another Airflow and of the providers' SDKs, with no proxy before loopback."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _airflow_settings(home: Path, dags: Path, plugins: Path | None) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins or home / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db{_SQLITE_WAIT}",
        # A file that changes is read at once all the same (Airflow 3.3.2, `dag_processing/manager.py`); to read the others again
        # every 30 s, its default, takes a third of a processor.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
    }


def _settings_of_api_server(env: Mapping[str, str]) -> dict[str, str]:
    """What the API server alone is told: to give up soon on a SQLite that it keeps locked itself.

    Its audit log is written inside the event loop, which then does not end the request of a task that has the lock (Airflow
    3.3.2, `api_fastapi/logging/decorators.py`): all of Airflow stands still until one of the two gives up.
    """
    url = env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url.replace(_SQLITE_WAIT, _SQLITE_WAIT_OF_API_SERVER)}


def _addresses(port: int) -> dict[str, str]:
    """Every place that names the API server: tasks die when only its port is set (Airflow 3.3.2)."""
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    }
