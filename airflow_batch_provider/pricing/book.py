"""Which price a row has: one's own, or the listed one of the model that answered or was asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_batch_provider.clock import utc_now
from airflow_batch_provider.pricing.listed import PriceList
from airflow_batch_provider.pricing.own import OwnPrice, own_prices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from genai_prices.types import ModelInfo

    from airflow_batch_provider.models import Account
    from airflow_batch_provider.pricing.price import Price

CONFIGURED = "configured_prices"
"""Option of an account that holds the deployment's own prices, as they stand in `[batch_provider] prices`."""

# The model that answered is a word of the provider, so its length and number are bounded: an answer of one more model is
# charged as the asked one.
_LONGEST_NAME = 200
MOST_MODELS = 1000

# Of 1; `gpt-5-mni` and `gpt-5-mini` are 0.95 alike, `gpt-5.9` and `gpt-5.5` 0.86, `gemini-9` and `gemini-pro` 0.78.
_ALIKE = 0.75


@dataclass(frozen=True)
class PriceBook:
    """The prices of one provider that are in force at one moment.

    Attributes:
        own: custom prices, by model.
    """

    provider: str
    at: datetime
    own: Mapping[str, OwnPrice] = field(default_factory=dict)
    _known: dict[tuple[str, str], Price | None] = field(default_factory=dict, compare=False, repr=False)

    def price(self, asked: str, answered: str | None = None) -> Price | None:
        """Return what a request costs, None when nobody knows.

        Args:
            asked: the model of the task or of the row.
            answered: the model that the provider names in its answer, often a dated version of the asked one.
        """
        names = (asked, answered or asked)
        if names not in self._known and len(self._known) >= MOST_MODELS:
            names = (asked, asked)
        if names not in self._known:
            self._known[names] = self._find(*names)
        return self._known[names]

    @cached_property
    def fingerprint(self) -> str:
        """Return 16 hex digits that tell these prices from others: from custom ones, and from other versions of the list."""
        own = sorted((model, price.model_dump_json()) for model, price in self.own.items())
        return hashlib.blake2b(repr((self._list.source, own)).encode(), digest_size=8).hexdigest()

    def near(self, model: str) -> tuple[str, ...]:
        """Return at most three models that have a price and a name like this one, the nearest first."""
        names = dict.fromkeys((*self.own, *self._list.names))
        return tuple(get_close_matches(model[:_LONGEST_NAME].lower(), names, n=3, cutoff=_ALIKE))

    def _find(self, asked: str, answered: str) -> Price | None:
        if answered in self.own:
            return self.own[answered].price()
        told, wanted = self._listed(answered), self._listed(asked)
        # An own price of the asked model stands, unless the list knows that another model has answered.
        if asked in self.own and (told is None or wanted is None or told is wanted):
            return self.own[asked].price()
        model = told or wanted
        return self._list.price(model) if model else None

    def _listed(self, model: str) -> ModelInfo | None:
        return self._list.find(model) if len(model) <= _LONGEST_NAME else None

    @cached_property
    def _list(self) -> PriceList:
        return PriceList(self.provider, self.at)


def price_book(account: Account, now: Callable[[], datetime] = utc_now) -> PriceBook:
    """Return the prices for an account, its option `prices` first, then those of the deployment's configuration.

    Args:
        now: tells when, for prices that change.

    Raises:
        UsageError: one of the two is not a mapping of models to prices.
    """
    configured = own_prices(account.options.get(CONFIGURED), "[batch_provider] prices")
    chosen = own_prices(account.options.get("prices"), "The connection's prices")
    return PriceBook(account.provider, now(), configured | chosen)
