"""Child processes end with all their offspring."""

from __future__ import annotations

import os
import sys
import time

import psutil
import pytest

from airflow_batch_provider.demo.processes import ProcessDied, Processes

GRANDCHILD = "import time; time.sleep(60)"
STUBBORN = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {GRANDCHILD!r}], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""

WORK = "import time; time.sleep(0.5); print('the work is done', flush=True)"
DRAINED = f"""
import signal, subprocess, sys
work = subprocess.Popen([sys.executable, "-c", {WORK!r}])
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print("begun", flush=True)
work.wait()
"""


def test_a_stubborn_child_and_a_grandchild_in_another_group_are_both_ended(tmp_path, monkeypatch):
    """SIGTERM is asked first; the session is what counts, not the process group."""
    monkeypatch.setattr("airflow_batch_provider.demo.processes._GRACE_SECONDS", 0.5)
    with Processes(tmp_path, os.environ) as children:
        children.start("stubborn", [sys.executable, "-c", STUBBORN])
        while not (pid := children.tail("stubborn")):
            children.check()
            time.sleep(0.05)
        assert psutil.pid_exists(int(pid))
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def test_a_child_that_dies_is_reported_with_its_last_words(tmp_path):
    """The message names the child, its code and its output."""
    with Processes(tmp_path, os.environ) as children:
        with pytest.raises(ProcessDied, match=r"(?s)short ended with code 3.*no more tea"):
            children.run("short", [sys.executable, "-c", "print('no more tea'); raise SystemExit(3)"])


def test_a_child_that_dies_later_is_noticed(tmp_path):
    """`check` tells, so that nobody waits for a dead component."""
    with Processes(tmp_path, os.environ) as children:
        children.start("brief", [sys.executable, "-c", "raise SystemExit(4)"])
        with pytest.raises(ProcessDied, match="brief ended with code 4"):
            watch(children)


def test_a_killed_child_is_missed_by_nobody_and_may_be_started_again(tmp_path):
    """`check` knows that it was killed on purpose; both lives write into one log."""
    with Processes(tmp_path, os.environ) as children:
        for life in (1, 2):
            children.start("cat", [sys.executable, "-c", f"import time; print({life}, flush=True); time.sleep(60)"])
            while str(life) not in children.tail("cat"):
                time.sleep(0.02)
            children.kill("cat")
            children.check()
        assert children.tail("cat") == "1\n2"


def test_a_child_that_is_drained_ends_its_work_and_its_own_children_are_not_asked(tmp_path):
    """As a container is stopped: its first process gets the signal, and time."""
    with Processes(tmp_path, os.environ) as children:
        children.start("worker", [sys.executable, "-c", DRAINED])
        while "begun" not in children.tail("worker"):
            time.sleep(0.02)
        children.drain("worker", 30)
        assert children.tail("worker").splitlines() == ["begun", "told", "the work is done"]


def test_a_child_that_is_drained_for_too_long_is_killed(tmp_path):
    """With all that it started."""
    with Processes(tmp_path, os.environ) as children:
        children.start("stubborn", [sys.executable, "-c", STUBBORN])
        while not (pid := children.tail("stubborn")):
            time.sleep(0.02)
        children.drain("stubborn", 0.1)
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def test_a_child_may_have_variables_of_its_own(tmp_path):
    """For one life only."""
    with Processes(tmp_path, {**os.environ, "TEA": "black"}) as children:
        for env in ({"TEA": "green"}, None):
            children.start("cup", [sys.executable, "-c", "import os; print(os.environ['TEA'])"], env)
            while children.ended() != ["cup"]:
                time.sleep(0.02)
            children.stop("cup")
        assert children.tail("cup") == "green\nblack"


def watch(children: Processes) -> None:
    while True:
        children.check()
        time.sleep(0.02)
