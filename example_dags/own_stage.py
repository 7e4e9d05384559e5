"""Custom stages, from `plugins/example_stages.py`: `execute` submits, `check_completion` polls."""

from __future__ import annotations

from airflow.sdk import dag, task
from example_stages import BatchEmbeddings, BatchProcess

from airflow_batch_provider.operators import AsyncBatchStageOperator


@dag(schedule=None, tags=["batch"])
def own_stage():
    @task(task_id="data-extraction")
    def extract():
        return {"items": ["a kettle", "a lamp"], "sections": ["Kettles boil water.", "Lamps give light."]}

    process = AsyncBatchStageOperator(
        task_id="process",
        stage=BatchProcess,
        conn_id="anthropic_default",
        config={"model": "claude-haiku-4-5", "poll_seconds": 2},
    )
    embed = AsyncBatchStageOperator(
        task_id="embed",
        stage=BatchEmbeddings,
        conn_id="gemini_default",
        config={"model": "gemini-embedding-001", "poll_seconds": 2},
    )
    extract() >> [process, embed]


own_stage()
