"""`make demo`: a real Airflow runs the quickstart against the emulator, and stays up until Ctrl-C.

`DEMO_EXIT=1` ends it after success; `DEMO_HOME` is its scratch folder (`.demo` by default), emptied at every start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.demo.report import answers
from airflow_batch_provider.demo.stack import PASSWORD, USERNAME, AirflowStack
from airflow_batch_provider.demo.terminal import Narrator, exit_code_of, wait_for_ctrl_c
from airflow_batch_provider.emulator.server import EmulatorServer

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAG = "quickstart"
_RUN_SECONDS = 300.0


def main() -> int:
    """Run the demo; the exit code of `exit_code_of`."""
    return exit_code_of(_run, "The demo")


def _run() -> None:
    with _own_home() as home:
        _demo(home, stay=os.environ.get("DEMO_EXIT", "") in ("", "0"))


def _demo(home: Path, *, stay: bool) -> None:
    if not EXAMPLES.is_dir():
        raise RuntimeError(f"No example DAGs at {str(EXAMPLES)!r}. Run the demo from a clone of the repository.")
    narrator = Narrator()
    with EmulatorServer() as emulator:
        narrator.say(f"the three batch APIs are emulated at {emulator.url}")
        storage = (home / "batches").as_uri()
        env = {**to_emulator(emulator), "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": storage}
        stack = AirflowStack(
            home / "airflow",
            EXAMPLES,
            plugins=EXAMPLES / "plugins",
            env=env,
            say=lambda line: narrator.say(f"starting up: {line}"),
        )
        os.environ |= stack.env  # to read results is to import Airflow's SDK here too: it shall find this Airflow
        with stack:
            narrator.say(f"Airflow is up at {stack.url}")
            _run_quickstart(stack, narrator)
            _farewell(stack, emulator)
            if stay:
                wait_for_ctrl_c(stack.check)
        narrator.say("everything is stopped")


def _run_quickstart(stack: AirflowStack, narrator: Narrator) -> None:
    stack.require_dag(DAG)
    run = stack.rest.trigger(DAG)
    narrator.say(f"DAG {DAG} runs: three questions to each of three providers")
    state = stack.rest.wait(run, timeout_seconds=_RUN_SECONDS, on_change=narrator.task)
    stack.rest.require_success(run, state)
    narrator.say("all done")
    asked = [task for task in stack.rest.task_instances(run) if task.task_id.startswith("ask_")]
    for task in sorted(asked, key=lambda task: task.task_id):
        print(f"\n{answers(task.label, stack.rest.xcom(run, task.task_id))}", flush=True)


def _farewell(stack: AirflowStack, emulator: EmulatorServer) -> None:
    print(f"\nAirflow   {stack.url}/dags/{DAG}  (login {USERNAME} / {PASSWORD})")
    print(f"Emulator  {emulator.url}")
    print(f"Logs      {stack.home}/components\n", flush=True)


@contextmanager
def _own_home() -> Iterator[Path]:
    """The scratch folder, emptied; one demo at a time."""
    home = Path(os.environ.get("DEMO_HOME", ".demo")).resolve()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"Another demo runs in {home}. End it, or choose a folder with DEMO_HOME=….") from None
        for folder in ("airflow", "batches"):
            shutil.rmtree(home / folder, ignore_errors=True)
        yield home


if __name__ == "__main__":
    sys.exit(main())
