"""The DAGs that are seen on the pictures of README and docs."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_batch_provider.operators import BatchEmbedOperator, BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

POLL = PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=24))
ASKED = {
    "support_tickets": [("classify", "claude-haiku-4-5"), ("summarise", "gpt-5-mini")],
    "product_catalog": [("describe", "gemini-2.5-flash")],
    "reviews": [("label", "claude-haiku-4-5"), ("translate", "gpt-4.1-mini")],
}
CONNECTIONS = {"claude": "anthropic_default", "gpt": "openai_default", "gemini": "gemini_default"}

for dag_id, tasks in ASKED.items():
    with DAG(dag_id, schedule=None) as dag:
        for task_id, model in tasks:
            conn_id = CONNECTIONS[model.partition("-")[0]]
            BatchGenerateOperator(
                task_id=task_id, model=model, conn_id=conn_id, requests=["one", "two"], poll=POLL, retries=0
            )
    globals()[dag_id] = dag

with DAG("search_index", schedule=None) as search_index:
    BatchEmbedOperator(
        task_id="embed",
        model="text-embedding-3-small",
        conn_id="openai_default",
        requests=["one"],
        poll=POLL,
        retries=0,
    )
