"""Each row is priced at its own length and model, and the bill is the exact sum."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as Listed
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.models import BatchRow, Usage
from airflow_batch_provider.pricing import Bill, PriceBook, cost
from airflow_batch_provider.pricing.kinds import counted
from airflow_batch_provider.pricing.price import amount

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PROVIDERS = {provider.id: provider for provider in get_snapshot().providers}
MODELS = [(name, model) for name in ("anthropic", "openai", "google") for model in PROVIDERS[name].models]

# Two entries of the list match dated models only.
NAMES = {"ft:gpt-4o": "ft:gpt-4o-2024-08-06:me::1", "ft:gpt-4o-mini": "ft:gpt-4o-mini-2024-07-18:me::1"}


def bill(provider, model, *rows, own=None):
    """A bill over usages, or pairs of a usage and the model that answered."""
    made = Bill(PriceBook(provider, NOW, own or {}), model)
    for row in rows:
        made.add(*row) if isinstance(row, tuple) else made.add(row)
    return made


def starts(model):
    """Where the tiers of a listed model begin."""
    prices = model.get_prices(NOW).__dict__.values()
    return sorted({tier.start for price in prices for tier in getattr(price, "tiers", ())})


# Computed by hand from the batch prices on the providers' pages (dollars per million tokens), 2026-11.
@pytest.mark.parametrize(
    ("provider", "model", "row", "usd"),
    [
        # Claude Sonnet 4.5: 1.50 in, 7.50 out; over 200,000 tokens 3.00 and 11.25.
        ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=500, output_tokens=200), "0.00225"),
        ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=200_000, output_tokens=1000), "0.3075"),
        ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=200_001, output_tokens=1000), "0.611253"),
        # Claude Haiku 5.5: 0.05 in, 0.25 out; over 100,000 tokens 0.25 and 1.25; one-hour writes 0.10 and 0.50.
        ("anthropic", "claude-haiku-5-5", Usage(input_tokens=100_000, output_tokens=1000), "0.00525"),
        ("anthropic", "claude-haiku-5-5", Usage(input_tokens=120_000, output_tokens=1000), "0.03125"),
        (
            "anthropic",
            "claude-haiku-5-5",
            Usage(input_tokens=120_000, cache_write_tokens=20_000, long_cache_write_tokens=20_000, output_tokens=1000),
            "0.03625",
        ),
        # Claude Haiku 4.5: 0.50 in, 2.50 out, reads 0.05, writes 0.625 for five minutes and 1.00 for an hour.
        (
            "anthropic",
            "claude-haiku-4-5",
            Usage(input_tokens=10_020, cache_write_tokens=10_000, output_tokens=4),
            "0.00627",
        ),
        (
            "anthropic",
            "claude-haiku-4-5",
            Usage(input_tokens=10_020, cache_write_tokens=10_000, long_cache_write_tokens=10_000, output_tokens=4),
            "0.01002",
        ),
        (
            "anthropic",
            "claude-haiku-4-5",
            Usage(input_tokens=16_000, cached_tokens=10_000, cache_write_tokens=5000, long_cache_write_tokens=1000),
            "0.0045",
        ),
        # Web searches: $10 per thousand, in a batch too.
        (
            "anthropic",
            "claude-haiku-4-5",
            Usage(input_tokens=1000, output_tokens=200, web_searches=3),
            "0.031",
        ),
        # GPT-5.4: 1.25 in, 7.50 out; over 272,000 tokens 2.50 and 11.25; reads 0.13 and 0.25.
        ("openai", "gpt-5.4", Usage(input_tokens=272_000, output_tokens=1000), "0.3475"),
        ("openai", "gpt-5.4", Usage(input_tokens=272_001, output_tokens=1000), "0.6912525"),
        ("openai", "gpt-5.4", Usage(input_tokens=300_000, cached_tokens=100_000, output_tokens=1000), "0.53625"),
        ("openai", "gpt-5.4", Usage(input_tokens=2000, cached_tokens=1000, web_searches=1, file_searches=2), "0.01638"),
        # GPT-5 mini: 0.125 in, 1.00 out, reads 0.0125; reasoning is output.
        (
            "openai",
            "gpt-5-mini",
            Usage(input_tokens=3000, cached_tokens=2000, output_tokens=400, reasoning_tokens=300),
            "0.00055",
        ),
        # GPT audio: half of 2.50 in, 32.00 audio in, 10.00 out, 64.00 audio out.
        (
            "openai",
            "gpt-audio",
            Usage(input_tokens=11_000, input_audio_tokens=10_000, output_tokens=600, output_audio_tokens=500),
            "0.17775",
        ),
        # Gemini 2.5 Pro: 0.625 in, 5.00 out; over 200,000 tokens 1.25 and 7.50; reads at the usual 0.125 and 0.25.
        ("google", "gemini-2.5-pro", Usage(input_tokens=200_000, output_tokens=1000), "0.13"),
        ("google", "gemini-2.5-pro", Usage(input_tokens=200_001, output_tokens=1000), "0.25750125"),
        ("google", "gemini-2.5-pro", Usage(input_tokens=200_001, cached_tokens=100_001, output_tokens=0), "0.15000025"),
        # Gemini 2.5 Flash: 0.15 in, audio 0.50, 1.25 out, reads at the usual 0.03, of audio 0.10; grounding $35 per 1,000.
        ("google", "gemini-2.5-flash", Usage(input_tokens=10_000, input_audio_tokens=10_000), "0.005"),
        (
            "google",
            "gemini-2.5-flash",
            Usage(input_tokens=10_000, cached_tokens=4000, input_audio_tokens=6000, cached_audio_tokens=3000),
            "0.00228",
        ),
        ("google", "gemini-2.5-flash", Usage(input_tokens=1000, output_tokens=100, web_searches=1), "0.035275"),
        # Gemini 3.5 Flash-Lite: 0.15 in, reads 0.02 in a batch (0.03 otherwise), which is not half.
        ("google", "gemini-3.5-flash-lite", Usage(input_tokens=3000, cached_tokens=2000), "0.00019"),
    ],
)
def test_a_row_costs_what_the_price_page_says(provider, model, row, usd):
    """Tiers, cache reads, cache writes by life, audio, searches."""
    made = bill(provider, model, row)

    assert made.usd == Decimal(usd)
    assert made.cost.usd == float(usd)
    assert made.cost.unpriced == ()


KEPT = Usage(cached_tokens=20_000, output_tokens=1000)
WRITTEN = KEPT + Usage(cache_write_tokens=10_000)
FOR_AN_HOUR = WRITTEN + Usage(long_cache_write_tokens=4000)


# By hand: the rest of the input, reads, writes (for five minutes, then for an hour), output; dollars per million in a batch.
@pytest.mark.parametrize(
    ("provider", "model", "last_short", "parts", "short", "long"),
    [
        # 170,000 x 1.50 + 20,000 x 0.15 + 6,000 x 1.875 + 4,000 x 3 + 1,000 x 7.50; above: 3, 0.30, 3.75, 6 and 11.25.
        ("anthropic", "claude-sonnet-4-5", 200_000, FOR_AN_HOUR, "0.28875", "0.573753"),
        # 70,000 x 0.05 + 20,000 x 0.005 + 6,000 x 0.0625 + 4,000 x 0.10 + 1,000 x 0.25; above five times as much.
        ("anthropic", "claude-haiku-5-5", 100_000, FOR_AN_HOUR, "0.004625", "0.02312525"),
        # 170,000 x 0.50 + 20,000 x 0.05 + 6,000 x 0.625 + 4,000 x 1 + 1,000 x 2.50; this one has no tier.
        ("anthropic", "claude-haiku-4-5", 200_000, FOR_AN_HOUR, "0.09625", "0.0962505"),
        # 252,000 x 1.25 + 20,000 x 0.13 + 1,000 x 7.50; above: 2.50, 0.25 and 11.25. It writes for nothing.
        ("openai", "gpt-5.4", 272_000, KEPT, "0.3251", "0.6462525"),
        # 242,000 x 2 + 20,000 x 0.20 + 10,000 x 2.50 + 1,000 x 10; above: 4, 0.40, 5 and 15.
        ("openai", "gpt-5.6-sol", 272_000, WRITTEN, "0.523", "1.041004"),
        # 242,000 x 5 + 20,000 x 0.50 + 10,000 x 6.25 + 1,000 x 25; above: 10, 1, 12.50 and 37.50.
        ("openai", "gpt-6-astra", 272_000, WRITTEN, "1.3075", "2.60251"),
        # 180,000 x 0.625 + 20,000 x 0.125, which a batch does not halve, + 1,000 x 5; above: 1.25, 0.25 and 7.50.
        ("google", "gemini-2.5-pro", 200_000, KEPT, "0.12", "0.23750125"),
        # 180,000 x 1 + 20,000 x 0.20 + 1,000 x 6; above: 2, 0.40 and 9.
        ("google", "gemini-3.1-pro-preview", 200_000, KEPT, "0.19", "0.377002"),
        # The same, by the half that is assumed where no batch price is published.
        ("google", "gemini-3-pro-preview", 200_000, KEPT, "0.19", "0.377002"),
    ],
)
def test_rows_on_both_sides_of_a_tier_with_caches_cost_what_the_price_page_says(
    provider, model, last_short, parts, short, long
):
    """Three models of each provider; the last short row and the first long one, alone and together."""
    rows = [parts + Usage(input_tokens=last_short + more) for more in (0, 1)]

    assert [bill(provider, model, row).usd for row in rows] == [Decimal(short), Decimal(long)]
    assert bill(provider, model, *rows).usd == Decimal(short) + Decimal(long)
    assert bill(provider, model, *rows).cost.unpriced == ()


@pytest.mark.parametrize(
    ("provider", "model", "usd"),
    [
        ("openai", "gpt-5.4", "2.125"),
        ("openai", "gpt-5.5", "4.25"),
        ("openai", "gpt-5.6-luna", "0.17"),
        ("openai", "gpt-6-astra", "7.5"),
        ("google", "gemini-2.5-pro", "1.3125"),
        ("google", "gemini-3.1-pro-preview", "1.7"),
        ("anthropic", "claude-sonnet-4-5", "2.25"),
    ],
)
def test_a_thousand_short_rows_are_not_one_long_request(provider, model, usd):
    """Priced as a sum they would cost 1.6 times as much."""
    row = Usage(input_tokens=500, output_tokens=200)

    made = bill(provider, model, *[row] * 1000)

    assert made.usd == Decimal(usd)
    assert (made.cost.saved_usd, made.cost.estimated) == (float(usd), False)


def test_short_rows_of_the_model_with_the_steepest_tier_are_not_five_times_as_dear():
    """Claude Haiku 5.5 charges five times as much from 100,000 tokens on."""
    assert bill("anthropic", "claude-haiku-5-5", *[Usage(input_tokens=500, output_tokens=200)] * 1000).usd == Decimal(
        "0.075"
    )


@st.composite
def usages(draw, edges):
    """Text and caches of a request, often right at a tier's edge."""
    size = draw(st.sampled_from([0, 1, 999, *edges, *(edge + 1 for edge in edges), *(3 * edge for edge in edges)]))
    cached = draw(st.integers(0, size))
    written = draw(st.integers(0, size - cached))
    made = draw(st.integers(0, 100_000))
    return Usage(
        input_tokens=size,
        cached_tokens=cached,
        cache_write_tokens=written,
        long_cache_write_tokens=draw(st.integers(0, written)),
        input_audio_tokens=draw(st.integers(0, size - cached - written)),
        output_tokens=made,
        reasoning_tokens=draw(st.integers(0, made)),
        web_searches=draw(st.integers(0, 5)),
    )


@st.composite
def jobs(draw):
    """A listed model, and rows on both sides of each of its tiers."""
    name, model = draw(st.sampled_from(MODELS))
    return name, model, draw(st.lists(usages(starts(model)), max_size=6))


@given(jobs())
def test_a_bill_is_the_sum_of_its_rows_for_every_listed_model(job):
    """cost(rows) = Σ cost(row), to the last digit."""
    name, model, rows = job

    alone = [bill(name, model.id, row) for row in rows]

    assert bill(name, model.id, *rows).usd == sum(one.usd for one in alone)


@pytest.mark.parametrize(("name", "model"), MODELS, ids=lambda value: getattr(value, "id", value))
def test_every_listed_model_has_a_price_under_its_own_name(name, model):
    """Which is what a misspelt name is told."""
    assert bill(name, model.id, Usage(input_tokens=1)).usd is not None


@pytest.mark.parametrize(("name", "model"), MODELS, ids=lambda value: getattr(value, "id", value))
def test_a_row_costs_what_the_price_list_says_for_every_listed_model(name, model):
    """On both sides of each tier, genai-prices itself says the same of one row."""
    context = {"processing": "batch"} if _has_batch_price(model) else None
    for size in [700, *(edge + more for edge in starts(model) for more in (0, 1))]:
        row = Usage(
            input_tokens=size, cached_tokens=100, cache_write_tokens=90, long_cache_write_tokens=40, output_tokens=50
        )
        listed = Listed(
            input_tokens=size,
            cache_read_tokens=100,
            cache_audio_read_tokens=0,
            cache_write_tokens=90,
            cache_write_1h_tokens=40,
            output_tokens=50,
        )

        told = model.calc_price(listed, PROVIDERS[name], genai_request_timestamp=NOW, price_context=context)
        made = bill(name, NAMES.get(model.id, model.id), row)

        # Without a published batch price half is assumed, but of cache reads at Gemini, which no batch makes cheaper.
        usual = Decimal(str(made.cost.usd)) if context else made.usd + Decimal(str(made.cost.saved_usd))
        assert float(usual) == pytest.approx(float(told.total_price), rel=1e-12)
        assert made.cost.estimated == (context is None and made.usd > 0)


def _has_batch_price(model):
    return any(variant.when == {"processing": "batch"} for variant in model.price_variants or ())


def test_a_discount_that_is_not_published_is_told():
    """Half is assumed for tokens; tools and Gemini's cache reads keep their price."""
    audio = bill("openai", "gpt-audio", Usage(input_tokens=1000)).cost
    vectors = bill("google", "gemini-embedding-001", Usage(input_tokens=1_000_000)).cost

    assert (audio.usd, audio.estimated) == (0.00125, True)
    assert (vectors.usd, vectors.saved_usd, vectors.estimated) == (0.075, 0.075, True)


@pytest.mark.parametrize(
    ("provider", "model", "row", "unpriced"),
    [
        ("openai", "gpt-4o-audio-preview", Usage(input_tokens=10, input_audio_tokens=9), ("input_audio_tokens",)),
        ("openai", "gpt-5.6-luna", Usage(input_tokens=9, cache_write_tokens=9, long_cache_write_tokens=9),
         ("long_cache_write_tokens",)),
        ("anthropic", "claude-haiku-4-5", Usage(other_tool_calls=1, other_tier_requests=1),
         ("other_tier_requests", "other_tool_calls")),
        ("anthropic", "claude-2", Usage(input_tokens=10, cached_tokens=9), ("cached_tokens",)),
        ("google", "gemini-2.5-flash", Usage(output_tokens=9, output_image_tokens=9), ("output_image_tokens",)),
        ("openai", "text-embedding-3-small", Usage(input_tokens=9, output_tokens=1), ("output_tokens",)),
    ],
)  # fmt: skip
def test_what_has_no_price_is_named(provider, model, row, unpriced):
    """A receipt says what it leaves out."""
    assert bill(provider, model, row).cost.unpriced == unpriced


def test_a_model_without_a_price_costs_nobody_knows_what():
    """`None`, not 0; nothing used costs nothing to leave out."""
    assert bill("openai", "never-heard-of", Usage(input_tokens=1)).cost.model_dump() == {
        "usd": None,
        "saved_usd": None,
        "estimated": False,
        "currency": "USD",
        "source": None,
        "unpriced": ("model",),
    }
    unused = bill("openai", "never-heard-of", Usage()).cost
    assert (unused.usd, unused.source, unused.unpriced) == (0, None, ())
    assert bill("openai", "never-heard-of").cost.usd == 0
    assert bill("nobody", "gpt-5", Usage(input_tokens=1)).cost.usd is None


def test_a_row_costs_what_the_model_that_answered_costs():
    """A row may ask for another model than its task; a version or a deployment of the asked one is the asked one."""
    row = Usage(input_tokens=1_000_000)
    made = bill("openai", "gpt-5-mini", (row, "gpt-5-nano-2025-08-07"), (row, "gpt-5-mini-2025-08-07"), (row, "my-box"))

    assert made.usd == Decimal("0.025") + 2 * Decimal("0.125")
    assert bill("openai", "never-heard-of", (row, "gpt-5-nano")).usd == Decimal("0.025")


def test_rows_without_a_price_among_others_are_named():
    """The amount is that of the others."""
    made = Bill(PriceBook("openai", NOW), "never-heard-of")
    row = BatchRow(custom_id="a", index=0, status="succeeded", usage=Usage(input_tokens=1_000_000))

    made.add_rows([row, row.model_copy(update={"model": "gpt-5-nano"})])

    assert (made.cost.usd, made.cost.unpriced) == (0.025, ("model",))


def test_the_price_says_where_it_comes_from():
    """Currency, library and version."""
    told = cost("openai", "gpt-5-mini", Usage(input_tokens=1))

    assert told.currency == "USD"
    assert told.source.startswith("genai-prices 0.")


def test_a_limit_is_compared_exactly():
    """Ten rows of one cent are not more than ten cents, as a sum of floats is."""
    row = Usage(input_tokens=80_000)  # one cent at 0.125
    made = bill("openai", "gpt-5-mini", *[row] * 10)

    assert made.usd == Decimal("0.1")
    made.add(Usage(input_tokens=1))
    assert made.usd > Decimal("0.1")


def test_endless_names_of_models_take_no_memory():
    """The model that answered is a word of the provider: of too many, the asked one's price counts."""
    book = PriceBook("openai", NOW)
    made = Bill(book, "gpt-5-nano")
    for number in range(3000):
        made.add(Usage(input_tokens=1_000_000), f"gpt-5-nano-{number}" + "x" * (number % 300))

    assert made.usd == 3000 * Decimal("0.025")
    assert len(book._known) <= 1001


USUAL = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


@given(st.builds(Usage, **dict.fromkeys(USUAL, st.integers(0, 9))))
def test_what_most_rows_use_is_summed_as_if_it_were_split_into_kinds(row):
    """Also where a part is told larger than its whole."""
    price = PriceBook("anthropic", NOW).price("claude-sonnet-4-5", None)

    assert bill("anthropic", "claude-sonnet-4-5", row, row).usd == Decimal(
        2 * amount(counted(row), price.tiers[0].batch)
    ).scaleb(-18)


@given(st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, st.integers(0, 10**12))))
def test_parts_told_larger_than_their_whole_cost_no_less_than_nothing(row):
    """Odd counts give an amount, never an exception or a negative price."""
    for provider, model in [
        ("anthropic", "claude-sonnet-4-5"),
        ("openai", "gpt-audio"),
        ("google", "gemini-2.5-flash"),
    ]:
        assert bill(provider, model, row).usd >= 0
