"""Rows 23 to 43: what a stage suspends with, and what a poll at its batch may say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from driving import KEY, MODELS
from guide_stages import (
    BatchEmbeddings,
    BatchProcess,
    EmbedConfig,
    ImpatientProcess,
    Items,
    ProcessConfig,
    ResumedProcess,
)

from airflow_batch_provider.exceptions import StageFailed, UsageError
from airflow_batch_provider.stages import CompletionCheck, PollConfig, Suspended, SuspendedState

EXTRACTION = {"items": ["a kettle", "a lamp"], "sections": ["Kettles boil water.", "Lamps give light.", "Chairs hold."]}


@pytest.fixture
def extraction(driver):
    driver.outputs["data-extraction"] = EXTRACTION
    return EXTRACTION


async def suspended(driver, **config) -> Suspended:
    return await BatchProcess().execute(driver.context(BatchProcess(), ProcessConfig(**config)))


async def poll(driver, of: Suspended, stage=BatchProcess) -> CompletionCheck:
    return await stage().check_completion(of.state, driver.check_context(stage(), ProcessConfig()))


async def test_row_23_a_suspension_is_marked(driver, extraction):
    """`suspended: true`, required marker: here the type, which carries it."""
    assert (await suspended(driver)).suspended is True


async def test_row_24_the_state_holds_the_batch_id(driver, extraction):
    """`state.batchId`: external id, required and never empty."""
    assert (await suspended(driver)).state.batch_id == driver.jobs[0]["id"]
    with pytest.raises(UsageError, match="batch_id"):
        SuspendedState(batch_id="", submitted_at=driver.now())


async def test_row_25_the_state_holds_when_it_was_submitted(driver, extraction):
    """`state.submittedAt`: an ISO time in the stored state, base of the timeout clock; never a time without zone."""
    state = (await suspended(driver)).state
    stored = json.loads(state.model_dump_json())["submitted_at"]
    assert datetime.fromisoformat(stored) == driver.now()
    with pytest.raises(UsageError, match="timezone"):
        SuspendedState(batch_id="b", submitted_at=datetime.fromisoformat("2026-01-01T00:00:00"))


async def test_row_26_poll_interval_paces_every_poll(driver, extraction):
    """`state.pollInterval`: also when the check names no time of its own, which the guide's engine forgot."""

    class Plain(BatchProcess):
        async def check_completion(self, state, ctx):
            check = await super().check_completion(state, ctx)
            return CompletionCheck.not_ready() if check.next_check_in else check

    done = await driver.run(Plain, ProcessConfig())
    assert len(done.checks) == 3
    assert done.waited == 3 * timedelta(minutes=1)


async def test_row_27_max_wait_is_counted_from_the_submission(driver, extraction):
    """`state.maxWaitTime` is enforced (see row 61 for what happens then), and no wait is endless."""
    poll = (await suspended(driver)).poll
    assert poll.max_wait == timedelta(hours=1)
    for wrong in (timedelta(0), timedelta(days=15)):
        with pytest.raises(UsageError, match="max_wait"):
            PollConfig(interval=timedelta(minutes=1), max_wait=wrong)


async def test_row_28_metadata_is_free_and_comes_back_as_it_was(driver, extraction):
    """`state.metadata`: optional record, e.g. `provider`, `requestCount`, `customIds`."""
    state = (await suspended(driver)).state
    assert SuspendedState.model_validate_json(state.model_dump_json()).metadata == {
        "provider": "anthropic",
        "request_count": 2,
        "custom_ids": ["item-0", "item-1"],
    }
    assert SuspendedState(batch_id="b", submitted_at=driver.now()).metadata == {}


async def test_row_29_no_key_is_in_the_state_nor_in_storage(driver, extraction):
    """`state.apiKey` lay in a database in plain text: here there is no such field, and no file holds the key."""
    with pytest.raises(UsageError, match="api_key"):
        SuspendedState(batch_id="b", submitted_at=driver.now(), api_key="sk")
    done = await driver.run(BatchProcess, ProcessConfig())
    assert KEY not in done.suspensions[0].model_dump_json()
    files = [path.read_bytes() for path in driver.root.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in data for data in files)


async def test_row_30_interval_and_max_wait_are_said_once(driver, extraction):
    """`pollConfig.pollInterval / maxWaitTime` stood beside the state's: here only in the poll."""
    stored = json.loads((await suspended(driver)).model_dump_json())
    assert stored["poll"] == {"interval": 60.0, "max_wait": 3600.0, "first_poll": 60.0}
    assert set(stored["state"]) == {"batch_id", "submitted_at", "metadata"}
    assert PollConfig.model_validate(stored["poll"]) == BatchProcess.poll


async def test_row_31_the_first_poll_has_a_time_of_its_own(driver, extraction):
    """`pollConfig.nextPollAt`: the first poll, honoured; the interval by default."""

    class Early(BatchProcess):
        poll = PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=1), first_poll=timedelta(seconds=7))

    driver.server.emulator.change({"progress": {"pending": 0, "running": 0}})
    started = driver.now()
    done = await driver.run(Early, ProcessConfig())
    assert (len(done.checks), driver.now() - started) == (1, timedelta(seconds=7))
    assert PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=1)).first_poll is None


async def test_row_32_a_suspension_carries_metrics(driver, extraction):
    """`customMetrics`: optional numbers, kept with the suspension."""
    assert (await suspended(driver)).metrics == {"requests": 2}
    assert Suspended(state=SuspendedState(batch_id="b", submitted_at=driver.now())).metrics == {}


async def test_row_34_the_check_is_given_all_but_the_input(driver):
    """Context: run, stage, record, config, log, onLog, storage; it never sees rows."""
    ctx = driver.check_context(BatchProcess(), ProcessConfig())
    assert (ctx.run_id, ctx.stage_id, ctx.stage_record_id) == ("run", "batch-process", "dag/run/task")
    assert ctx.config == ProcessConfig()
    for name in ("log", "on_log", "batch", "progress"):
        assert callable(getattr(ctx, name))
    assert await ctx.storage.load("nothing") is None
    assert not hasattr(ctx, "input")


async def test_row_35_a_check_says_whether_the_batch_is_done(driver, extraction):
    """`ready: boolean`."""
    waiting = await suspended(driver)
    assert [(await poll(driver, waiting)).is_ready for _ in range(3)] == [False, False, True]


async def test_row_36_a_ready_check_carries_the_output(driver, extraction):
    """`output?`: becomes the stage's output as it is."""
    done = await driver.run(BatchProcess, ProcessConfig())
    assert isinstance(done.output, Items)
    assert [item.model_dump() for item in done.output.items] == [
        {"id": f"item-{n}", "result": f"echo: Process this item: {item}", "success": True, "error": None}
        for n, item in enumerate(EXTRACTION["items"])
    ]


async def test_row_37_a_ready_check_carries_metrics(driver, extraction):
    """`metrics?`: inputTokens, outputTokens, itemsProcessed, successCount."""
    metrics = (await driver.run(BatchProcess, ProcessConfig())).metrics
    assert (metrics["items_processed"], metrics["success_count"]) == (2, 2)
    assert metrics["input_tokens"] > 0
    assert metrics["output_tokens"] > 0


async def test_row_38_a_ready_check_carries_a_summary_of_embeddings(driver, extraction):
    """`embeddings?: unknown`: model, dimensions, totalProcessed."""
    done = await driver.run(BatchEmbeddings, EmbedConfig(model="text-embedding-3-small"))
    assert done.checks[-1].embeddings == {"model": "text-embedding-3-small", "dimensions": 8, "total_processed": 3}


async def test_row_41_each_status_has_its_answer(driver, extraction):
    """`pending`/`processing` → not ready; `failed` → error; `completed` → results."""
    waiting = await suspended(driver, model="gpt-4o")
    ctx = driver.check_context(BatchProcess(), ProcessConfig(model="gpt-4o"))
    client = ctx.batch("gpt-4o")
    for word in ("pending", "processing", "completed"):
        check = await BatchProcess().check_completion(waiting.state, ctx)
        assert check.is_ready is (word == "completed")
    assert (await client.get_status(waiting.state.batch_id)).status == "completed"

    driver.outputs["data-extraction"] = {"items": ["another"]}
    driver.fault("openai.batches.create", "fail", code="invalid_json_line", message="Line 1 is not valid JSON.")
    with pytest.raises(StageFailed, match=r"Batch batch_\w+ failed"):
        await driver.run(BatchProcess, ProcessConfig(model="gpt-4o"))


@pytest.mark.parametrize("stage", [BatchProcess, ResumedProcess])
async def test_row_43_results_are_cached_before_they_are_returned(driver, extraction, stage, provider_name):
    """Save first, so that a resume is free: the results are downloaded once."""
    done = await driver.run(stage, ProcessConfig(model=MODELS[provider_name]))
    cached = await driver.storage.load("batch-result")
    assert Items.model_validate(cached) == done.output
    downloads = {"anthropic": "anthropic.results", "openai": "openai.files.content", "google": "google.download"}
    assert driver.calls[downloads[provider_name]] <= 1


async def test_row_40_the_check_may_name_the_time_of_the_next_poll(driver, extraction):
    """`nextCheckIn?` overrides the next poll (row 40 of the orchestrator: see test_orchestrator.py)."""
    done = await driver.run(ImpatientProcess, ProcessConfig())
    assert done.waited == timedelta(seconds=60 + 2 + 2)
    assert CompletionCheck.not_ready().next_check_in is None


def test_times_are_never_milliseconds():
    """A number that was meant as the guide's milliseconds is refused, not waited for."""
    with pytest.raises(UsageError, match="interval"):
        PollConfig(interval=300_000, max_wait=86_400_000)
    assert datetime.now(UTC).tzinfo is UTC
