"""Memory of a worker: whose allocator Arrow takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_batch_provider.airflow.heap import arrow_takes_little

POOL = "ARROW_DEFAULT_MEMORY_POOL"
_IMPORTS = """
import sys
from airflow_batch_provider.airflow.heap import arrow_takes_little
if sys.argv[1] == "before":
    import pyarrow
with arrow_takes_little():
    import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


def pool(when, **environment):
    """Import pyarrow in a process of its own and return whose memory it takes."""
    clean = {name: value for name, value in os.environ.items() if name != POOL}
    command = [sys.executable, "-c", _IMPORTS, when]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=clean | environment
    ).stdout.strip()


def test_arrow_takes_its_memory_from_the_c_library():
    """Its own pool keeps 6 MB for the 1 MB that we have of it at once."""
    assert pool("within") == "system"


def test_arrow_stays_as_whoever_was_first_has_it():
    """A deployment that chose, and a DAG file that has imported it already."""
    assert pool("within", **{POOL: "mimalloc"}) == "mimalloc"
    assert pool("before") != "system"


def test_nothing_is_left_in_the_environment(monkeypatch):
    """Not even when the task fails; what was there stays."""
    monkeypatch.delenv(POOL, raising=False)
    with pytest.raises(ZeroDivisionError), arrow_takes_little():
        _ = len(os.environ[POOL]) / 0
    assert POOL not in os.environ

    monkeypatch.setenv(POOL, "jemalloc")
    with arrow_takes_little():
        assert os.environ[POOL] == "jemalloc"
    assert os.environ[POOL] == "jemalloc"
