"""The thirteen promises that the guide's own engine did not keep."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from driving import MODELS
from guide_stages import BatchProcess, EmbedConfig, ProcessConfig, ResumedEmbeddings
from pydantic import BaseModel

from airflow_batch_provider.exceptions import Overdue, RowsFailed
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.embed import EmbedStage
from airflow_batch_provider.stages.generate import GenerateStage

CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}
CANCEL = {"anthropic": "anthropic.cancel", "openai": "openai.batches.cancel", "google": "google.cancel"}
LIST = {"anthropic": "anthropic.list", "openai": "openai.batches.list", "google": "google.list"}


class Colour(BaseModel):
    red: int


def bodies(driver) -> list[dict]:
    """The request bodies of every wave, as they were sent."""
    files = sorted(driver.root.rglob("*.requests.jsonl"))
    return [json.loads(line)["body"] for file in files for line in file.read_bytes().splitlines()]


def statuses(manifest) -> list[str]:
    return [row.status for row in BatchResults(manifest)]


async def test_a2_01_the_longest_wait_is_enforced(driver, provider_name):
    """`maxWaitTime` was ignored: the built-in stage cancels, keeps what finished and says so."""
    driver.fault(CREATE[provider_name], "stuck")
    with pytest.raises(Overdue, match=r"Batch timeout after 3600 s .*0 of 2 rows have an answer.*a retry buys only"):
        await driver.run(GenerateStage, driver.config(provider_name, poll="medium"), ["one", "two"])
    assert driver.calls[CANCEL[provider_name]] == 1


async def test_a2_02_a_cancelled_batch_has_ended(driver, provider_name):
    """It was mapped to "pending" and polled for ever: here the rows that it left are asked again."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two"])
    await client.cancel(handle.id)
    status = await driver.ended(client, handle.id)
    assert status.status == "cancelled"
    assert {row.status for row in await client.get_results(handle.id)} <= {"cancelled", "failed"}


async def test_a2_02_a_batch_that_somebody_cancels_at_the_provider_is_asked_again(driver, provider_name):
    """The stage ends with every answer."""
    config = driver.config(provider_name)
    stage = GenerateStage()
    waiting = await stage.execute(driver.context(stage, config, input=["one", "two"]))
    await driver.client(MODELS[provider_name]).cancel(waiting.state.batch_id)
    done = await driver.run(GenerateStage, config, ["one", "two"])
    assert done.output.counts["succeeded"] == 2
    assert done.output.waves == 2


@pytest.mark.parametrize("provider_name", ["anthropic", "openai"])
async def test_a2_03_what_finished_before_a_batch_expired_is_kept(driver, provider_name):
    """OpenAI's `expired` became failed and the paid rows were dropped: here only the others are bought again."""
    driver.fault(CREATE[provider_name], "expire", fraction=0.5)
    done = await driver.run(GenerateStage, driver.config(provider_name), [f"text {n}" for n in range(6)])
    assert done.output.counts["succeeded"] == 6
    assert [job["requests"] for job in driver.jobs] == [6, 3]
    assert driver.server.books()["bought_twice"] == 0


async def test_a2_03_a_client_gets_what_finished_and_a_word_for_what_did_not(driver):
    """The rows that did not run are `expired`, not gone."""
    driver.fault("openai.batches.create", "expire", fraction=0.5)
    client = driver.client("gpt-4o")
    handle = await client.submit([f"text {n}" for n in range(4)])
    await driver.ended(client, handle.id)
    rows = await client.get_results(handle.id)
    assert sorted(row.status for row in rows) == ["expired", "expired", "succeeded", "succeeded"]


async def test_a2_04_the_error_file_is_read_and_each_rows_status_looked_at(driver):
    """OpenAI's `error_file_id` was never read: a refused row has its own code and message."""
    prompts = ["good", "[[emulate:error=invalid_request]]", "[[emulate:error=server]]"]
    done = await driver.run(GenerateStage, driver.config("openai", retry_rows=0), prompts)
    rows = list(BatchResults(done.output))
    assert [row.status for row in rows] == ["succeeded", "failed", "failed"]
    assert [row.error.retryable for row in rows[1:]] == [False, True]
    assert all(row.error.code and row.error.message for row in rows[1:])


@pytest.mark.parametrize("empty_ids", [False, True])
async def test_a2_05_a_completed_batch_without_an_output_file_has_ended(driver, empty_ids):
    """It was "processing" for ever: an all-failed batch fails the task, with the reason."""
    if empty_ids:
        driver.fault("openai.batches.retrieve", "empty_file_ids", times=None)
    with pytest.raises(RowsFailed, match="All batch requests failed: none of 2") as caught:
        await driver.run(
            GenerateStage, driver.config("openai", retry_rows=0), ["[[emulate:error=invalid_request]]"] * 2
        )
    assert sum(reason.count for reason in caught.value.digest.reasons) == 2


async def test_a2_06_an_expired_batch_has_ended(driver, provider_name):
    """Google's JOB_STATE_EXPIRED was "processing" for ever."""
    driver.fault(CREATE[provider_name], "expire", fraction=0.0)
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two"])
    assert (await driver.ended(client, handle.id)).status == "expired"
    assert [row.status for row in await client.get_results(handle.id)] == ["expired", "expired"]


async def test_a2_07_cancel_is_not_delete(driver):
    """Google's cancel deleted the job: here the job stays, and what finished is landed."""
    driver.server.emulator.change({"google_cancel_output": "partial"})
    client = driver.client(MODELS["google"])
    handle = await client.submit([f"text {n}" for n in range(4)])
    await client.get_status(handle.id)
    await client.cancel(handle.id)
    await driver.ended(client, handle.id)
    assert driver.calls["google.cancel"] == 1
    assert driver.calls["google.delete"] == 0
    assert len(await client.get_results(handle.id)) == 4


async def test_a2_08_the_schema_is_sent(driver, provider_name):
    """It never was: here it stands in the provider's own field, and the answer fits it."""
    done = await driver.run(GenerateStage, driver.config(provider_name, output_type=Colour), ["paint"])
    (body,) = bodies(driver)
    sent = {
        "anthropic": lambda: body["output_config"]["format"]["schema"],
        "openai": lambda: body["response_format"]["json_schema"]["schema"],
        "google": lambda: body["generationConfig"]["responseSchema"],
    }[provider_name]()
    assert "red" in sent["properties"]
    (row,) = BatchResults(done.output, Colour)
    assert isinstance(row.output, Colour)


async def test_a2_08_each_row_of_the_built_in_stage_may_have_its_own_schema(driver, provider_name):
    """The row's schema wins over the task's, and its answer is checked by it."""
    rows = [
        "plain",
        {"prompt": "paint", "output_type": Colour},
        {"prompt": "x [[emulate:bad_schema]]", "output_type": Colour},
    ]
    done = await driver.run(GenerateStage, driver.config(provider_name, retry_rows=0), rows)
    plain, paint, wrong = BatchResults(done.output)
    assert plain.output == "echo: plain"
    assert Colour.model_validate(paint.output)
    assert wrong.status == "invalid"


async def test_a2_09_parameters_are_parameters(driver):
    """Google's temperature and max tokens were written into the prompt: here they stand in `generationConfig`."""
    config = driver.config("google", max_tokens=77, request_params={"temperature": 0.5})
    await driver.run(GenerateStage, config, ["one"])
    (body,) = bodies(driver)
    assert body["contents"] == [{"role": "user", "parts": [{"text": "one"}]}]
    assert (body["generationConfig"]["maxOutputTokens"], body["generationConfig"]["temperature"]) == (77, 0.5)


@pytest.mark.parametrize("model", ["gemini-embedding-001", "text-embedding-3-small"])
async def test_a2_10_embeddings_are_asked_of_the_embedding_api(driver, model):
    """The example went to generateContent and could not work."""
    provider = "openai" if model.startswith("text-") else "google"
    config = driver.config(provider, model=model, kind="embed")
    done = await driver.run(EmbedStage, config, ["one", "two"])
    vectors = [row.output for row in BatchResults(done.output)]
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    assert driver.calls["google.create"] == 0
    if provider == "google":
        assert driver.calls["google.embed"] == 1
    else:
        assert driver.jobs[0]["provider"] == "openai"


async def test_a2_11_requests_are_cut_to_the_limits(driver, provider_name):
    """There was no chunking: every batch keeps the provider's limits, and every row has one result, in order."""
    driver.options["max_requests"] = 2
    done = await driver.run(GenerateStage, driver.config(provider_name), [f"text {n}" for n in range(5)])
    assert sorted(job["requests"] for job in driver.jobs) == [1, 2, 2]
    assert [row.output for row in BatchResults(done.output)] == [f"echo: text {n}" for n in range(5)]


async def test_a2_11_only_rows_without_a_good_answer_are_asked_again(driver, provider_name):
    """There was no retry of items: a passing fault of one row buys that row again, and no other."""
    prompts = ["one", "two [[emulate:error=overloaded,times=1]]", "three"]
    done = await driver.run(GenerateStage, driver.config(provider_name), prompts)
    assert [job["requests"] for job in driver.jobs] == [3, 1]
    assert statuses(done.output) == ["succeeded"] * 3
    assert [row.wave for row in BatchResults(done.output)] == [0, 1, 0]


async def test_a2_11_what_is_overdue_is_cancelled(driver, provider_name):
    """There was no auto-cancel: see also row 61."""
    driver.outputs["data-extraction"] = {"items": ["one"]}
    driver.fault(CREATE[provider_name], "stuck")
    with pytest.raises(Overdue):
        await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))
    assert driver.jobs[0]["executed"] == 0
    assert driver.calls[CANCEL[provider_name]] == 1


async def test_a2_12_polls_do_not_queue_behind_each_other(driver, provider_name):
    """Stages were polled one after the other: here polls of the same moment at one connection share one call."""
    client = driver.client(MODELS[provider_name], stored=False)
    handles = [await client.submit([f"text {n}"]) for n in range(12)]
    before = Counter(driver.calls)
    seen = await asyncio.gather(*(client.get_status(handle.id) for handle in handles))
    assert [status.batch_id for status in seen] == [handle.id for handle in handles]
    assert driver.calls - before == {LIST[provider_name]: 1}


async def test_a2_13_a_cached_resume_keeps_the_tokens(driver):
    """It returned 0: the cache holds the whole output."""
    driver.outputs["data-extraction"] = {"sections": ["one", "two"]}
    done = await driver.run(ResumedEmbeddings, EmbedConfig(model="text-embedding-3-small"))
    assert done.checks[-1].output is None
    assert done.output.total_tokens > 0
