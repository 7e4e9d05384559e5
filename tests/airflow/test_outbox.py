"""Signals leave in the background: whoever gives one neither waits nor fails, whatever the receiver does."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from airflow_batch_provider.airflow.signals import outbox
from airflow_batch_provider.airflow.signals.outbox import Outbox


def nothing():
    """Report nothing."""


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.DEBUG, outbox.__name__)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_everything_posted_is_sent_in_order():
    """A flush comes back when it is."""
    sent = []
    box = Outbox(nothing)
    for number in range(100):
        box.post(lambda number=number: sent.append(number))
    assert box.flush(5)
    assert sent == list(range(100))


def test_a_flush_without_signals_starts_nothing():
    """A task that tells nobody has no thread more."""
    before = threading.active_count()
    assert Outbox(nothing).flush(5)
    assert threading.active_count() == before


def test_an_exporter_that_always_fails_is_logged_once(warnings):
    """And the signals after it are sent."""
    sent = []

    def broken():
        raise ConnectionRefusedError("nobody listens")

    box = Outbox(broken)
    for _ in range(50):
        box.post(broken)
    box.post(lambda: sent.append("after"))
    assert box.flush(5)
    assert sent == ["after"]
    assert len(warnings()) == 1
    assert "nobody listens" in warnings()[0]


def test_a_receiver_that_hangs_holds_nobody_up(warnings, monkeypatch):
    """What does not fit is dropped, and a flush gives up in time."""
    monkeypatch.setattr(outbox, "_MOST", 10)
    over, box = threading.Event(), Outbox(nothing)
    box.post(lambda: over.wait(60))
    began = time.monotonic()
    for _ in range(1000):
        box.post(nothing)
    assert not box.flush(0.2)
    assert time.monotonic() - began < 2
    over.set()
    assert len(warnings()) == 1


def test_many_changes_at_once_are_few_reports():
    """A thousand triggers that start together."""
    reports, begin = [], threading.Event()
    box = Outbox(lambda: reports.append(1))
    box.post(lambda: begin.wait(10))
    for _ in range(1000):
        box.report_soon()
    begin.set()
    assert box.flush(5)
    assert len(reports) == 2  # one for all changes, and that of the flush


def test_a_report_that_found_no_room_is_asked_for_again_by_the_next_change(monkeypatch):
    """Else the gauges would stand still once a receiver has hung."""
    monkeypatch.setattr(outbox, "_MOST", 1)
    hangs, over, sent, reported = (threading.Event() for _ in range(4))
    box = Outbox(reported.set)
    box.post(lambda: hangs.set() or over.wait(10))
    assert hangs.wait(10)
    assert box.post(nothing)  # the queue is full
    box.report_soon()
    over.set()
    while not box.post(sent.set):
        time.sleep(0.001)
    assert sent.wait(10)
    assert not reported.is_set()

    box.report_soon()

    assert reported.wait(10)


def test_gauges_are_reported_though_nothing_changes(monkeypatch):
    """By time, also between signals that never stop."""
    monkeypatch.setattr(outbox, "REPORT_INTERVAL", 0.05)
    reports, enough = [], threading.Event()

    def report():
        reports.append(1)
        if len(reports) == 3:
            enough.set()

    box = Outbox(report)
    box.post(nothing)
    assert enough.wait(5)


def test_a_forked_process_sends_by_a_thread_of_its_own():
    """Airflow forks for each task, and a thread does not come along."""
    box = Outbox(nothing)
    box.post(nothing)
    assert box.flush(5)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        box.post(lambda: os.write(writer, b"sent"))
        os._exit(0 if box.flush(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(reader, 4) == b"sent"
