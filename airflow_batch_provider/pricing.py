"""Tokens to money, on the published prices that genai-prices collects."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.models import Cost

if TYPE_CHECKING:
    from airflow_batch_provider.models import Usage

# All three providers publish a discount of one half for their batch APIs (their pricing pages, 2026-09).
BATCH_DISCOUNT = Decimal("0.5")


def cost(provider: str, model: str, usage: Usage) -> Cost:
    """What tokens cost in a batch, and what they would have cost more without; all None for a model without a price."""
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    tokens = PricedUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        usual = calc_price(tokens, model, provider_id=provider)
    except (LookupError, ValueError):
        return Cost()
    full: Decimal = usual.total_price
    published = _has_batch_price(usual.model)
    batch = (
        calc_price(tokens, model, provider_id=provider, price_context={"processing": "batch"}).total_price
        if published
        else full * BATCH_DISCOUNT
    )
    return Cost(usd=float(batch), saved_usd=float(full - batch), estimated=not published)


def _has_batch_price(model: Any) -> bool:
    return any((variant.when or {}).get("processing") == "batch" for variant in model.price_variants or ())
