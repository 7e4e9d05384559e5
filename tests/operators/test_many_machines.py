"""Tasks under an executor that runs them on several machines: what is refused before anything is paid."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG
from edge_stages import Obedient

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.operators import AsyncBatchStageOperator, BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))


@pytest.fixture(autouse=True)
def _celery(monkeypatch, batch_emulator):
    for name, value in to_emulator(batch_emulator).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")


def ask(dag_id, **arguments):
    with DAG(dag_id, schedule=None) as dag:
        BatchGenerateOperator(task_id="ask", model="claude-sonnet-4-5", requests=["one"], poll=SOON, **arguments)
        AsyncBatchStageOperator(task_id="own", stage=Obedient, config={"mode": "resume"}, **arguments)
    return dag


def test_a_folder_that_nobody_chose_is_refused_and_nothing_is_bought(tested, monkeypatch, batch_emulator):
    """Built-in stages and those of one's own; the log ends with the setting."""
    dag = ask("nobody_chose")
    monkeypatch.delenv("AIRFLOW__BATCH_PROVIDER__STORAGE_PATH")

    run = tested(dag)

    assert set(run.states().values()) == {"failed"}
    assert "CeleryExecutor runs tasks on several" in run.log
    assert "Set [batch_provider] storage_path" in run.log
    assert batch_emulator.books()["calls"] == {}


def test_a_disk_that_was_chosen_runs_with_a_warning(tested, tmp_path, batch_emulator, caplog):
    """It may be mounted everywhere."""
    run = tested(ask("chosen", storage_path=(tmp_path / "chosen").as_uri()))

    assert set(run.states().values()) == {"success"}
    assert "looks like a disk of this machine alone, but CeleryExecutor runs tasks on several" in caplog.text
    assert batch_emulator.books()["rows_bought"] == 1
