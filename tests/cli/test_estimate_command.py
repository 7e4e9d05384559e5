"""`airflow batches estimate`: what a task would cost, from its DAG alone."""

from __future__ import annotations

import json

import pytest

from airflow_batch_provider.cli import estimate
from airflow_batch_provider.operators import BatchGenerateOperator

HAIKU = {"model": "claude-haiku-4-5", "max_tokens": 100}


@pytest.fixture
def dag(monkeypatch, tmp_path):
    from airflow.sdk import DAG, task

    (tmp_path / "2026-11-01.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    with DAG("estimated", schedule=None) as made:

        @task
        def rows():
            return ["x"]

        BatchGenerateOperator(task_id="literal", requests=["one", "two"], **HAIKU)
        BatchGenerateOperator(task_id="file", source=f"{tmp_path}/{{{{ ds }}}}.jsonl", prompt="Say {text}", **HAIKU)
        BatchGenerateOperator(task_id="late", requests=rows(), **HAIKU)
        BatchGenerateOperator(
            task_id="table", source=lambda ds: [{"text": ds}, {"text": "b"}], prompt="{text}", **HAIKU
        )
        BatchGenerateOperator(task_id="of_a_run", source=lambda ti: [{"text": ti.task_id}], prompt="{text}", **HAIKU)
    monkeypatch.setattr(estimate, "get_bagged_dag", lambda _bundle, _dag_id: made)
    return made


def test_a_task_is_priced_before_it_runs(database, dag, batches, emulator, storage):
    """Two rows of at most 100 tokens out at $2.50 a million, and some input; nothing is bought or kept."""
    code, out, _ = batches("estimate", "estimated", "literal", "-o", "json")

    (row,) = json.loads(out)
    assert (code, row["requests"], row["most_output_tokens"], row["provider"]) == (0, 2, 200, "anthropic")
    assert 200 * 2.5e-6 < row["most_usd"] < 200 * 2.5e-6 + 200 * 0.5e-6
    assert emulator.books()["rows_asked"] == 0
    assert not storage.exists()
    assert "claude-haiku-4-5" in batches("estimate", "estimated", "literal")[1]


def test_templates_are_filled_in_for_a_date(database, dag, batches):
    """A file of a day is found by it."""
    (row,) = json.loads(batches("estimate", "estimated", "file", "--date", "2026-11-01", "-o", "json")[1])

    assert row["requests"] == 3


def test_a_table_of_a_function_is_priced(database, dag, batches):
    """The function is called as in a run of that date."""
    (row,) = json.loads(batches("estimate", "estimated", "table", "-o", "json")[1])

    assert row["requests"] == 2


@pytest.mark.parametrize(
    ("task_id", "said"),
    [("late", "dry_run=True"), ("of_a_run", "known in a run only"), ("rows", "has no estimate"), ("no", "tasks list")],
)
def test_what_cannot_be_estimated_says_what_to_do(database, dag, batches, task_id, said):
    """Rows of another task, another kind of task, a task that does not exist."""
    code, _, err = batches("estimate", "estimated", task_id)

    assert code == 2
    assert said in err
