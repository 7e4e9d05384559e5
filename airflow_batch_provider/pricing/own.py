"""Custom prices, for models that nobody lists or that one pays differently for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.pricing.kinds import KINDS
from airflow_batch_provider.pricing.price import DOLLAR, Price, Tier

# Twelve decimals of a price per million tokens are a whole number of attodollars per token.
_Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=9, allow_inf_nan=False)]


class OwnPrice(FrozenModel):
    """The price of one model in a batch, in US dollars per million tokens; searches per thousand.

    Attributes:
        input: also of every kind of input that is not named.
        output: also of audio output when that is not named.
        cached: cache reads.
        cache_write: cache writes; those that live long (one hour at Anthropic) cost `long_cache_write`.
        audio_input: input tokens of audio.
        audio_output: output tokens of audio.
        web_search: thousand web searches.
        file_search: thousand file searches.
    """

    input: _Dollars
    output: _Dollars = Decimal(0)
    cached: _Dollars | None = None
    cache_write: _Dollars | None = None
    long_cache_write: _Dollars | None = None
    audio_input: _Dollars | None = None
    audio_output: _Dollars | None = None
    web_search: _Dollars | None = None
    file_search: _Dollars | None = None

    def price(self) -> Price:
        """Return this price for requests of any length; what it saves is not known."""
        tokens = self._by_token()
        tools = {"web_searches": self.web_search, "file_searches": self.file_search}
        rates = {kind: _attodollars(amount, 1_000_000) for kind, amount in tokens.items()}
        rates |= {kind: _attodollars(amount or Decimal(0), 1_000) for kind, amount in tools.items()}
        rates |= {kind: 0 for kind, keys in KINDS.items() if not keys}
        return Price(
            starts=(),
            tiers=(Tier(batch=tuple(rates[kind] for kind in KINDS), standard=None),),
            unlisted=frozenset(kind for kind, keys in KINDS.items() if not keys or tools.get(kind, Decimal(0)) is None),
            estimated=False,
            source="own prices",
        )

    def _by_token(self) -> dict[str, Decimal]:
        text = dict.fromkeys(KINDS, self.input) | {kind: self.output for kind in KINDS if "output" in kind}
        written = self.input if self.cache_write is None else self.cache_write
        apart = {
            "cached_tokens": self.cached,
            "cached_audio_tokens": self.cached,
            "cache_write_tokens": written,
            "long_cache_write_tokens": written if self.long_cache_write is None else self.long_cache_write,
            "input_audio_tokens": self.audio_input,
            "output_audio_tokens": self.audio_output,
            "reasoning_tokens": self.output,
        }
        return text | {kind: amount for kind, amount in apart.items() if amount is not None}


def _attodollars(amount: Decimal, per: int) -> int:
    return int(amount * (DOLLAR // per))


_PRICES: TypeAdapter[dict[str, OwnPrice]] = TypeAdapter(dict[str, OwnPrice])


def own_prices(given: Any, where: str = "prices") -> dict[str, OwnPrice]:
    """Return the prices that a person wrote, by model: a mapping, or the JSON text of one; none when it is empty.

    Args:
        where: names the setting in messages.

    Raises:
        UsageError: it is not a mapping of models to prices; names the model and the field.
    """
    if not given:
        return {}
    try:
        # Decimals, so that 0.15 is not 0.1499999….
        told = json.loads(given, parse_float=Decimal) if isinstance(given, str | bytes) else given
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is not valid JSON. Write {_EXAMPLE}.") from None
    if not isinstance(told, Mapping):
        raise UsageError(f"{where} is {type(told).__name__}, not a mapping of models to prices. Write {_EXAMPLE}.")
    try:
        return _PRICES.validate_python(dict(told))
    except ValidationError as error:
        problems = "; ".join(
            f"{where}[{'.'.join(map(str, problem['loc']))}]: {problem['msg']}" for problem in error.errors()[:3]
        )
        fields = ", ".join(OwnPrice.model_fields)
        raise UsageError(f"{problems}. A price is in US dollars and has {fields}. Write {_EXAMPLE}.") from None


_EXAMPLE = '{"my-model": {"input": 0.25, "output": 1.5}}, US dollars per million tokens in a batch'
