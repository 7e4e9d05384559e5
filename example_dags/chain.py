"""A second batch that works on the answers of the first: a cheap model writes, another one judges."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

POLL = PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24))


@dag(schedule=None, tags=["batch"])
def chain():
    drafts = BatchGenerateOperator(
        task_id="write",
        conn_id="openai_default",
        model="gpt-4.1-mini",
        requests=[{"custom_id": name, "prompt": f"One line that sells a {name}."} for name in ("kettle", "lamp")],
        poll=POLL,
    )

    @task.batch_generate(conn_id="anthropic_default", model="claude-haiku-4-5", poll=POLL)
    def judge(manifest):
        for row in BatchResults(manifest):
            if row.status == "succeeded":
                yield {"custom_id": row.custom_id, "prompt": f"Rate this line from 1 to 10: {row.output}"}

    judge(drafts.output)


chain()
