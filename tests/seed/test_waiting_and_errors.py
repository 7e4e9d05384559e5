"""Rows 56 to 65: presets, timeouts, partial failures, passing faults, and what is kept in storage."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from driving import MODELS
from guide_stages import BatchEmbeddings, BatchProcess, ProcessConfig, ResumedProcess

from airflow_batch_provider.exceptions import Overdue, RowsFailed, StageFailed, UsageError
from airflow_batch_provider.stages import AsyncBatchStage, PollConfig
from airflow_batch_provider.stages.generate import GenerateStage
from airflow_batch_provider.stages.values import PRESETS

RETRIEVE = {"anthropic": "anthropic.retrieve", "openai": "openai.batches.retrieve", "google": "google.get"}
CANCEL = {"anthropic": "anthropic.cancel", "openai": "openai.batches.cancel", "google": "google.cancel"}
CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}


@pytest.fixture
def items(driver):
    """Sets the items that an earlier task extracted."""

    def give(*prompts):
        driver.outputs["data-extraction"] = {"items": list(prompts)}

    give("a kettle", "a lamp")
    return give


def milliseconds(poll: PollConfig) -> tuple[float, float, float]:
    first = poll.interval if poll.first_poll is None else poll.first_poll
    return tuple(time / timedelta(milliseconds=1) for time in (poll.interval, poll.max_wait, first))


def test_row_56_the_quick_preset():
    """Jobs under 10 minutes: 15 000 ms, at most 600 000 ms, first poll after 15 s."""
    assert milliseconds(PRESETS["quick"]) == (15_000, 600_000, 15_000)


def test_row_57_the_medium_preset():
    """Jobs of 10 minutes to an hour: 60 000 / 3 600 000 / +60 s."""
    assert milliseconds(PRESETS["medium"]) == (60_000, 3_600_000, 60_000)


def test_row_58_the_long_preset():
    """Jobs of an hour and more: 300 000 / 86 400 000 / +300 s."""
    assert milliseconds(PRESETS["long"]) == (300_000, 86_400_000, 300_000)


def test_row_58_a_preset_is_chosen_by_name():
    """An unknown name is told the known ones."""
    assert PollConfig.of("quick") is PRESETS["quick"]
    with pytest.raises(UsageError, match=r"'slow' is not a preset\. Use one of quick, medium, long"):
        PollConfig.of("slow")


def test_row_59_the_main_example_polls_each_minute_for_an_hour():
    """60 000 / 3 600 000."""
    assert milliseconds(BatchProcess.poll) == (60_000, 3_600_000, 60_000)


async def test_row_60_the_embedding_example_polls_each_half_minute(driver):
    """30 000 / 1 800 000, `nextCheckIn: 30000`."""
    from guide_stages import EmbedConfig

    assert milliseconds(BatchEmbeddings.poll) == (30_000, 1_800_000, 30_000)
    driver.outputs["data-extraction"] = {"sections": ["one"]}
    done = await driver.run(BatchEmbeddings, EmbedConfig(model="text-embedding-3-small"))
    assert [check.next_check_in for check in done.checks[:-1]] == [timedelta(seconds=30)] * 2


async def test_row_61_a_stage_that_is_overdue_cancels_its_batch_and_fails(driver, items, provider_name):
    """Cancel the batch "if possible", then `Batch timeout after ${elapsed}`, counted from the submission."""
    driver.fault(CREATE[provider_name], "stuck")
    with pytest.raises(Overdue, match=r"Batch timeout after 3600 s: the stage's own cancel was called"):
        await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))
    assert driver.calls[CANCEL[provider_name]] == 1


async def test_row_61_a_stage_without_a_cancel_cancels_what_its_client_bought(driver, items, provider_name):
    """The guide has no `cancel`: the client knows what it bought, and a retry lands it and buys the rest."""

    class Unable(BatchProcess):
        cancel = AsyncBatchStage.cancel

    driver.fault(CREATE[provider_name], "stuck")
    with pytest.raises(Overdue, match=r"Batch timeout after 3600 s: '.+' was cancelled\."):
        await driver.run(Unable, ProcessConfig(model=MODELS[provider_name]))
    assert driver.calls[CANCEL[provider_name]] == 1


async def test_row_62_failed_requests_are_told_apart_and_the_good_ones_kept(driver, items, caplog, provider_name):
    """Split by status, WARN with the failed ids, succeed with the successes."""
    caplog.set_level(logging.WARNING, "task")
    items("a kettle", "[[emulate:error=invalid_request]]", "a lamp")
    done = await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))
    assert [item.success for item in done.output.items] == [True, False, True]
    assert done.output.items[1].error
    assert "1 requests failed failed_ids=['item-1']" in caplog.messages


async def test_row_62_all_failed_is_an_error(driver, items, provider_name):
    """`All batch requests failed`."""
    items("[[emulate:error=invalid_request]]")
    with pytest.raises(StageFailed, match="All batch requests failed"):
        await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))


async def test_row_62_the_built_in_stage_does_the_same(driver, caplog, provider_name):
    """Some failed: a warning with reasons and keys, and a manifest; all failed: `All batch requests failed`."""
    caplog.set_level(logging.WARNING, "task")
    refused = {"custom_id": "my bad one", "prompt": "[[emulate:error=invalid_request]]"}
    done = await driver.run(GenerateStage, driver.config(provider_name), ["good", refused])
    assert (done.output.counts["succeeded"], done.output.counts["failed"]) == (1, 1)
    assert "'my bad one'" in caplog.text
    driver.key = type(driver.key)("dag", "run", "other")
    with pytest.raises(RowsFailed, match="All batch requests failed"):
        await driver.run(GenerateStage, driver.config(provider_name), [refused])


@pytest.mark.parametrize(
    "fault", [{"kind": "cut"}, {"kind": "status", "status": 503}, {"kind": "status", "status": 429}]
)
async def test_row_63_a_passing_fault_is_waited_out_with_a_warning(driver, items, caplog, provider_name, fault):
    """`isTransientError` → WARN + `nextCheckIn: 30000`; anything else is the stage's error."""
    caplog.set_level(logging.WARNING, "task")
    fields = dict(fault)
    driver.fault(RETRIEVE[provider_name], fields.pop("kind"), **fields)
    done = await driver.run(BatchProcess, ProcessConfig(model=MODELS[provider_name]))
    assert done.checks[0].next_check_in == timedelta(seconds=30)
    assert all(item.success for item in done.output.items)
    assert "Transient error checking batch" in caplog.text


async def test_row_64_results_are_cached_in_the_check_and_loaded_in_the_resume(driver, items):
    """Save in check, load in resume."""
    done = await driver.run(ResumedProcess, ProcessConfig())
    assert done.checks[-1].output is None
    assert [item.id for item in done.output.items] == ["item-0", "item-1"]


async def test_row_65_metadata_is_saved_at_submit_and_loaded_in_the_check(driver, items):
    """`batch-metadata {requestCount, requestIds, customData}`."""
    await BatchProcess().execute(driver.context(BatchProcess(), ProcessConfig()))
    loaded = await driver.check_context(BatchProcess()).storage.load("batch-metadata")
    assert loaded == {"request_count": 2, "request_ids": ["item-0", "item-1"]}


async def test_row_65_what_is_not_a_json_is_refused_and_no_key_leaves_its_directory(driver):
    """A value that could not be loaded again, and a key that is a path, are errors of the stage."""
    storage = driver.storage
    with pytest.raises(UsageError, match="'custom' is not JSON"):
        await storage.save("custom", object())
    for key in ("../escape", "a/b", "", ".hidden", "a" * 129, "ü"):
        with pytest.raises(UsageError, match="is not usable"):
            await storage.save(key, 1)
    assert not [path for path in driver.root.rglob("*") if path.is_file()]
