"""A task's log ends with our message: it is the line that the UI scrolls to."""

from __future__ import annotations

import re

import pytest
from airflow.sdk import DAG
from edge_stages import Raising

from airflow_batch_provider.operators import AsyncBatchStageOperator, BatchGenerateOperator
from airflow_batch_provider.stages.polling import with_remedy

CHAINS = ("During handling of the above exception", "direct cause of the following exception", "no running event loop")


def ends(log: str) -> list[list[str]]:
    """The lines of each traceback that Airflow logged of a failed task, from the exception's own line on."""
    failures = log.split("Task failed with exception")[1:]
    assert failures
    return [
        [line for line in re.split(r"\n(?=\d{4}-|\[20)|\n\n", failure)[0].splitlines() if line.strip()]
        for failure in failures
    ]


@pytest.mark.parametrize("place", ["execute", "check_completion", pytest.param("resume", marks=pytest.mark.slow)])
def test_every_error_ends_the_log_with_its_message(tested, place):
    """On the worker at the start and at a resume, and through the trigger; without the chain behind it."""
    patient = {"Unavailable", "NotFound"} if place == "check_completion" else set()  # those are polled through
    names = [name for name in Raising.ERRORS if name not in patient]
    with DAG(f"ends_{place}", schedule=None) as dag:
        for name in names:
            AsyncBatchStageOperator(task_id=name, stage=Raising, config={"name": name, "place": place})

    run = tested(dag)

    assert {run.state(name) for name in names} == {"failed"}
    last = [lines[-1] for lines in ends(run.log)]
    for name in names:
        error = Raising.ERRORS[name]
        said = with_remedy(error) if place == "check_completion" else str(error)
        assert [line for line in last if line.endswith(f"Exception: {said}")], (name, last)
    assert [chain for chain in CHAINS if chain in run.log] == []
    assert "a fault of some library" not in run.log


def test_a_refusal_of_a_built_in_operator_ends_the_log_with_its_message(tested, tmp_path):
    """A connection that is not there; Airflow's frames are above it, and few of ours."""
    with DAG("ends_refused", schedule=None) as dag:
        BatchGenerateOperator(
            task_id="ask",
            model="claude-sonnet-4-5",
            requests=["one"],
            conn_id="nowhere",
            storage_path=tmp_path.as_uri(),
        )

    run = tested(dag)

    (lines,) = ends(run.log)
    assert "There is no Airflow connection 'nowhere'" in lines[-1]
    assert [chain for chain in CHAINS if chain in run.log] == []
    assert len([line for line in lines if "/airflow_batch_provider/" in line]) <= 5  # frames of ours
