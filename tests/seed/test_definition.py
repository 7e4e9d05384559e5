"""Rows 1 to 22: what a stage is, and what it is given."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from driving import KEY, MODELS
from guide_stages import BatchEmbeddings, BatchProcess, EmbedConfig, ForgetfulProcess, ProcessConfig, ResumedProcess
from pydantic import ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Usage
from airflow_batch_provider.pricing import cost
from airflow_batch_provider.providers import PROVIDERS
from airflow_batch_provider.stages import AsyncBatchStage, Suspended

EXTRACTION = {"items": ["a kettle", "a lamp"], "sections": ["Kettles boil water.", "Lamps give light.", "Chairs hold."]}


async def test_row_01_work_goes_to_the_batch_apis_of_three_providers(driver, provider_name):
    """Submit work to external batch APIs: Anthropic, Google, OpenAI."""
    assert set(PROVIDERS) == {"anthropic", "openai", "google"}
    driver.outputs["data-extraction"] = EXTRACTION
    done = await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))
    assert [item.success for item in done.output.items] == [True, True]
    assert [(job["provider"], job["requests"]) for job in driver.jobs] == [(provider_name, 2)]


def test_row_04_a_batch_costs_half():
    """Achieve 50 % cost savings."""
    tokens = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    for provider, model in [
        ("anthropic", "claude-sonnet-4-20250514"),
        ("google", "gemini-2.5-flash"),
        ("openai", "gpt-4o"),
    ]:
        price = cost(provider, model, tokens)
        assert price.usd
        assert price.usd == pytest.approx(price.saved_usd)


def test_row_05_a_stage_is_a_typed_class_with_three_methods():
    """`defineAsyncBatchStage({...})`, type-checked: here a generic class of config and output."""
    assert issubclass(BatchProcess, AsyncBatchStage)
    assert AsyncBatchStage.__parameters__[0].__name__ == "ConfigT"
    assert AsyncBatchStage.__parameters__[1].__name__ == "OutputT"
    for method in ("execute", "check_completion", "cancel"):
        assert callable(getattr(AsyncBatchStage, method))


async def test_row_06_the_id_is_given_to_both_contexts(driver):
    """`id`: unique stage id; also the log key."""
    assert BatchProcess.id == "batch-process"
    stage = BatchProcess()
    assert driver.context(stage).stage_id == driver.check_context(stage).stage_id == "batch-process"


def test_row_07_a_stage_has_a_name_for_people():
    """`name`: human label, with an optional description."""
    assert BatchProcess.name == "Batch Process"
    assert BatchProcess.description == "Asks once per extracted item."
    assert BatchEmbeddings.description == ""


def test_row_08_every_stage_carries_the_mode_marker():
    """`mode: "async-batch"` is required; nobody has to write it."""
    assert BatchProcess.mode == AsyncBatchStage.mode == "async-batch"


async def test_row_09_a_stage_without_input_schema_takes_all_from_earlier_tasks(driver):
    """`schemas.input` may be "none": here None, and the input comes by `require`."""
    assert BatchEmbeddings.input_schema is None
    driver.outputs["data-extraction"] = EXTRACTION
    done = await driver.run(BatchEmbeddings, EmbedConfig(model="text-embedding-3-small"))
    assert len(done.output.embeddings) == 3


def test_row_10_the_output_schema_refuses_what_does_not_fit():
    """`schemas.output` validates the stage's output (see row 36 for the whole way)."""
    with pytest.raises(ValidationError, match="items"):
        BatchProcess.output_schema.model_validate({"rows": []})


def test_row_11_the_config_schema_has_defaults():
    """`schemas.config` with `.default()`; a wrong config is refused and never used raw."""
    assert EmbedConfig() == EmbedConfig(model="text-embedding-004", batch_size=100)
    with pytest.raises(ValidationError, match="batch_size"):
        EmbedConfig.model_validate({"batch_size": "many"})


async def test_row_13_execute_runs_at_the_start_and_at_the_resume(driver):
    """`execute(ctx)` is called when the stage starts or resumes."""
    driver.outputs["data-extraction"] = EXTRACTION
    done = await driver.run(ResumedProcess, ProcessConfig())
    assert len(done.suspensions) == 1
    assert done.output.items[0].result.startswith("echo: ")
    assert driver.calls["anthropic.create"] == 1


async def test_row_14_the_resumed_stage_gets_the_state_it_was_suspended_with(driver):
    """`ctx.resumeState` is truthy on resume only, and equals the stored state."""
    stage = ResumedProcess()
    driver.outputs["data-extraction"] = EXTRACTION
    first = driver.context(stage, ProcessConfig())
    assert first.resume_state is None
    suspended = await stage.execute(first)
    assert isinstance(suspended, Suspended)
    stored = Suspended.model_validate_json(suspended.model_dump_json())
    resumed = driver.context(stage, ProcessConfig(), resume_state=stored.state)
    assert resumed.resume_state == suspended.state


async def test_row_15_a_resume_returns_the_cache_and_fails_without_one(driver):
    """Resume path returns cached output; if none, `Resume called but no cached results found`."""
    driver.outputs["data-extraction"] = EXTRACTION
    with pytest.raises(RuntimeError, match="Resume called but no cached results found"):
        await driver.run(ForgetfulProcess, ProcessConfig())


async def test_row_16_a_missing_earlier_output_is_named_with_those_there_are(driver):
    """`ctx.require(stageId)` gives an earlier output and throws when missing; `ctx.optional` gives nothing."""
    driver.outputs["here"] = 1
    ctx = driver.context(BatchProcess())
    assert ctx.require("here") == ctx.optional("here") == 1
    assert ctx.optional("there") is None
    with pytest.raises(UsageError, match=r"Missing required stage output: 'there'\. Available stages: here"):
        ctx.require("there")


async def test_row_17_artifacts_are_kept_by_task_instance_and_key(driver):
    """`ctx.storage.save/load` and `exists/delete/getStageKey`, apart for each run and stage."""
    storage = driver.context(BatchProcess()).storage
    where = await storage.save("batch-result", {"n": 1, "text": "snow ☃"})
    assert where.endswith("/dag/run/task/artifacts/batch-result.json")
    assert storage.get_stage_key("batch-result") == "artifacts/batch-result.json"
    assert await storage.load("batch-result") == {"n": 1, "text": "snow ☃"}
    assert await storage.exists("batch-result")
    await storage.delete("batch-result")
    assert not await storage.exists("batch-result")
    assert await storage.load("batch-result") is None


async def test_row_18_the_run_id_is_known_and_names_the_batch(driver):
    """`ctx.workflowRunId`, used as the AI topic: here our label at the provider."""
    assert driver.context(BatchProcess()).run_id == "run"
    await driver.client("openai:gpt-4o").submit(["one"])
    assert driver.jobs[0]["metadata"]["label"] == "dag/run/task"


async def test_row_19_the_parsed_config_is_in_both_contexts(driver):
    """`ctx.config.model`, parsed."""
    config = ProcessConfig(model="gpt-4o")
    assert driver.context(BatchProcess(), config).config.model == "gpt-4o"
    assert driver.check_context(BatchProcess(), config).config.model == "gpt-4o"


@pytest.mark.parametrize(("level", "number"), [("DEBUG", 10), ("INFO", 20), ("WARN", 30), ("ERROR", 40)])
async def test_row_20_log_takes_a_level_a_message_and_metadata_on_both_sides(driver, caplog, level, number):
    """`await ctx.log(level, message, meta)`; the check's logger drops no metadata and no text is a format."""
    caplog.set_level(logging.DEBUG, "task")
    for ctx in (driver.context(BatchProcess()), driver.check_context(BatchProcess())):
        await ctx.log(level, "100 %d failed", failed_ids=["a"])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (number, "100 %d failed failed_ids=['a']")
    ] * 2


async def test_row_21_on_log_is_log(driver, caplog):
    """`ctx.onLog` is an alias of `log`."""
    caplog.set_level(logging.INFO, "task")
    await driver.check_context(BatchProcess()).on_log("INFO", "seen", n=1)
    assert caplog.messages == ["seen n=1"]


async def test_row_22_the_context_names_the_record_and_shows_progress(driver):
    """`ctx.stageId`, `ctx.stageRecordId` and `onProgress {progress, message, details}`."""
    ctx = driver.check_context(BatchProcess())
    assert (ctx.stage_id, ctx.stage_record_id) == ("batch-process", "dag/run/task")
    await ctx.progress(40, "Two of five", done=2)
    assert driver.shown == [{"progress": 40, "message": "Two of five", "done": 2}]
    assert KEY not in repr(ctx)
    assert ctx.now() - driver.now() == timedelta(0)
