"""Many tasks that start in the same minute on one connection."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig


def crowd(size: int):
    @dag(dag_id=f"crowd_{size}", schedule=None)
    def tasks():
        BatchGenerateOperator.partial(
            task_id="ask",
            conn_id="{{ dag_run.conf['conn_id'] }}",
            model="{{ dag_run.conf['model'] }}",
            poll=PollConfig(interval=timedelta(seconds=10), max_wait=timedelta(hours=6)),
        ).expand(requests=[[f"row of {number}"] for number in range(size)])

    return tasks()


crowd(200)
crowd(1000)
