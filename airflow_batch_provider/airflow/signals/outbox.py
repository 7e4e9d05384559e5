"""A background thread that sends signals: whoever gives one neither waits for it nor fails by it."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Send: TypeAlias = "Callable[[], None]"

# Signals that wait to be sent; when a receiver hangs, further ones are dropped.
_MOST = 10_000

# Time between two reports of gauges; seconds. OpenTelemetry's own is 60, statsd's 10.
REPORT_INTERVAL = 15.0


class Outbox:
    """One process's signals on their way out, in order.

    A fault of what sends is logged once in each process: signals help people, and a log full of them does not.

    Args:
        report: sends what is true at the moment; called every `REPORT_INTERVAL`, and by `flush`.
    """

    def __init__(self, report: Send, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._monotonic = monotonic
        self._queue: queue.Queue[Send] = queue.Queue(_MOST)
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._is_told = False
        self._is_due = False

    def post(self, send: Send) -> bool:
        """Let a signal be sent soon; False when it was dropped."""
        try:
            self._start()
            self._queue.put_nowait(send)
        except (queue.Full, RuntimeError) as error:  # a receiver that hangs; a process that ends
            self._fault(error)
            return False
        return True

    def report_soon(self) -> None:
        """Report what has changed; a thousand changes at once are few reports."""
        if not self._is_due:
            self._is_due = True
            if not self.post(self._report_now):
                self._is_due = False  # the next change asks again

    def _report_now(self) -> None:
        self._is_due = False
        self._report()

    def flush(self, seconds: float) -> bool:
        """Send everything posted so far and a last report, for so long at most; False when that was not enough."""
        if self._thread is None or self._process != os.getpid():
            return True
        sent = threading.Event()
        self.post(self._report)
        self.post(sent.set)
        return sent.wait(seconds)

    def _start(self) -> None:
        """Start the thread, also in a process that was forked, which has none of its parent's."""
        with self._lock:
            if self._thread is not None and self._process == os.getpid():
                return
            self._process = os.getpid()
            self._queue, self._is_due = queue.Queue(_MOST), False
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="batch-signals", daemon=True)
            self._thread.start()

    def _run(self, waiting: queue.Queue[Send]) -> None:
        due = self._monotonic() + REPORT_INTERVAL
        while True:
            try:
                send = waiting.get(timeout=max(due - self._monotonic(), 0.0))
            except queue.Empty:
                send = self._report
            self._send(send)
            if self._monotonic() >= due:
                due = self._monotonic() + REPORT_INTERVAL
                self._send(self._report)

    def _send(self, send: Send) -> None:
        try:
            send()
        except Exception as error:  # noqa: BLE001 — exporters are others' code, and may raise anything
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        level = logging.DEBUG if self._is_told else logging.WARNING
        self._is_told = True
        log.log(level, "A signal was not sent (%r). The work goes on; further faults are logged at DEBUG.", error)
