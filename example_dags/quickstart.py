"""The same three questions to three providers, each as one batch at half price.

Needs the connections `anthropic_default`, `openai_default` and `gemini_default` (only the API key in each).
While the providers work, the tasks are deferred: no worker waits.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

MODELS = {"anthropic": "claude-haiku-4-5", "openai": "gpt-4.1-mini", "gemini": "gemini-2.5-flash"}
QUESTIONS = ["Why is the sky blue?", "Why is the sea salty?", "Why do cats purr?"]


@dag(schedule=None, tags=["batch"])
def quickstart():
    @task
    def show(manifest):
        for row in BatchResults(manifest):
            print(f"{row.custom_id}: {row.output}")

    for provider, model in MODELS.items():
        answers = BatchGenerateOperator(
            task_id=f"ask_{provider}",
            conn_id=f"{provider}_default",
            model=model,
            requests=QUESTIONS,
            poll=PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24)),
        )
        show.override(task_id=f"show_{provider}")(answers.output)


quickstart()
