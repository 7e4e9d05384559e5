"""A DAG whose task says why it fails."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def fails():
    @task
    def break_down():
        raise ValueError("the kettle is empty")

    break_down()


fails()
