"""One batch per topic, side by side, each a mapped task with its own storage; then what all of it cost."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

TOPICS = ["volcanoes", "glaciers", "tides"]


@dag(schedule=None, tags=["batch"])
def fan_out():
    @task
    def questions(topic: str) -> list[str]:
        return [f"Explain {topic} to a child.", f"Name three surprising facts about {topic}."]

    @task
    def total(manifests):
        manifests = list(manifests)
        return {
            "answers": sum(manifest["counts"].get("succeeded", 0) for manifest in manifests),
            "usd": sum(manifest["cost"]["usd"] or 0 for manifest in manifests),
        }

    answers = BatchGenerateOperator.partial(
        task_id="ask",
        conn_id="gemini_default",
        model="gemini-2.5-flash",
        poll=PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24)),
    ).expand(requests=questions.expand(topic=TOPICS))
    total(answers.output)


fan_out()
