"""Prices that genai-prices collects from the providers' own pages, as values of ours."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.pricing.kinds import CACHED, KINDS, TOOLS
from airflow_batch_provider.pricing.price import DOLLAR, Price, Rates, Tier

if TYPE_CHECKING:
    from datetime import datetime

    from genai_prices.types import ModelInfo, ModelPrice, Provider

BATCH = {"processing": "batch"}

# All three providers publish a discount of one half for their batch APIs (their pricing pages, 2026-09). Gemini charges
# cache reads in a batch like others, and tools cost the same everywhere.
_DISCOUNT = 2

_KEEPS_PRICE: dict[str, frozenset[str]] = {"google": CACHED | TOOLS}

# Kinds that do not cost what the kind above them costs, so that a missing price is a price that nobody knows. For all
# others the next price in `KINDS` is the documented one: a Gemini model with one input price charges it for every
# modality, OpenAI charges nothing extra for cache writes of models without that price, reasoning is output everywhere.
_APART: dict[str, frozenset[str]] = {
    "anthropic": frozenset({"cached_tokens", "cache_write_tokens", "long_cache_write_tokens"}),
    "openai": frozenset(
        {"input_audio_tokens", "long_cache_write_tokens", "output_audio_tokens", "output_image_tokens"}
    ),
    "google": frozenset({"cached_tokens", "output_audio_tokens", "output_image_tokens"}),
}


class PriceList:
    """The prices of one provider that are in force at one moment.

    Attributes:
        source: the library that they come from, with its version.
    """

    def __init__(self, provider: str, at: datetime) -> None:
        from genai_prices import __version__
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
        self._name = provider
        self._at = at
        self._everybody = snapshot.providers
        self.source = f"genai-prices {__version__}"
        if snapshot.from_auto_update:
            self.source += f", updated {snapshot.timestamp:%Y-%m-%d}"
        try:
            self._provider: Provider | None = snapshot.find_provider(None, provider, None)
        except LookupError:
            self._provider = None

    def find(self, model: str) -> ModelInfo | None:
        """Return the entry of a model under any of its names, None when it is not listed."""
        if self._provider is None:
            return None
        found = self._provider.find_model(model, all_providers=self._everybody)
        # Not every entry is found under its own id: that of `ft:gpt-4o` only finds longer names (genai-prices, 2026-11).
        return found or next((one for one in self._provider.models if one.id == model), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the listed models."""
        return tuple(model.id for model in self._provider.models) if self._provider else ()

    def price(self, model: ModelInfo) -> Price:
        """Return what requests of a listed model cost in a batch."""
        standard, published = model.get_prices(self._at), self._has_batch_price(model)
        batch = model.get_prices(self._at, BATCH) if published else standard
        keys = {key for keys in KINDS.values() for key in keys}
        prices = [getattr(price, key) for price in (standard, batch) for key in keys]
        starts = sorted({tier.start for price in prices for tier in getattr(price, "tiers", ())})
        # One token more than its start is the shortest request of a tier.
        tiers = [self._tier(standard, batch, tokens, published=published) for tokens in (0, *(s + 1 for s in starts))]
        return Price(tuple(starts), tuple(tiers), self._unlisted(standard), not published, self.source)

    def _has_batch_price(self, model: ModelInfo) -> bool:
        """Return True when a batch price is in force; one of a model that another provider resells is not its own."""
        assert self._provider is not None  # only a listed model is priced
        return any(model is own for own in self._provider.models) and any(
            variant.when == BATCH and (variant.constraint is None or variant.constraint.active(self._at))
            for variant in model.price_variants or ()
        )

    def _tier(self, standard: ModelPrice, batch: ModelPrice, tokens: int, *, published: bool) -> Tier:
        usual, paid = _rates(standard, tokens), _rates(batch, tokens)
        if not published:
            keep = _KEEPS_PRICE.get(self._name, TOOLS)
            paid = tuple(rate if kind in keep else rate // _DISCOUNT for kind, rate in zip(KINDS, paid, strict=True))
        return Tier(batch=paid, standard=usual)

    def _unlisted(self, price: ModelPrice) -> frozenset[str]:
        apart = _APART.get(self._name, frozenset())
        return frozenset(
            kind
            for kind, keys in KINDS.items()
            if all(getattr(price, key, None) is None for key in (_own(kind, keys) if kind in apart else keys))
        )


def _own(kind: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys that are prices of this kind itself, and not of the kind above it."""
    return keys[:-1] if kind == "cache_write_tokens" else keys[:1]


def _rates(price: ModelPrice, tokens: int) -> Rates:
    return tuple(_rate(price, keys, tokens, per=1_000 if kind in TOOLS else 1_000_000) for kind, keys in KINDS.items())


def _rate(price: ModelPrice, keys: tuple[str, ...], tokens: int, *, per: int) -> int:
    """Return attodollars per unit for a request of so many input tokens; 0 when nothing is listed."""
    listed: Any = next((found for key in keys if (found := getattr(price, key, None)) is not None), Decimal(0))
    for tier in reversed(getattr(listed, "tiers", ())):
        if tokens > tier.start:
            amount = tier.price
            break
    else:
        amount = getattr(listed, "base", listed)
    return int(amount * (DOLLAR // per))
