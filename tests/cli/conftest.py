"""What the tests of the commands ask for."""

from __future__ import annotations

import re
import warnings

import pytest
from failed_dags import failed_dag, forget_the_purpose

from airflow_batch_provider.cli.definition import parser, run
from airflow_batch_provider.clock import utc_now
from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.testing import VirtualClock

_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+ \[\w+ *\]")


@pytest.fixture
def emulator():
    with EmulatorServer(Settings(progress=Progress(by="time", pending=0, running=3600, finalizing=0))) as server:
        yield server


@pytest.fixture(autouse=True)
def _connections(monkeypatch, emulator):
    for name, value in to_emulator(emulator).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    """A task's deadline of a second passes at once."""
    monkeypatch.setattr(StageOperator, "_clock", VirtualClock(utc_now()).clock)


@pytest.fixture
def storage(tested, tmp_path):
    return tmp_path / "batches"


@pytest.fixture
def orphans(request, tested, storage):
    """A batch at each provider whose task has failed; `=registry` has three entries. Returns the DAG's id."""
    dag = failed_dag(f"orphans_{request.node.name.partition('[')[0]}")
    run = tested(dag)
    assert set(run.states().values()) == {"failed"}
    forget_the_purpose(storage)
    return dag.dag_id


@pytest.fixture
def batches(capsys):
    """Runs `batches …` in this process; returns exit code, standard output and standard error."""

    def call(*words):
        capsys.readouterr()
        arguments = parser().parse_args(["batches", *map(str, words)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's own machinery warns about itself
            with pytest.raises(SystemExit) as ended:
                run(arguments, arguments.command)
        out, err = capsys.readouterr()
        return ended.value.code, _without_airflows_log(out), err

    return call


def _without_airflows_log(text):
    """Airflow logs to standard output where it was set up for tests; `airflow` itself logs to standard error."""
    return "".join(line for line in text.splitlines(keepends=True) if not _LOG_LINE.match(line))
