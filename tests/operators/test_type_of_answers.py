"""The type that `output_type` names decides about the answers also after the task was deferred, when its schema is all that was kept."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator

from airflow_batch_provider.emulator.server import EmulatorServer


def refused(_number: int) -> int:
    raise ValueError("no number is good enough")


@pytest.fixture
def edge(monkeypatch, tmp_path):
    from airflow_edge import Edge  # Airflow is imported when a test runs, so that its home is settled by then

    with EmulatorServer() as server:
        yield Edge(server, monkeypatch, tmp_path / "storage")


@pytest.mark.parametrize(
    ("given", "is_good"), [(list[int], True), (list[Annotated[int, AfterValidator(refused)]], False)]
)
def test_the_type_decides_when_a_deferred_task_goes_on(edge, given, is_good):
    """Both have the same schema, which the emulator's answers fit."""
    from airflow_batch_provider.airflow.exceptions import AirflowException
    from airflow_batch_provider.operators import BatchGenerateOperator

    task = BatchGenerateOperator(
        task_id="ask",
        model="openai:gpt-4o",
        conn_id="openai",
        requests=["one"],
        output_type=given,
        retry_rows=0,
        storage_path=edge.storage,
    )
    if is_good:
        assert edge.run(task)["counts"]["succeeded"] == 1
        return
    with pytest.raises(AirflowException, match="no number is good enough"):
        edge.run(task)
