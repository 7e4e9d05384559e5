"""Rows 66 and 67: the guide's embedding stage, and its batch size made real."""

from __future__ import annotations

import pytest
from guide_stages import BatchEmbeddings, EmbedConfig, ResumedEmbeddings

from airflow_batch_provider.exceptions import Denied, UsageError
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.embed import EmbedStage

EMBEDDERS = ["text-embedding-004", "gemini-embedding-001", "text-embedding-3-small"]


@pytest.fixture
def sections(driver):
    """Sets the sections that an earlier task extracted."""

    def give(*texts):
        driver.outputs["data-extraction"] = {"sections": list(texts)}

    return give


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_row_66_every_section_becomes_a_vector(driver, sections, model):
    """Input "none", output `{embeddings: [{id, vector}], totalTokens}`, ids `section-{i}`, metrics of both."""
    sections("one", "two", "three")
    done = await driver.run(BatchEmbeddings, EmbedConfig(model=model))
    assert [row.id for row in done.output.embeddings] == ["section-0", "section-1", "section-2"]
    assert len({tuple(row.vector) for row in done.output.embeddings}) == 3
    assert done.metrics == {"embeddings_generated": 3, "total_tokens": done.output.total_tokens}
    assert done.output.total_tokens > 0


@pytest.mark.parametrize("model", EMBEDDERS[1:])
async def test_row_66_failed_rows_are_left_out(driver, sections, model):
    """The others keep their ids."""
    sections("one", "two [[emulate:error=invalid_request]]", "three")
    done = await driver.run(BatchEmbeddings, EmbedConfig(model=model))
    assert [row.id for row in done.output.embeddings] == ["section-0", "section-2"]


async def test_row_66_the_defaults_are_the_guides():
    """Config `{model: "text-embedding-004", batchSize: 100}`; no input schema."""
    assert EmbedConfig() == EmbedConfig(model="text-embedding-004", batch_size=100)
    assert BatchEmbeddings.input_schema is None


async def test_row_66_anthropic_has_no_embeddings_and_says_so_before_it_is_paid(driver):
    """The message names where there are some."""
    with pytest.raises(UsageError, match="OpenAI or Gemini"):
        await driver.client("anthropic:any-embedding").submit(["one"])
    assert driver.jobs == []


@pytest.mark.parametrize("model", EMBEDDERS[1:])
async def test_row_66_the_built_in_stage_embeds_too(driver, model):
    """One vector per request in the results, in the order asked."""
    provider = "openai" if model.startswith("text-embedding-3") else "google"
    config = driver.config(provider, model=model, kind="embed")
    done = await driver.run(EmbedStage, config, [{"custom_id": key, "prompt": key} for key in ("b", "a")])
    rows = list(BatchResults(done.output))
    assert [row.custom_id for row in rows] == ["b", "a"]
    assert all(len(row.output) == 8 for row in rows)


@pytest.mark.parametrize("model", EMBEDDERS[1:])
async def test_row_67_batch_size_cuts_the_requests_into_batches(driver, sections, model):
    """`batchSize`: no code used it; here it is the most requests in one batch, and all are waited for."""
    sections(*(f"text {n}" for n in range(5)))
    done = await driver.run(BatchEmbeddings, EmbedConfig(model=model, batch_size=2))
    assert sorted(job["requests"] for job in driver.jobs) == [1, 2, 2]
    assert [row.id for row in done.output.embeddings] == [f"section-{n}" for n in range(5)]


async def test_row_67_a_retry_buys_only_the_batches_that_it_lacks(driver, sections):
    """Killed between two batches, the next process goes on with the third."""
    client = driver.client("text-embedding-3-small")
    driver.fault("openai.batches.create", "status", status=401, after=2)
    requests = [f"text {n}" for n in range(5)]
    with pytest.raises(Denied):
        await client.submit(requests, batch_size=2)
    handle = await driver.client("text-embedding-3-small").submit(requests, batch_size=2)
    assert sorted(handle.batch_ids) == sorted(job["id"] for job in driver.jobs)
    assert sorted(job["requests"] for job in driver.jobs) == [1, 2, 2]


async def test_row_67_a_batch_size_below_one_is_refused(driver):
    """Nothing is paid."""
    for size in (0, -1):
        with pytest.raises(UsageError, match="batch_size"):
            await driver.client("text-embedding-3-small").submit(["one"], batch_size=size)
    assert driver.jobs == []


async def test_row_66_the_cached_resume_keeps_the_vectors(driver, sections):
    """A resume takes everything from the cache (its tokens too: A.2 row 13)."""
    sections("one", "two")
    done = await driver.run(ResumedEmbeddings, EmbedConfig(model="text-embedding-3-small"))
    assert [row.id for row in done.output.embeddings] == ["section-0", "section-1"]
