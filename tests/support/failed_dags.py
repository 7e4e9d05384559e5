"""DAGs whose tasks fail while their batches run on."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-4o-mini", "gemini": "gemini-2.5-flash"}
SHORT = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(seconds=1), first_poll=timedelta(0))


def failed_dag(name, providers=MODELS):
    """Tasks that fail while their batches run on."""
    with DAG(name, schedule=None) as dag:
        for provider in providers:
            BatchGenerateOperator(
                task_id=provider,
                model=MODELS[provider],
                conn_id=f"{provider}_default",
                requests=["one", "two"],
                poll=SHORT,
                on_timeout="leave",
                deferrable=False,
            )
    return dag


def forget_the_purpose(storage):
    """As if the tasks had been killed instead of told to leave their batches running."""
    for entry in storage.rglob("=registry/open/*.json"):
        entry.write_text(entry.read_text().replace('"leave_running":true', '"leave_running":false'))
