"""Answers that fit a pydantic model, as a Parquet file.

The model's schema goes to the provider's own structured output. An answer that does not fit all the same is asked
again (`retry_rows`), and is marked `invalid` if it never does: no row is lost, none is let through.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from airflow.sdk import dag
from pydantic import BaseModel, Field

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig


class Receipt(BaseModel):
    category: Literal["billing", "delivery", "defect", "other"]
    urgency: int = Field(ge=1, le=5, description="5: somebody should call now")
    summary: str


@dag(schedule=None, tags=["batch"])
def structured_output():
    BatchGenerateOperator(
        task_id="classify",
        conn_id="openai_default",
        model="gpt-4.1-mini",
        system="You sort the letters of a shop's customers.",
        requests=["The payload never came.", "You charged me twice!", "The lamp hums, is that normal?"],
        output_type=Receipt,
        result_format="parquet",
        poll=PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24)),
    )


structured_output()
