"""The built-in stage that asks a model for text or structured answers."""

from __future__ import annotations

from airflow_batch_provider.stages.batch import BatchStage


class GenerateStage(BatchStage):
    """One answer per request."""

    id = "batch-generate"
    name = "Generate"
    description = "Asks a language model every request, in batch."
