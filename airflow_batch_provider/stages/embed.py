"""The built-in stage that asks a model for vectors."""

from __future__ import annotations

from airflow_batch_provider.stages.batch import BatchStage


class EmbedStage(BatchStage):
    """One vector per request."""

    id = "batch-embed"
    name = "Embed"
    description = "Turns every text into a vector, in batch."
