"""What rows may cost at most is known before they are bought: row by row, from the lines as they will be sent."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.models import Spec, Usage
from airflow_batch_provider.pricing import Bill, Charge, Expected, Forecast, Learned, PriceBook, Uses
from airflow_batch_provider.pricing import expected as use_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def expected(provider, lines, model, **spec):
    spec = Spec(model=model, **{"max_tokens": 1000, **spec})
    return total_of(counts_of([use_of(json.dumps(line).encode(), spec) for line in lines]), provider, model)


def counts_of(rows):
    uses = Uses()
    for row in rows:
        uses.add(row, row.usage.input_tokens)
    return uses


def total_of(uses, provider, model, **learned):
    total = Forecast(Bill(PriceBook(provider, NOW), model))
    uses.add_to(total, Learned(**learned))
    return total


def padded(line, tokens):
    """The line with spaces up to so many tokens."""
    line["pad"] = ""
    line["pad"] = "x" * (tokens * 4 - len(json.dumps(line)))
    return line


def test_a_thousand_short_rows_are_forecast_as_short_rows():
    """500 tokens in and at most 200 out, far from the tier of GPT-5.4."""
    lines = [padded({"body": {"model": "gpt-5.4", "max_completion_tokens": 200}}, 500) for _ in range(1000)]

    told = expected("openai", lines, "gpt-5.4")

    assert told.bill.usd == Decimal("2.125")
    assert (told.usage.input_tokens, told.usage.output_tokens) == (500_000, 200_000)


def test_a_long_row_is_forecast_at_the_long_rate():
    """300,000 tokens in, 1,000 out, next to a short one."""
    long = padded({"body": {"model": "gpt-5.4", "max_completion_tokens": 1000}}, 300_000)
    short = padded({"body": {"model": "gpt-5.4", "max_completion_tokens": 200}}, 500)

    assert expected("openai", [long, short], "gpt-5.4").bill.usd == Decimal("0.76125") + Decimal("0.002125")


@pytest.mark.parametrize(
    ("line", "room"),
    [
        ({"params": {"max_tokens": 7}}, 7),
        ({"body": {"max_completion_tokens": 7}}, 7),
        ({"body": {"max_tokens": 7, "n": 3}}, 21),
        ({"body": {"max_output_tokens": 7}}, 7),
        ({"request": {"generationConfig": {"maxOutputTokens": 7}}}, 7),
        ({"params": {"max_tokens": "odd"}}, 1000),
        ({"request": {"generationConfig": []}}, 1000),
        ({"params": []}, 1000),
        ([], 1000),
        ({}, 1000),
    ],
)
def test_a_rows_own_room_wins_over_the_tasks(line, room):
    """In the words of each provider; what is odd counts as the task's."""
    assert expected("openai", [line], "gpt-5.4").usage.output_tokens == room


def test_vectors_have_no_output():
    """An embedding costs its input only."""
    assert expected("openai", [{"body": {}}], "text-embedding-3-small", kind="embed").usage.output_tokens == 0


def test_a_row_of_another_model_is_forecast_at_its_price():
    """`request_params` of a row may name a model."""
    lines = [padded({"params": {"model": "claude-opus-4-5", "max_tokens": 1000}}, 1000)]

    assert expected("anthropic", lines, "claude-haiku-4-5").bill.usd == Decimal("0.015")


def test_what_cannot_be_estimated_is_named_in_the_cost():
    """A video has no rule here."""
    part = {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}
    line = {"request": {"contents": [{"parts": [part]}]}}

    assert expected("google", [line], "gemini-2.5-flash").cost.unpriced == ("input_video_tokens",)


def test_nothing_is_told_of_rows_that_have_a_price():
    assert expected("openai", [{"body": {"model": "gpt-5-mini"}}], "gpt-5-mini").gaps is None


@pytest.mark.parametrize(
    ("provider", "model", "near"),
    [
        ("anthropic", "claude-haku-4-5", "'claude-haiku-4-5'"),
        ("anthropic", "Claud-Sonnet-4-5", "'claude-sonnet-4-5'"),
        ("openai", "text-embeding-3-small", "'text-embedding-3-small'"),
        ("openai", "gpt5-mini", "'gpt-5-mini'"),
        ("google", "gemini-2.5-flsh", "'gemini-2.5-flash'"),
    ],
)
def test_a_model_without_a_price_is_told_with_the_names_that_are_near(provider, model, near):
    """The nearest first."""
    assert f"'{model}' (1 of the requests)" in expected(provider, [{}], model).gaps
    assert f"Did you mean {near}" in expected(provider, [{}], model).gaps


def test_a_model_of_ones_own_is_like_no_other():
    """Nothing is guessed, and the remedy is named."""
    assert expected("openai", [{}, {}], "our-llm:7b").gaps == (
        "No price is known for model 'our-llm:7b' (2 of the requests), so nothing of it is counted as cost. Set the price "
        "of a model that nobody lists in the connection's option 'prices'."
    )


def test_models_that_rows_name_are_told_in_few_words():
    """A thousand of them too, each of any length."""
    lines = [{"body": {"model": f"our-{number}" + "x" * 10_000}} for number in range(1002)]

    told = expected("openai", [{"body": {"model": "gpt-5-mini"}}, *lines], "gpt-5-mini")

    assert told.gaps.count("No price is known") == 3
    assert "more models" in told.gaps
    assert len(told.gaps) < 2000
    assert told.cost.unpriced == ("model",)


def test_what_an_estimate_leaves_out_is_told():
    """A file of which only the name is known."""
    line = {"request": {"contents": [{"parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "files/1"}}]}]}}

    assert expected("google", [line], "gemini-2.5-flash").gaps == (
        "The price of input_video_tokens is not in the estimate."
    )


TOKENS = st.sampled_from([1, 500, 200_000, 300_000])
MODELS = st.sampled_from([None, "gpt-5-mini", "nobody-lists-it"])
TEXTS = st.builds(
    lambda tokens, room, model: Expected(Usage(input_tokens=tokens, output_tokens=room), model),
    TOKENS,
    st.integers(0, 20),
    MODELS,
)
IMAGES = st.builds(
    lambda tokens, model, unknown: Expected(
        Usage(input_tokens=tokens + 9, input_image_tokens=9, output_tokens=5), model, unknown, is_text=False
    ),
    TOKENS,
    MODELS,
    st.sampled_from([frozenset(), frozenset({"input_tokens"})]),
)


@given(st.lists(TEXTS | IMAGES, min_size=1), st.sampled_from([{}, {"longest": 9}, {"longest": 9, "growth": 1.7}]))
def test_rows_that_are_counted_cost_what_they_cost_one_by_one(rows, learned):
    """In whatever order they come; also after the counts were written and read."""
    counted = total_of(Uses.decode(counts_of(rows).encode()), "openai", "gpt-5.4", **learned)
    alone = [total_of(counts_of([row]), "openai", "gpt-5.4", **learned) for row in rows]

    assert counted.bill.charge == sum((one.bill.charge for one in alone), Charge())
    assert counted.usage == sum((one.usage for one in alone), Usage())
    assert counted.bill.unknown == dict(sum((Counter(one.bill.unknown) for one in alone), Counter()))
