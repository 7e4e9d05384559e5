"""A task whose signals are read back from real receivers, lineage included."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.openlineage.utils.selective_enable import enable_lineage
from airflow.sdk import dag

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig


@dag(schedule=None)
def observed():
    BatchGenerateOperator(
        task_id="ask",
        model="claude-haiku-4-5",
        requests=["Secret question: marvellous", "Secret question: dreadful", "Secret question: whatever"],
        poll=PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(hours=1)),
    )


enable_lineage(observed())
