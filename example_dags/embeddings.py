"""Vectors of many texts, then the two that are closest to each other."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import combinations

from airflow.sdk import dag, task

from airflow_batch_provider.operators import BatchEmbedOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

TEXTS = {"cat": "A cat sleeps.", "dog": "A dog sleeps.", "tax": "Taxes are due in May."}


@dag(schedule=None, tags=["batch"])
def embeddings():
    @task
    def closest(manifest):
        vectors = {row.custom_id: row.output for row in BatchResults(manifest)}
        return list(max(combinations(vectors, 2), key=lambda pair: cosine(*(vectors[key] for key in pair))))

    vectors = BatchEmbedOperator(
        task_id="embed",
        conn_id="openai_default",
        model="text-embedding-3-small",
        requests=[{"custom_id": key, "prompt": text} for key, text in TEXTS.items()],
        poll=PollConfig(interval=timedelta(seconds=2), max_wait=timedelta(hours=24)),
    )
    closest(vectors.output)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


embeddings()
