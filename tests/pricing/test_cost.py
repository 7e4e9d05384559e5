"""What tokens cost in a batch."""

from __future__ import annotations

import pytest

from airflow_batch_provider.models import Usage
from airflow_batch_provider.pricing import cost


@pytest.mark.parametrize(
    ("provider", "model", "estimated"),
    [
        ("anthropic", "claude-sonnet-4-5", False),
        ("openai", "gpt-5-mini", False),
        ("openai", "text-embedding-3-small", True),
    ],
)
def test_a_batch_costs_half(provider, model, estimated):
    """By the published batch price, or by half the usual one, marked as an estimate."""
    price = cost(provider, model, Usage(input_tokens=1_000_000))

    assert price.usd == pytest.approx(price.saved_usd)
    assert price.usd > 0
    assert price.estimated is estimated


def test_a_model_without_a_price_costs_nobody_knows():
    """None is not zero."""
    assert cost("openai", "never-heard-of", Usage(input_tokens=1)).usd is None
