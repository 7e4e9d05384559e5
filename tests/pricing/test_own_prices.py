"""Custom prices: what they are, which one counts, and what a wrong one says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import SecretStr

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Account, Usage
from airflow_batch_provider.pricing import CONFIGURED, Bill, PriceBook, own_prices, price_book

NOW = datetime(2026, 11, 26, tzinfo=UTC)
MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


def bill(own, model, usage=MILLION, answered=None):
    made = Bill(PriceBook("openai", NOW, own_prices(own)), model)
    made.add(usage, answered)
    return made


def test_a_model_that_nobody_lists_has_the_price_that_one_gives_it():
    """Dollars per million tokens in a batch; what it saves nobody knows."""
    told = bill('{"house-7b": {"input": 0.1, "output": 0.15}}', "house-7b").cost

    assert (told.usd, told.saved_usd, told.estimated, told.source) == (0.25, None, False, "own prices")


def test_every_kind_may_have_a_price():
    """What is not named costs what input or output costs; a search that is not named is named as not priced."""
    price = {
        "input": 1,
        "output": 2,
        "cached": 0.1,
        "cache_write": 1.25,
        "long_cache_write": 2,
        "audio_input": 5,
        "audio_output": 10,
        "web_search": 10,
    }
    row = Usage(
        input_tokens=10_000,
        cached_tokens=1000,
        cache_write_tokens=2000,
        long_cache_write_tokens=500,
        input_audio_tokens=3000,
        output_tokens=1000,
        output_audio_tokens=400,
        reasoning_tokens=100,
        web_searches=1,
    )

    assert bill({"m": price}, "m", row).usd == Decimal("0.037175")
    assert bill({"m": {"input": 1}}, "m", row).cost.unpriced == ("web_searches",)


def test_ones_own_price_wins_over_the_list_and_counts_for_dated_versions():
    """A contract's price for a model that is listed too."""
    own = {"gpt-5-mini": {"input": "0.01"}}

    assert bill(own, "gpt-5-mini", answered="gpt-5-mini-2025-08-07").usd == Decimal("0.01")
    assert bill(own, "gpt-5-nano", answered="gpt-5-mini").usd == Decimal("0.01")
    assert bill(own, "gpt-5-mini", answered="gpt-5-nano-2025-08-07").usd == Decimal("0.225")


def test_a_deployment_has_its_own_price_whatever_model_answers():
    """On Azure the asked model is the name of a deployment."""
    assert bill({"my-deployment": {"input": 1}}, "my-deployment", answered="gpt-5-mini-2025-08-07").usd == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "prices is not valid JSON"),
        ("[" * 100_000, "prices is not valid JSON"),
        ("[]", "prices is list, not a mapping"),
        ('"x"', "prices is str, not a mapping"),
        ({"m": 3}, r"prices\[m\]"),
        ({"m": {}}, r"prices\[m.input\]: Field required"),
        ({"m": {"input": -1}}, r"prices\[m.input\]: Input should be greater than or equal to 0"),
        ({"m": {"input": "cheap"}}, r"prices\[m.input\]"),
        ({"m": {"input": float("nan")}}, r"prices\[m.input\]"),
        ({"m": {"input": 1e-12}}, r"prices\[m.input\]: .*decimal places"),
        ({"m": {"input": 1, "outputs": 2}}, r"prices\[m.outputs\]: Extra inputs"),
    ],
)
def test_a_wrong_price_says_where_and_how_it_is_written(given, said):
    """Model, field, an example."""
    with pytest.raises(UsageError, match=said) as caught:
        own_prices(given)

    assert '{"my-model": {"input": 0.25, "output": 1.5}}' in str(caught.value)


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_no_prices_are_not_error(nothing):
    """The option is optional."""
    assert own_prices(nothing) == {}


def test_a_connections_prices_win_over_the_deployments():
    """Model by model."""
    account = Account(
        provider="openai",
        api_key=SecretStr("k"),
        options={CONFIGURED: '{"a": {"input": 1}, "b": {"input": 1}}', "prices": {"b": {"input": 2}}},
    )

    own = price_book(account).own

    assert (own["a"].input, own["b"].input) == (1, 2)


def test_unreadable_prices_name_their_setting():
    """The one in the connection, or the one in the configuration."""
    for option, said in [("prices", "The connection's prices"), (CONFIGURED, r"\[batch_provider\] prices")]:
        account = Account(provider="openai", api_key=SecretStr("k"), options={option: "{"})
        with pytest.raises(UsageError, match=said):
            price_book(account)
