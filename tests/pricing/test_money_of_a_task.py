"""The money of a whole task: all rows of all waves at their own prices, and the limits that hold before it is spent."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.chunks import ChunkLimits, ChunkWriter
from airflow_batch_provider.ledger.requests import plan_rows
from airflow_batch_provider.models import Account, Reply, RowError, Spec, Usage
from airflow_batch_provider.pricing import CONFIGURED
from airflow_batch_provider.providers import provider_class
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.storage import Directory

SHORT = Usage(input_tokens=500, output_tokens=200)
LONG = Usage(input_tokens=300_000, output_tokens=1000)


def answers(*usages, model=None):
    """Gives each asked row these tokens, one asking after the other; the first asking fails where there are two."""

    def answer(_body, asking):
        last = asking == len(usages)
        error = None if last else RowError(code="busy", message="later", retryable=True)
        status = "succeeded" if last else "failed"
        return Reply(key="", status=status, output="ok", error=error, usage=usages[asking - 1], model=model)

    return answer


async def test_short_rows_of_a_task_are_not_priced_as_one_long_request(job, provider):
    """A thousand rows of 500 tokens are half a million, of which none is over the tier at 272,000."""
    provider.answer, provider.max_requests = answers(SHORT), 1000

    manifest = await job([f"q{n}" for n in range(1000)], model="openai:gpt-5.4").run()

    assert (manifest.cost.usd, manifest.cost.saved_usd, manifest.cost.estimated) == (2.125, 2.125, False)
    assert manifest.usage.input_tokens == 500_000


async def test_every_wave_is_in_the_cost(job, provider):
    """What failed after it ran was paid too."""
    provider.answer = answers(LONG, SHORT)

    manifest = await job(["a"], model="openai:gpt-5.4", retry_rows=1).run()

    assert (manifest.waves, manifest.counts["succeeded"]) == (2, 1)
    assert manifest.cost.usd == 0.76125 + 0.002125


async def test_a_task_is_charged_by_the_models_that_answered(job, provider):
    """As far as the price list knows them."""
    provider.answer = answers(Usage(input_tokens=1_000_000), model="gpt-5-nano-2025-08-07")

    manifest = await job(["a"], model="openai:gpt-5-mini").run()

    assert manifest.cost.usd == 0.025


async def test_the_manifest_names_what_the_cost_leaves_out(job, provider):
    """And where its prices come from; in storage as well."""
    provider.answer = answers(Usage(input_tokens=10, web_searches=1, other_tool_calls=2))
    task = job(["a"], model="openai:gpt-5-mini")

    manifest = await task.run()

    assert manifest.cost.unpriced == ("other_tool_calls",)
    assert (manifest.cost.currency, manifest.cost.source[:12]) == ("USD", "genai-prices")
    assert b'"unpriced":["other_tool_calls"]' in task.directory.read("manifest.json")


async def test_every_count_reaches_both_formats(job, provider):
    """Also the ones that most rows do not have."""
    usage = Usage(**dict.fromkeys(Usage.__struct_fields__, 7))
    provider.answer = answers(usage)

    for result_format in ("jsonl", "parquet"):
        manifest = await job([result_format], model="openai:gpt-5-mini", result_format=result_format).run()
        assert [row.usage for row in BatchResults(manifest)] == [usage]


async def test_a_limit_holds_for_the_sum_of_the_rows_and_not_for_one_giant_request(job, provider):
    """1,000 rows of at most 300 tokens out, each with some 30 in, cost at most $2.30 at GPT-5.4; as one request $3.45."""
    provider.max_requests = 1000
    rows = [f"q{n}" for n in range(1000)]

    manifest = await job(rows, model="openai:gpt-5.4", max_tokens=300, max_cost_usd=2.30).run()
    assert manifest.counts["succeeded"] == 1000

    with pytest.raises(UsageError, match=r"may cost up to \$2\.2[0-9]+ .* max_cost_usd=2\.25"):
        await job([*rows, "x"], model="openai:gpt-5.4", max_tokens=300, max_cost_usd=2.25).run()


async def test_prices_of_ones_own_count_for_limit_and_cost(job, provider):
    """For a model that nobody lists."""
    provider.account = account("openai", prices={"house-7b": {"input": 10, "output": 20}})
    provider.answer = answers(SHORT)

    with pytest.raises(UsageError, match=r"max_cost_usd=0\.01"):
        await job(["a"], model="openai:house-7b", max_cost_usd=0.01).run()
    manifest = await job(["b"], model="openai:house-7b", max_cost_usd=0.1).run()

    assert (manifest.cost.usd, manifest.cost.source) == (0.009, "own prices")


@pytest.mark.parametrize("option", ["prices", CONFIGURED])
async def test_prices_that_cannot_be_read_are_refused_before_anything_is_paid(job, provider, option):
    """Not after the rows were bought."""
    provider.account = account("openai", **{option: "{"})

    with pytest.raises(UsageError, match="prices is not valid JSON"):
        await job().run()

    assert not provider.batches


def account(name, **options):
    return Account(provider=name, api_key=SecretStr("k"), options=options)


def test_photos_fill_a_batch_by_their_pixels_and_not_by_their_bytes(tmp_path, photo):
    """Ten of a megabyte are some 16,000 tokens, so that 20,000 queued ones hold them."""
    block = {"type": "base64", "media_type": "image/jpeg", "data": photo("jpeg", 4000, 3000, 1_000_000)}
    rows = [{"messages": [{"role": "user", "content": [{"type": "image", "source": block}]}]} for _ in range(10)]
    provider = provider_class("anthropic")(account("anthropic"))
    spec = Spec(model="claude-haiku-4-5")
    limits = ChunkLimits(requests=100, bytes=10**9, tokens=20_000)
    writer = ChunkWriter(Directory(UPath(tmp_path)), provider, spec, limits, draft="d")

    (chunk,) = writer.write(plan_rows(rows, provider, spec))

    assert chunk.requests == 10
    assert 16_000 <= chunk.tokens < 17_000


def test_sound_and_text_fill_a_batch_together(tmp_path):
    """A row is as large as all it holds."""
    sound = base64.b64encode(b"ID3" + bytes(7_999_997)).decode()  # a thousand seconds at 64 kbit/s
    rows = [{"messages": [{"role": "user", "parts": [{"inlineData": {"mimeType": "audio/mp3", "data": sound}}]}]}, "q"]
    provider = provider_class("google")(account("google"))
    spec = Spec(model="gemini-2.5-flash")
    limits = ChunkLimits(requests=100, bytes=10**9, tokens=32_060)
    writer = ChunkWriter(Directory(UPath(tmp_path)), provider, spec, limits, draft="d")

    chunks = writer.write(plan_rows(rows, provider, spec))

    assert [chunk.requests for chunk in chunks] == [1, 1]
