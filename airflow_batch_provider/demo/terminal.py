"""What programs share that start a whole Airflow for people at a terminal, and stay up until Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_batch_provider.demo.rest import TaskInstance

_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
_MEANING = {
    "queued": "waits for a worker",
    "running": "on a worker",
    "deferred": "submitted and deferred: the batch runs, no worker is held",
    "scheduled": "ready to run",
    "success": "done",
}


class Narrator:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._deferred: set[str] = set()

    def say(self, line: str) -> None:
        """One line for people."""
        print(f"{time.monotonic() - self._started:6.1f} s  {line}", flush=True)

    def task(self, task: TaskInstance) -> None:
        """What a task instance just came to."""
        if task.state is None:
            return
        meaning = _MEANING.get(task.state, task.state)
        if task.state == "deferred":
            self._deferred.add(task.label)
        elif task.state == "scheduled" and task.label in self._deferred:
            meaning = "the batch has ended: back to a worker to fetch its rows"
        self.say(f"{task.label:<15} {meaning}")


def exit_code_of(run: Callable[[], None], what: str) -> int:
    """Run a program; return 0 after success, 1 with the reason on failure, 130 when it was interrupted before.

    Args:
        what: the program, as a sentence on its failure begins.
    """
    _end_at_first_signal()
    logging.disable(logging.INFO)  # Airflow's SDK would have every HTTP request printed between our lines, and moto too
    try:
        run()
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped.", flush=True)
        return _INTERRUPTED
    except (RuntimeError, TimeoutError, httpx2.HTTPError) as error:
        print(f"\n{what} failed: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def wait_for_ctrl_c(check: Callable[[], None]) -> None:
    """Wait for Ctrl-C, calling `check` each second; what it raises ends the wait as well."""
    print("Stays up until Ctrl-C.", flush=True)
    try:
        while True:
            check()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nStopping (a few seconds).", flush=True)


def _end_at_first_signal() -> None:
    """The first Ctrl-C (or SIGTERM, or a closed terminal) ends the program; later ones do not disturb its tidying up."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(_number: int, _frame: object) -> NoReturn:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, end)
