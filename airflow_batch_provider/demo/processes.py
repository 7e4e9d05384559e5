"""Child processes that leave nothing behind: each leads a session of its own, and the whole session is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import psutil  # type: ignore[import-untyped]  # Airflow brings it, without types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# Airflow's scheduler and triggerer need up to 6 s to hand over their work after SIGTERM (measured on 2 CPUs).
_GRACE_SECONDS = 10.0


class ProcessDied(RuntimeError):
    """A child process ended before its time; the message holds the end of its output."""


class Processes:
    """Named child processes, their output in `<logs>/<name>.log`.

    Args:
        logs: directory for the output; made when missing.
        env: the whole environment of every child.
    """

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self._logs = logs
        self._env = dict(env)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a child in its own session, so that one signal reaches all that it starts; `env` adds to its variables."""
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env={**self._env, **(env or {})},
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, name: str, command: Sequence[str]) -> None:
        """Start a child and wait for its end.

        Raises:
            ProcessDied: it ended with another code than 0.
        """
        self.start(name, command)
        code = self._running[name].wait()
        del self._running[name]
        if code:
            raise ProcessDied(self._obituary(name, code))

    def check(self) -> None:
        """Make sure that all children live.

        Raises:
            ProcessDied: one of them does not.
        """
        for name in self.ended():
            raise ProcessDied(self._obituary(name, self._running[name].returncode))

    def ended(self) -> list[str]:
        """The names of the children that have ended by themselves."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._running[name].pid

    def drain(self, name: str, seconds: float) -> None:
        """Ask a child alone to end, and give it time for what it still has to do; then end what is left of it.

        Args:
            seconds: longest time that it gets.
        """
        self._running[name].send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._running[name].wait(seconds)
        self.kill(name)

    def stop(self, *names: str) -> None:
        """End children and all that they started: SIGTERM, and SIGKILL for those that stay; without names, every child."""
        ending = [self._running[name] for name in names or self._running]
        _end(ending, signal.SIGTERM)
        _end(ending, signal.SIGKILL)
        self._running = {name: process for name, process in self._running.items() if process not in ending}

    def kill(self, name: str) -> None:
        """SIGKILL a child and all that it started, as if its machine were gone; it may be started again."""
        _end([self._running.pop(name)], signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals, *, offspring: bool) -> None:
        """Send a signal to a child, and to all that it started if `offspring`."""
        process = self._running[name]
        if offspring:
            _signal_sessions({process.pid}, number)
        else:
            process.send_signal(number)

    def tail(self, name: str, lines: int = 30) -> str:
        """The last lines that a child wrote."""
        text = self._log(name).read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _obituary(self, name: str, code: int) -> str:
        return f"{name} ended with code {code}. Its last words, from {self._log(name)}:\n{self.tail(name)}"


def _end(processes: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Send a signal to the children and their offspring, and wait for their end, but not for ever."""
    sessions = {process.pid for process in processes}
    _signal_sessions(sessions, number)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        running = [process for process in processes if process.poll() is None]  # `poll` also reaps what has ended
        if not running and not any(True for _ in _members(sessions)):
            return
        time.sleep(0.05)


def _members(sessions: set[int]) -> Iterator[int]:
    for pid in psutil.pids():
        try:
            if os.getsid(pid) in sessions and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                yield pid
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):  # gone since, or none of ours
            continue


def _signal_sessions(sessions: set[int], number: signal.Signals) -> None:
    for pid in _members(sessions):
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # gone since
            continue
