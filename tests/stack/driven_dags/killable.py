"""A batch of three rows, asked of whom the run's configuration says; the tests drive each run of it by hand."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig


@dag(schedule=None, max_active_runs=32)
def killable():
    BatchGenerateOperator(
        task_id="ask",
        model="{{ dag_run.conf['model'] }}",
        conn_id="{{ dag_run.conf['conn_id'] }}",
        requests=["one", "two", "three"],
        poll=PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(hours=1)),
        retries=2,
        retry_delay=timedelta(seconds=0),
    )


killable()
