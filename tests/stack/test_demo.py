"""`make demo` as people start and end it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]


class Demo:
    """A demo in a process of its own, its output in a file."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self._output = home.with_suffix(".log")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow_batch_provider.demo"],
                env={**os.environ, "DEMO_EXIT": "", **env, "DEMO_HOME": str(home)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_until_it_says(self, words: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)

    def leftovers(self) -> list[str]:
        """Command lines of the processes whose AIRFLOW_HOME is the demo's."""
        return [" ".join(process.cmdline()) for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("AIRFLOW_HOME") == str(self.home / "airflow")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False


@pytest.fixture
def demo(tmp_path: Path):
    """Starts demos; whatever a failed test left running is killed."""
    started: list[Demo] = []

    def start(**env: str) -> Demo:
        started.append(Demo(tmp_path / "demo", **env))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)


def test_the_demo_runs_all_three_providers_and_ends_by_itself(demo: Callable[..., Demo]):
    """With DEMO_EXIT=1 it ends with 0 after it has shown rows, counts, tokens, cost and the way to the UI."""
    running = demo(DEMO_EXIT="1")
    assert running.process.wait(300) == 0, running.said
    for words in (
        "starting up: ",
        "submitted and deferred",
        "3 succeeded of 3 asked",
        "    cost    $",
        "login admin / admin",
    ):
        assert words in running.said
    for provider in ("anthropic", "openai", "gemini"):
        assert f"ask_{provider} — " in running.said
    assert running.leftovers() == []


def test_the_demo_stays_up_until_ctrl_c_and_then_leaves_no_process_behind(demo: Callable[..., Demo]):
    """Ending it after success is a success, too."""
    running = demo()
    running.wait_until_it_says("Stays up until Ctrl-C.")
    url = re.search(r"Airflow is up at (\S+)", running.said)
    assert url is not None
    assert len(running.leftovers()) >= 4
    assert running.end() == 0, running.said
    assert running.leftovers() == []


def test_ctrl_c_while_the_demo_starts_leaves_no_process_behind(demo: Callable[..., Demo]):
    """Interrupted before success, it says so with its exit code."""
    running = demo()
    running.wait_until_it_says("waiting for API server")
    assert running.end() == 130, running.said
    assert running.leftovers() == []


def test_a_second_demo_in_the_same_folder_is_told_what_to_do(demo: Callable[..., Demo], tmp_path: Path):
    """It fails at once instead of emptying the folder of the first."""
    (tmp_path / "demo").mkdir()
    with (tmp_path / "demo" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = demo()
        assert running.process.wait(60) == 1
    assert "DEMO_HOME" in running.said
