"""A whole job on each provider with one fault at every call, write and await; the emulator's books tell what was bought.

The job has five rows in three batches and a second wave for two of them, whose answers failed or did not fit.
"""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from fakes import Killed
from killable_task import CREATE, MODELS, DiesAt, Life, check_balance

from airflow_batch_provider.exceptions import Unavailable

# A worker that was killed closes nothing.
pytestmark = [
    pytest.mark.sweep,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

UPLOADS = {"anthropic": "no file is uploaded", "openai": "openai.files.create", "google": "google.upload.chunk"}
BATCHES = 4
TAKES = 90  # seconds that the emulator works on a batch

FAULTS = {
    "cut before": {"kind": "cut", "when": "before"},
    "cut after": {"kind": "cut", "when": "after"},
    "time-out after": {"kind": "cut", "when": "after"},
    "500 after": {"kind": "status", "status": 500, "when": "after"},
    "409 after": {"kind": "status", "status": 409, "when": "after"},
    "429 before": {"kind": "status", "status": 429, "when": "before", "retry_after": 7},
    "429 for long": {"kind": "status", "status": 429, "when": "before", "retry_after": 900},
    "503 before": {"kind": "status", "status": 503, "when": "before"},
    "cut in the answer": {"kind": "cut_body", "bytes": 20},
}
# On other calls than creates these differ in nothing from their neighbours.
FOR_CREATES = {"409 after", "time-out after", "429 for long"}


async def calls_of_a_clean_run(world):
    """Every call of the job, as (route, number of the call on that route)."""
    clean = world()
    manifest, _ = await clean.go_on()
    check_balance(clean, manifest)
    return [(route, nth) for route, times in clean.emulator.calls.items() for nth in range(times)]


@pytest.fixture
def in_sample(sweep, name, fault):
    """By habit each fault strikes one of the providers, another one the next day."""
    turn = list(FAULTS).index(fault) + list(MODELS).index(name)
    if not sweep.whole and (turn + sweep.shift) % len(MODELS):
        pytest.skip("not in today's sample")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_at_any_call_buys_nothing_twice_and_loses_no_row(in_sample, name, world, fault, sweep):
    """Whether or not the provider did what was asked, the job ends whole, on the same batches."""
    fields = FAULTS[fault]
    calls = [call for call in await calls_of_a_clean_run(world) if fault not in FOR_CREATES or call[0] == CREATE[name]]

    for route, nth in sweep.of(calls, 2):
        here = world()
        here.lost = httpx2.ReadTimeout if fault == "time-out after" else httpx2.RemoteProtocolError
        struck = here.emulator.faults.add(route, after=nth, **fields)

        manifest, ends = await here.go_on()

        where = f"{fault} at call {nth} of {route}: {ends}"
        assert struck.taken == 1, where
        assert manifest is not None, where
        assert all(isinstance(end, Unavailable) for end in ends), where
        check_balance(here, manifest)
        repeated = route == UPLOADS[name] and fields.get("when") == "before"
        if route != "google.upload.chunk":  # Google's SDK sends a block again by itself
            check_uploads(here, BATCHES + repeated, where)


def check_uploads(here, expected, where):
    if here.name != "anthropic":
        assert here.emulator.calls[UPLOADS[here.name]] == expected, where


async def moments_of_a_clean_run(world):
    life = Life()
    await world().go_on(life)
    return life.moment


async def test_a_worker_killed_at_any_write_or_call_is_succeeded_by_one_that_buys_only_the_rest(name, world, sweep):
    """SIGKILL before and after every write to storage and every call: each row is bought once per wave."""
    total = await moments_of_a_clean_run(world)
    assert total > 120  # fewer would mean that the suite no longer sees the writes or the calls

    for at in sweep.of(range(total), 6):
        here, life = world(), Life(at)

        manifest, ends = await here.go_on(life)

        where = f"killed at moment {at}: {life.where}; {ends}"
        assert life.dead, where
        assert isinstance(ends[0], Killed), where
        assert manifest is not None, where
        check_balance(here, manifest)
        check_uploads(here, BATCHES, where)


async def test_a_worker_killed_at_any_write_or_call_of_a_canary_is_succeeded_by_one_that_buys_only_the_rest(
    name, world, sweep
):
    """The first two rows are bought alone at each provider; they are not bought again with the rest, and are results."""
    life = Life()
    await world().go_on(life, canary=2)

    for at in sweep.of(range(life.moment), 3):
        here, life = world(), Life(at)

        manifest, ends = await here.go_on(life, canary=2)

        where = f"killed at moment {at}: {life.where}; {ends}"
        assert manifest is not None, where
        check_balance(here, manifest)
        check_uploads(here, BATCHES, where)
        first, *others = sorted(here.emulator.jobs.ever, key=lambda job: job.created)
        assert len(first.rows) == 2, where
        assert all(job.created - first.created >= TAKES for job in others), where


async def test_a_worker_killed_anywhere_around_a_canary_in_realtime_is_succeeded_by_one_that_buys_only_the_rest(
    name, world, sweep
):
    """No provider finds a lost call again: only the canary's rows, once more each, may have been paid in vain."""
    realtime = {"canary": 2, "canary_realtime": True}
    life = Life()
    await world().go_on(life, **realtime)

    for at in sweep.of(range(life.moment), 3):
        here, life = world(), Life(at)

        manifest, ends = await here.go_on(life, **realtime)

        where = f"killed at moment {at}: {life.where}; {ends}"
        assert manifest is not None, where
        assert manifest.counts["succeeded"] == manifest.requests == 5, where
        batches, calls = here.executed(), sum(job.single for job in here.emulator.jobs.ever)
        in_batches = {asked: times for asked, times in batches.items() if asked not in {(0, 0), (0, 1)}}
        assert in_batches == {(0, 2): 1, (0, 3): 1, (0, 4): 1, (1, 2): 1, (1, 3): 1}, where
        assert calls <= 2, where
        assert batches[0, 0] == batches[0, 1] <= 1, where
        assert calls == 2 or batches[0, 0] == 1, where


async def waits_of_a_clean_run(world):
    here = world()
    work = DiesAt(here.task(life := Life()).run(), None, life)
    await asyncio.create_task(awaited(work))
    return work.waits


async def awaited(work):
    return await work


async def test_a_worker_killed_at_any_await_is_succeeded_by_one_that_buys_only_the_rest(name, world, sweep):
    """The same at every point where the worker waits for anything at all."""
    total = await waits_of_a_clean_run(world)
    assert total > 30

    kills = 0
    for at in sweep.of(range(total), 6):
        here, life = world(), Life()
        worker = here.task(life)
        kills += await is_killed(worker, at, life)
        await worker.wire.aclose()  # what it had sent arrives before its successor looks

        manifest, ends = await here.go_on(attempt=2)

        where = f"killed at wait {at}: {ends}"
        assert manifest is not None, where
        check_balance(here, manifest)
        check_uploads(here, BATCHES, where)
    assert (
        kills >= len(sweep.of(range(total), 6)) - 2
    )  # threads answer sooner or later, so a run may be a few waits shorter


async def is_killed(worker, at, life):
    """Run a worker until its wait of this number, at which it dies; False when it ends before that."""
    try:
        await asyncio.create_task(awaited(DiesAt(worker.run(), at, life)))
    except Killed:
        return True
    return False
