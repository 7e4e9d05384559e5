"""`canary_realtime=True`: the canary is asked by single calls, so the task knows whether to buy the rest before it suspends.

Each row of it is asked so once; what comes to nothing under that one try is bought as a batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from fakes import Job, Killed, bombed_storage, failing
from sweeps import killed_jobs, until_done
from upath import UPath

from airflow_batch_provider.exceptions import (
    OverBudget,
    Overtaken,
    Paused,
    Rejected,
    RowsFailed,
    Unavailable,
    UsageError,
)
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.gate import Gate
from airflow_batch_provider.models import Reply, Usage
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.signals import Signals
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.ledger.records import Claim

OK = Reply(key="", status="succeeded", output="fine")
ROWS = list("abcdefgh")


def sizes(provider):
    return [len(batch.keys) for batch in provider.batches.values()]


@pytest.fixture
def canary(job):
    """A task of eight rows whose first three are asked in realtime."""

    def make(rows=ROWS, **config):
        return job(rows, **{"canary": 3, "canary_realtime": True} | config)

    return make


async def test_the_rest_is_bought_in_the_same_step(canary, provider):
    """Nobody waits for a batch of three rows."""
    task = canary()

    assert isinstance(await task.start(), Suspended)
    assert (provider.calls, sizes(provider)) == (["a", "b", "c"], [5])
    manifest = await task.retry()

    assert provider.bought == dict.fromkeys(ROWS, 1)
    assert (manifest.counts["succeeded"], manifest.waves, len(manifest.batches)) == (8, 1, 1)
    rows = task.rows(manifest)
    assert [row["custom_id"] for row in rows] == [f"request-{n}" for n in range(8)]
    assert [row["output"] for row in rows] == [f"echo: {prompt}" for prompt in ROWS]
    assert [row["batch_id"] for row in rows] == [None] * 3 + ["batch-0"] * 5


@pytest.mark.parametrize(("good", "bought"), [(1, 3), (2, 8)])
async def test_the_same_share_decides_as_of_a_batch(canary, provider, good, bought):
    """At least half of it must be good."""
    provider.answer = lambda body, _n: failing("wrong", retryable=False) if body["prompt"] in "abc"[good:] else OK

    if bought == 8:
        assert (await canary().run()).counts["succeeded"] == 8 - (3 - good)
    else:
        with pytest.raises(RowsFailed, match="only 1 of the 3 rows that were asked first have a good answer") as error:
            await canary().start()
        assert "the other 5 were not bought" in str(error.value)
    assert sum(provider.bought.values()) == bought


async def test_a_clear_asks_what_failed_in_realtime_again(canary, provider):
    """A good row of the canary is not asked again."""
    provider.answer = lambda body, n: OK if body["prompt"] == "a" or n > 1 or body["prompt"] in "fgh" else failing()
    task = canary()
    with pytest.raises(RowsFailed):
        await task.start()

    manifest = await task.retry()

    assert provider.calls == ["a", "b", "c", "b", "c", "d"]
    assert manifest.counts["succeeded"] == 6
    assert provider.bought == Counter("abcdefgh" + "bc")


@pytest.mark.parametrize("fault", [Rejected("wrong key", http_status=401), Paused("no credit"), UsageError("not so")])
async def test_a_refusal_of_the_first_call_ends_the_task_and_buys_nothing(canary, provider, fault):
    """Key, model and wallet are checked by one call; a clear tries again."""
    provider.call_faults = [fault]
    task = canary()

    with pytest.raises(type(fault), match=str(fault)):
        await task.start()
    assert (provider.calls, provider.batches) == ([], {})

    assert (await task.retry()).counts["succeeded"] == 8
    assert provider.bought == dict.fromkeys(ROWS, 1)


async def test_after_a_refused_try_the_canary_is_bought_as_a_batch(canary, provider):
    """Each row is asked in realtime under the first claim only."""
    provider.call_faults = [Paused("no credit")]
    task = canary()
    with pytest.raises(Paused):
        await task.start()

    await task.retry()

    assert (provider.calls, sizes(provider)) == ([], [3, 5])


async def test_a_call_that_was_surely_not_answered_is_made_again(canary, provider):
    """As the provider asks; nothing was paid for it."""
    provider.call_faults = [Unavailable("too fast", retry_after=2, ambiguous=False)]

    await canary().run()

    assert (provider.calls, sizes(provider)) == (["a", "b", "c"], [5])


async def test_a_canary_without_any_answer_is_bought_as_a_batch(canary, provider, caplog):
    """At once; the provider may not offer such calls just now."""
    provider.call_faults = [Unavailable("cut")]

    manifest = await canary().run()

    assert (provider.calls, sizes(provider), manifest.counts["succeeded"]) == ([], [3, 5], 8)
    assert "The canary got no answer in realtime, so it is bought as a batch: cut" in caplog.text


async def test_answers_before_a_fault_are_kept_and_only_the_others_asked_again(canary, provider):
    """They are paid; what got none is one of the rows that the next wave asks."""
    provider.call_faults = [None, Unavailable("cut"), None]
    task = canary(retry_rows=1)

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 8
    assert provider.bought == dict.fromkeys(ROWS, 1)
    assert (manifest.waves, sizes(provider)) == (2, [5, 1])


async def test_a_row_without_an_answer_says_why(canary, provider):
    """Where no other wave asks it."""
    provider.call_faults = [None, Paused("no credit"), None]
    task = canary()

    manifest = await task.run()

    failed = [row for row in task.rows(manifest) if row["status"] == "failed"]
    assert [row["error"]["code"] for row in failed] == ["no_answer"]
    assert failed[0]["error"]["message"] == "it was asked in realtime and got no answer: no credit"


async def test_its_rows_cost_what_they_do_without_a_batch(job, provider):
    """In the manifest, in the estimate, and against the limit: twice as much, and they save nothing."""
    used = Usage(input_tokens=1_000_000, output_tokens=0)
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="fine", usage=used)
    settings = {"model": "openai:gpt-4o-mini", "canary": 3}

    plain = (await job(ROWS, **settings).run()).cost
    task = job(ROWS, **settings, canary_realtime=True)
    task.root = task.root.parent / "other"
    realtime = (await task.run()).cost

    # $0.15 a million tokens, half of it in a batch (docs/costs.md).
    assert (plain.usd, plain.saved_usd) == (pytest.approx(8 * 0.075), pytest.approx(8 * 0.075))
    assert (realtime.usd, realtime.saved_usd) == (pytest.approx(5 * 0.075 + 3 * 0.15), pytest.approx(5 * 0.075))


async def test_the_estimate_holds_the_price_without_a_batch(job):
    """Of the canary's rows alone."""
    settings = {"model": "openai:gpt-4o-mini", "dry_run": True}
    plain = (await job(["same"] * 4, **settings, dedup_rows=False).run()).cost.usd

    task = job(["same"] * 4, **settings, dedup_rows=False, canary=1, canary_realtime=True)
    task.root = task.root.parent / "other"
    realtime = (await task.run()).cost.usd

    assert realtime == pytest.approx(plain * 5 / 4)


async def test_an_attempt_that_goes_on_with_a_plan_holds_the_price_without_a_batch(canary, provider):
    """Three rows at twice the price of the five others; told before any call."""
    task = canary(["same"] * 8, model="openai:gpt-4o-mini", dedup_rows=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "admitted", lambda _self, _queued: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            await task.start()
    provider.calls.clear()
    task.config = task.config.model_copy(update={"dry_run": True})

    realtime = (await task.retry()).cost

    assert provider.calls == []
    assert realtime.saved_usd == pytest.approx(realtime.usd * 5 / 11)


async def test_what_the_canary_costs_counts_against_the_limit(job, provider):
    """What is left over is what the rest may cost, also after it alone was bought."""
    used = Usage(input_tokens=1_000_000, output_tokens=0)
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="fine", usage=used)
    task = job(ROWS, model="openai:gpt-4o-mini", canary=3, canary_realtime=True, max_cost_usd=0.45)

    manifest = await task.run()

    assert (manifest.counts["succeeded"], manifest.counts["missing"], provider.batches) == (3, 5, {})
    assert manifest.cost.usd == pytest.approx(0.45)


async def test_a_worker_that_died_after_the_canary_does_not_count_it_twice(job, provider, monkeypatch):
    """Its successor goes on within what is left, and is not refused for the price of all rows once more."""
    used = Usage(input_tokens=1_000_000, output_tokens=0)
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="fine", usage=used)
    task = job(ROWS, model="openai:gpt-4o-mini", canary=3, canary_realtime=True, max_cost_usd=0.46)
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "has_landed", lambda _self, _chunk: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            await task.start()
    assert provider.calls == ["a", "b", "c"]

    manifest = await task.retry()

    assert (manifest.counts["succeeded"], len(provider.batches)) == (8, 1)


async def test_a_limit_that_has_no_room_for_it_is_told_before_any_call(job, provider):
    """Nothing is asked."""
    task = job(ROWS, model="openai:gpt-4o-mini", canary=3, canary_realtime=True, max_cost_usd=0.000001)

    with pytest.raises(OverBudget):
        await task.start()

    assert provider.calls == []


async def test_a_provider_without_such_calls_gets_a_batch(canary, provider):
    """A kind that it does not answer one by one, like Gemini's embeddings."""
    provider.in_realtime = frozenset()

    manifest = await canary().run()

    assert (provider.calls, sizes(provider), manifest.counts["succeeded"]) == ([], [3, 5], 8)


async def test_a_canary_of_every_row_is_a_batch(canary, provider):
    """There is no rest to decide about."""
    await canary(ROWS[:3]).run()

    assert (provider.calls, sizes(provider)) == ([], [3])


async def test_realtime_without_a_canary_is_refused(job):
    """It would do nothing."""
    with pytest.raises(
        ValueError, match="canary_realtime asks the canary by single calls, and there is none; give canary=5"
    ):
        job(ROWS, canary_realtime=True)


async def test_the_plan_says_that_the_canary_is_asked_in_realtime(canary, caplog):
    """In the task's log, before and after."""
    caplog.set_level("INFO")

    await canary().start()

    assert "The first 3 rows are asked alone, as a canary, in realtime." in caplog.text
    assert "Asked the canary in realtime: 3 succeeded." in caplog.text


async def test_a_worker_that_was_overtaken_lands_nothing(canary, provider):
    """Its successor has bought the rows as a batch; both were paid, and these are the canary's rows alone."""
    task, successor = canary(), canary()

    async def overtake():
        await successor.start()

    provider.while_asking = [overtake]
    with pytest.raises(Overtaken):
        await task.start()
    manifest = await successor.retry()

    assert manifest.counts["succeeded"] == 8
    assert sizes(provider) == [3, 5]
    assert provider.bought == Counter("abcdefgh" + "abc")


async def test_rows_that_landed_at_the_last_moment_are_not_bought_once_more(canary, provider, monkeypatch):
    """The successor looks once more when it has the claim."""
    task = canary()
    original = BatchFiles.add_claim

    def late(files: BatchFiles, claim: Claim) -> bool:
        done = original(files, claim)
        if claim.number == 1:
            files.directory.write(files.rows_name, b"")
        return done

    provider.call_faults = [Unavailable("cut")]
    monkeypatch.setattr(BatchFiles, "add_claim", late)
    with pytest.raises(Overtaken):
        await task.start()

    assert provider.batches == {}


async def test_with_room_for_one_batch_the_rest_follows_at_once(canary, provider):
    """Rows that have landed take no place at the provider."""
    await canary(max_in_flight=1).start()

    assert (provider.calls, sizes(provider)) == (["a", "b", "c"], [5])


async def test_changed_requests_do_not_wait_for_a_canary_that_was_asked_in_realtime(canary, provider):
    """No batch of it can be open, so nothing holds the new rows up."""
    task = canary()

    async def die():
        raise asyncio.CancelledError

    provider.while_asking = [die]
    with pytest.raises(asyncio.CancelledError):
        await task.start()

    task.requests = [row.upper() for row in ROWS]
    manifest = await task.retry()

    assert manifest.counts["succeeded"] == 8
    assert set(provider.bought) == set("ABCDEFGH")


async def test_the_deployment_forgets_it_once_it_has_landed(job, provider, tmp_path):
    """Nothing is left in the registry, and what it cost is in its books."""
    registry = Registry(Directory(UPath(tmp_path / "registry")))
    task = job(ROWS, model="openai:gpt-4o-mini", canary=3, canary_realtime=True, registry=registry)

    await task.start()

    assert len(list(registry.tags())) == 1


async def test_its_answers_are_in_the_row_cache(job, provider, tmp_path):
    """The next task does not buy them, in whatever way."""
    cached = {"canary": 3, "canary_realtime": True, "row_cache": str(tmp_path / "cache")}
    await job(ROWS, **cached).run()
    again = job(ROWS, **cached)
    again.root = again.root.parent / "other"

    assert (await again.run()).counts["succeeded"] == 8
    assert provider.bought == dict.fromkeys(ROWS, 1)


async def test_its_rows_are_told_to_metrics_as_those_of_a_batch(job, provider):
    """Tokens and cost are counted once, where they land."""
    told = []

    class Listening(Signals):
        def landed(self, batch):
            told.append((batch.batch_id, dict(batch.rows), batch.usage.input_tokens))

    task = job(ROWS, canary=3, canary_realtime=True)
    task.signals = Listening()

    await task.run()

    assert told == [("", {"succeeded": 3}, 30), ("batch-0", {"succeeded": 5}, 50)]


@pytest.mark.sweep
@pytest.mark.parametrize("fails", [False, True])
async def test_killed_anywhere_no_row_but_the_canarys_is_paid_twice(
    tmp_path, clock, provider, monkeypatch, sweep, fails
):
    """And those only where the worker died between the calls and their rows; nothing is left in the registry."""

    def make(root: Path, bomb, patch):
        def answer(body, n):
            return failing() if fails and body["prompt"] in "ab" and n == 1 else OK

        here = type(provider)(clock, bomb, answer=answer, max_requests=2)
        bombed_storage(bomb, patch)
        registry = Registry(Directory(UPath(root / "registry")))
        return Job(root, here, clock, list("abcde"), canary=2, canary_realtime=True, registry=registry)

    drive = partial(until_done, fails=fails)
    async for task, bomb in killed_jobs(sweep, make, drive, tmp_path, monkeypatch):
        manifest = await drive(task)

        once = dict.fromkeys("cde", 1)
        most = 3 if fails else 2
        bought = task.provider.bought
        assert once.items() <= bought.items(), bomb.where
        assert all(bought[row] <= most for row in "ab"), bomb.where
        assert manifest.counts["succeeded"] == 5, bomb.where
        assert not list(task.registry.tags()), bomb.where
