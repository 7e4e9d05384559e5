"""Before anything is paid: requests are cut, priced and refused."""

from __future__ import annotations

import json
import sys

import pytest

from airflow_batch_provider.exceptions import (
    Unavailable,
    UsageError,
)
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory


async def test_requests_are_cut_into_as_many_batches_as_the_limit_asks_for(job, provider):
    """Seven rows at two a batch are four batches."""
    provider.max_requests = 2

    manifest = await job([f"q{n}" for n in range(7)]).run()

    assert [len(batch.keys) for batch in provider.batches.values()] == [2, 2, 2, 1]
    assert len(manifest.batches) == 4


async def test_requests_are_cut_by_bytes(job, provider):
    """A batch never grows over the provider's size."""
    provider.max_bytes = 400

    prompts = [letter * 100 for letter in "abcdef"]

    await job(prompts).run()

    assert len(provider.batches) > 1
    assert provider.bought == dict.fromkeys(prompts, 1)


async def test_no_more_batches_are_at_the_provider_than_allowed(job, provider):
    """A place is filled when a batch has ended, and the worker is woken for it."""
    provider.max_requests = 1
    task = job(["a", "b", "c"], max_in_flight=2)

    suspended = await task.start()

    assert len(provider.batches) == 2
    assert suspended.state.metadata["queued"] == 1
    provider.batches["batch-0"].status = "completed"
    assert (await task.check(suspended)).is_ready
    assert isinstance(await task.resume(suspended), Suspended)
    assert len(provider.batches) == 3


async def test_no_more_tokens_are_at_the_provider_than_allowed(job, provider):
    """Parts are cut to the token budget and wait for it."""
    task = job(["x" * 400, "y" * 400, "z" * 400], max_enqueued_tokens=150)

    await task.start()

    assert len(provider.batches) == 1
    assert (await task.run()).counts["succeeded"] == 3
    assert set(provider.bought.values()) == {1}


@pytest.mark.parametrize(
    ("fault", "error"),
    [(OSError(28, "No space left"), Unavailable), (TimeoutError(), Unavailable), (PermissionError("no"), UsageError)],
)
async def test_a_storage_that_is_away_is_tried_again_and_one_that_is_wrong_is_not(
    job, provider, monkeypatch, fault, error
):
    """Before anything is paid."""

    def write(self, name, data):
        raise fault

    monkeypatch.setattr(Directory, "write", write)
    with pytest.raises(error, match="cannot be written"):
        await job().start()

    assert not provider.batches


async def test_a_budget_is_checked_before_anything_is_paid(job, provider):
    """The estimate is an upper bound: all input and the longest possible output."""
    with pytest.raises(UsageError, match=r"max_cost_usd=0\.000001"):
        await job(model="openai:gpt-5-mini", max_cost_usd=0.000001).run()

    assert not provider.batches


async def test_a_dry_run_buys_nothing_and_says_what_it_would_cost(job, provider):
    """Estimate in the manifest; a real run afterwards starts afresh."""
    task = job(model="openai:gpt-5-mini", dry_run=True, result_format="parquet")

    manifest = await task.run()

    assert manifest.dry_run
    assert manifest.cost.usd > 0
    assert (manifest.results, manifest.format, manifest.waves, manifest.batches) == ("", "parquet", 0, ())
    assert not provider.batches
    assert "plan.json" not in task.directory.names()


async def test_no_prompt_reaches_the_state_that_airflow_stores(job):
    """The suspended state holds ids and times."""
    suspended = await job(["a very secret prompt"]).start()

    assert "secret" not in suspended.model_dump_json()
    assert len(json.dumps(suspended.model_dump(mode="json"))) < 1000


async def test_the_claim_is_on_disk_before_the_provider_is_asked(job, provider):
    """Whatever happens in the call, the next attempt knows that it was about to happen."""
    task = job()
    seen = []

    async def check():
        seen.extend(task.directory.names("waves/0"))

    provider.while_preparing = [check]
    await task.start()

    assert "00000.claim.json" in seen
    assert "00000.receipt.json" not in seen


async def test_parquet_without_pyarrow_is_refused_before_anything_is_paid(job, provider, monkeypatch):
    """With the extra to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(UsageError, match=r"\[parquet\]"):
        await job(["a"], result_format="parquet").start()

    assert not provider.batches
