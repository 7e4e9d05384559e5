"""The manifest says what became of a task, and one that is written is what later attempts return."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fakes import START, failing
from upath import UPath

from airflow_batch_provider.exceptions import Overtaken
from airflow_batch_provider.ledger import SuccessCriteria, Target
from airflow_batch_provider.models import Reply
from airflow_batch_provider.storage import Directory

OK = Reply(key="", status="succeeded", output="fine")


@pytest.fixture
async def landed(ledger, provider, clock):
    """Three rows in three batches, a minute apart in time; all have landed."""
    provider.max_requests, provider.polls_until_done = 1, 0
    task, _ = ledger(in_flight=1)
    while await task.advance():
        clock.advance(60)
    return task


def target(tmp_path):
    return Target(Directory(UPath(tmp_path / "out")), "results.jsonl")


async def test_the_manifest_tells_when_what_and_for_how_much(landed, tmp_path, clock):
    """From the first submit to now; the money is that of the tokens."""
    manifest = landed.write_results("generate", target(tmp_path)).manifest

    assert (manifest.submitted_at, manifest.completed_at) == (START, START + timedelta(minutes=3))
    assert (manifest.stage, manifest.provider, manifest.model) == ("generate", "openai", "m")
    assert (manifest.waves, manifest.batches) == (1, ("batch-0", "batch-1", "batch-2"))
    assert manifest.usage.input_tokens == 30


async def test_the_money_is_that_of_the_tokens(job):
    """At the batch price, with what it saved."""
    manifest = await job(model="openai:gpt-5-mini").run()

    assert manifest.cost.usd == pytest.approx(manifest.cost.saved_usd)
    assert manifest.cost.usd > 0


async def test_only_a_task_with_a_manifest_is_done(landed, tmp_path):
    """It is read back as it was written."""
    manifest = landed.write_results("generate", target(tmp_path)).manifest
    assert landed.finished() is None

    landed.files.write_manifest(manifest)

    assert landed.finished() == manifest


async def test_a_manifest_of_before_other_batches_landed_ends_nothing(ledger, provider, tmp_path, clock):
    """One worker took what there was at the deadline, while another one, which had stood still, bought and landed the rest."""
    provider.max_requests, provider.polls_until_done = 1, 0
    task, _ = ledger(in_flight=1)
    await task.advance()
    await task.land()
    task.files.write_manifest(task.write_results("generate", target(tmp_path)).manifest)
    assert task.finished() is not None

    while await task.advance():
        clock.advance(60)

    assert task.finished() is None
    assert task.write_results("generate", target(tmp_path)).manifest.counts["succeeded"] == 3


def test_criteria_are_said_as_the_user_wrote_them():
    """Both ways to ask for more."""
    assert str(SuccessCriteria(0.0, "fail")) == "on_partial='fail'"
    assert str(SuccessCriteria(0.9, "succeed")) == "min_success_ratio=0.9"


async def test_results_that_a_worker_wrote_late_are_written_again_as_they_are_now(job, provider, monkeypatch):
    """It stood still at the last moment, while its successor asked the rest and finished."""
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else OK
    zombie, successor = job(on_partial="fail"), job(on_partial="fail")
    successor.attempt = 2
    publish, manifests = Directory.publish, []

    def slow(self, local, name):
        if name == "results.jsonl" and not manifests:
            manifests.append(None)
            with ThreadPoolExecutor(1) as pool:
                manifests[0] = pool.submit(asyncio.run, successor.run()).result()
        publish(self, local, name)

    monkeypatch.setattr(Directory, "publish", slow)
    manifest = await zombie.run()

    assert [row["status"] for row in zombie.rows(manifests[0])] == ["succeeded"] * 3
    assert manifest.counts == manifests[0].counts
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


async def test_a_worker_whose_requests_were_set_aside_finishes_nothing(job, clock, monkeypatch):
    """Its rows are not those that are asked now."""
    zombie, successor = job(["old"]), job(["new"])
    successor.attempt = 2
    publish, manifests = Directory.publish, []

    def slow(self, local, name):
        if name == "results.jsonl" and not manifests:
            manifests.append(None)
            clock.advance(1)
            with ThreadPoolExecutor(1) as pool:
                manifests[0] = pool.submit(asyncio.run, successor.run()).result()
        publish(self, local, name)

    monkeypatch.setattr(Directory, "publish", slow)
    with pytest.raises(Overtaken, match="began later"):
        await zombie.run()

    assert "manifest.json" in zombie.directory.names()
    assert (await successor.retry()).requests == 1
