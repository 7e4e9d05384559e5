"""One question per row of a file: JSONL, CSV or Parquet, here or on S3, read as a stream.

`{text}` in the prompt is the column of that name; the column `id` becomes the answer's `custom_id`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

REVIEWS = Path(__file__).parent / "data" / "reviews.csv"


@dag(schedule=None, tags=["batch"])
def file_rows():
    BatchGenerateOperator(
        task_id="judge",
        conn_id="anthropic_default",
        model="claude-haiku-4-5",
        source=str(REVIEWS),
        prompt="Is this review of a {product} friendly? Answer yes or no. Review: {text}",
        key="id",
        max_tokens=16,
        poll=PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24)),
    )


file_rows()
