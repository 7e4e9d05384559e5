"""Tasks for three providers, mapped and single: what the cluster has to do while its parts are killed."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

MODELS = {
    "anthropic": "anthropic:claude-haiku-4-5",
    "openai": "openai:gpt-5-mini",
    "gemini": "google:gemini-2.5-flash",
}


def rows(task: str) -> list[str]:
    return [f"{task}: row {number}" for number in (1, 2)]


def load(dag_id: str, mapped: int):
    """Every connection is the scene's own, so that nothing disturbs another's books."""

    @dag(dag_id=dag_id, schedule=None, max_active_runs=8)
    def tasks():
        for provider, model in MODELS.items():
            how = {
                "conn_id": "{{ run_id }}-" + provider,
                "model": model,
                "poll": PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(minutes=30)),
                # One task may be hit again and again.
                "retries": 12,
                "retry_delay": timedelta(seconds=0),
            }
            BatchGenerateOperator(task_id=provider, requests=rows(provider), **how)
            each = [rows(f"{provider} {number}") for number in range(mapped)]
            BatchGenerateOperator.partial(task_id=f"{provider}_each", **how).expand(requests=each)

    return tasks()


load("load", mapped=16)
# So many that some are left after five freezes.
load("large_load", mapped=45)
load("small_load", mapped=1)
