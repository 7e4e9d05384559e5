"""What a batch has cost is known to the deployment once its rows are there, and once only."""

from __future__ import annotations

import pytest
from fakes import Job, Killed, bombed_storage, failing
from pydantic import SecretStr
from sweeps import killed_jobs
from upath import UPath

from airflow_batch_provider.models import Account, Reply
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory

OK = Reply(key="", status="succeeded", output="fine")


def registry_in(path):
    return Registry(Directory(UPath(path)))


@pytest.fixture
def registry(tmp_path):
    return registry_in(tmp_path / "registry")


async def test_every_batch_of_every_wave_is_noted_with_what_it_cost(job, provider, registry):
    """The sums are those of the manifest."""
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else OK
    manifest = await job(model="openai:gpt-5-mini", retry_rows=1, registry=registry).run()

    first, second = sorted(registry.spending.since(), key=lambda one: one.tag)

    assert (first.requests, first.succeeded, second.requests, second.succeeded) == (3, 2, 1, 1)
    assert (first.model, first.provider, first.connection, first.label) == ("gpt-5-mini", "openai", "c", "dag/run/task")
    assert first.usage + second.usage == manifest.usage
    assert first.cost.usd + second.cost.usd == pytest.approx(manifest.cost.usd, abs=1e-12)
    assert {first.batch_id, second.batch_id} == set(manifest.batches)


async def test_a_clear_counts_nothing_again(job, registry):
    """The same batches are on the books afterwards."""
    task = job(registry=registry)
    await task.run()
    before = [*registry.spending.since()]

    await task.retry()

    assert [*registry.spending.since()] == before


async def test_a_landed_batch_that_a_killed_worker_left_in_the_registry_leaves_it_with_the_next_attempt(
    job, provider, registry, monkeypatch
):
    """Others may have its place, although another batch of the task still runs."""
    provider.max_requests, provider.polls_until_done = 1, 1000
    task = job(["a", "b"], registry=registry)
    suspended = await task.start()
    provider.batches["batch-0"].status = "completed"
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "leave", lambda _self, _tag: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            await task.resume(suspended)
    assert {entry.batch_id for entry in registry.entries()} == {"batch-0", "batch-1"}

    task.attempt += 1
    assert isinstance(await task.start(), Suspended)

    assert {entry.batch_id for entry in registry.entries()} == {"batch-1"}


async def test_rows_land_although_their_price_cannot_be_read(job, provider, registry):
    """They are paid; what they cost is named as not known."""
    task = job(registry=registry)
    suspended = await task.start()
    await task.wait(suspended)
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options={"prices": "{"})

    with pytest.raises(Exception, match="not valid JSON"):  # the manifest needs prices
        await task.resume(suspended)

    (noted,) = registry.spending.since()
    assert (noted.succeeded, noted.cost.usd, noted.cost.unpriced) == (3, None, ("model",))


@pytest.mark.sweep
async def test_a_job_killed_anywhere_is_on_the_books_once(tmp_path, clock, provider, monkeypatch, sweep):
    """Five rows in three batches and a second wave: what the books say is what the provider has sold."""

    def make(root, bomb, patch):
        here = type(provider)(
            clock, bomb, answer=lambda body, n: failing() if body["prompt"] == "c" and n == 1 else OK, max_requests=2
        )
        bombed_storage(bomb, patch)
        return Job(root / "s", here, clock, list("abcde"), retry_rows=1, registry=registry_in(root / "r"))

    async for task, bomb in killed_jobs(sweep, make, Job.run, tmp_path, monkeypatch):
        manifest = await task.retry()

        noted = [*task.registry.spending.since()]
        assert sum(one.requests for one in noted) == sum(task.provider.bought.values()) == 6, bomb.where
        assert {one.batch_id for one in noted} == set(manifest.batches), bomb.where
        assert sum(one.usage.input_tokens for one in noted) == manifest.usage.input_tokens == 60, bomb.where
