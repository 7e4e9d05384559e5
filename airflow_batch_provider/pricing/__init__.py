"""Tokens to money: each row at its own price, then the sum; and what rows will cost before they are bought.

A price per token depends on how long one request is, so tokens are never summed before they are priced.
"""

from __future__ import annotations

from airflow_batch_provider.pricing.bill import Bill, cost
from airflow_batch_provider.pricing.book import CONFIGURED, PriceBook, price_book
from airflow_batch_provider.pricing.charge import Charge
from airflow_batch_provider.pricing.estimate import Estimate, estimate, may_hold_media, text_tokens
from airflow_batch_provider.pricing.forecast import NOTHING_LEARNED, Expected, Forecast, Learned, Uses, expected
from airflow_batch_provider.pricing.own import OwnPrice, own_prices

__all__ = [
    "CONFIGURED",
    "NOTHING_LEARNED",
    "Bill",
    "Charge",
    "Estimate",
    "Expected",
    "Forecast",
    "Learned",
    "OwnPrice",
    "PriceBook",
    "Uses",
    "cost",
    "estimate",
    "expected",
    "may_hold_media",
    "own_prices",
    "price_book",
    "text_tokens",
]
