"""The values of the package."""

from __future__ import annotations

from pydantic import BaseModel

from airflow_batch_provider.models import BatchRequest, Usage


def test_a_pydantic_model_becomes_its_schema():
    """So that a request is data only."""

    class Answer(BaseModel):
        n: int

    assert BatchRequest(prompt="x", output_type=Answer).output_type == Answer.model_json_schema()


def test_usage_adds_field_by_field():
    """Sums of tokens."""
    assert Usage(input_tokens=1, cached_tokens=2) + Usage(input_tokens=3) == Usage(input_tokens=4, cached_tokens=2)
