"""Workers whose clocks are wrong, on each provider's own SDK: a create whose answer is lost is bought once all the same."""

from __future__ import annotations

import pytest
from fakes import Killed
from killable_task import CREATE, Life, SkewedClock, check_balance

from airflow_batch_provider.emulator.books import books

SKEWS = (-3600, -300, -130, -60, 0, 60, 130, 300, 620, 3600)
HOUR = 3600
RESULTS = {"anthropic": "anthropic.results", "openai": "openai.files.content", "google": "google.download"}
CREATES = ("/messages/batches: after", "/v1/batches: after", ":batchGenerateContent: after")


class DiesAfterCreate(Life):
    """Killed when the provider has the first batch, and the worker does not know."""

    def tick(self, where):
        super().tick(where)
        if where.startswith("POST") and where.endswith(CREATES):
            self.dead = True
            raise Killed(where)


class DiesWhenBought(Life):
    """Killed when the first receipt is on disk."""

    def tick(self, where):
        super().tick(where)
        if where.startswith("create") and "receipt" in where and where.endswith(": after"):
            self.dead = True
            raise Killed(where)


class JumpingClock(SkewedClock):
    """It is set an hour forward and back again, by turns, whenever the worker has slept."""

    async def sleep(self, seconds):
        await super().sleep(seconds)
        self.ahead = {0: HOUR, HOUR: -HOUR, -HOUR: 0}[self.ahead]


@pytest.fixture
def in_sample(sweep, skew):
    """Only some of the clocks are tried by habit."""
    if skew not in sweep.of(SKEWS, 3):
        pytest.skip("not in today's sample")


@pytest.mark.sweep
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skew", SKEWS)
async def test_a_worker_whose_clock_is_wrong_buys_a_lost_create_once(in_sample, world, skew, when):
    """Whether a batch is absent is judged by the provider's own clock."""
    here = world()
    here.worker_clock = SkewedClock(here.clock, skew)
    lost = here.emulator.faults.add(CREATE[here.name], "cut", when=when)

    manifest, ends = await here.go_on()

    assert lost.taken == 1
    assert manifest is not None, ends
    check_balance(here, manifest)


@pytest.mark.parametrize("skews", [(HOUR, -HOUR), (-HOUR, HOUR), (HOUR, 0), (0, HOUR)])
async def test_a_worker_finds_what_one_with_another_clock_bought_before_it_died(world, skews):
    """The claim holds the provider's time, so the successor needs neither clock."""
    first, second = skews
    here = world()
    here.worker_clock = SkewedClock(here.clock, first)
    with pytest.raises(Killed):
        await here.run(DiesAfterCreate())
    here.worker_clock = SkewedClock(here.clock, second)

    manifest, ends = await here.go_on(attempt=2)

    assert manifest is not None, ends
    check_balance(here, manifest)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_clock_that_jumps_while_a_batch_is_looked_for_buys_nothing_twice(world, when):
    """The grace time is as long as it is, whatever the clock says."""
    here = world()
    here.worker_clock = JumpingClock(here.clock, HOUR)
    here.emulator.faults.add(CREATE[here.name], "cut", when=when)
    here.emulator.faults.add(CREATE[here.name], "unlist", seconds=30)

    manifest, ends = await here.go_on()

    assert manifest is not None, ends
    check_balance(here, manifest)


@pytest.mark.parametrize("skew", [-HOUR, 0, HOUR])
async def test_a_batch_is_found_where_the_provider_does_not_tell_its_time(world, skew):
    """Then a clock that may be a day off does not decide that a batch is absent."""
    here = world()
    here.tells_time = False
    here.worker_clock = SkewedClock(here.clock, skew)
    here.emulator.faults.add(CREATE[here.name], "cut", when="after")

    manifest, ends = await here.go_on()

    assert manifest is not None, ends
    check_balance(here, manifest)


@pytest.mark.sweep
@pytest.mark.parametrize("skew", SKEWS)
async def test_answers_that_come_late_are_waited_for_whatever_the_workers_clock_says(in_sample, world, skew):
    """How long ago a batch ended is judged by the provider's own clock, or its rows would be bought again."""
    here = world()
    here.worker_clock = SkewedClock(here.clock, skew)
    late = here.emulator.faults.add(RESULTS[here.name], "short", lines=1, times=2)

    manifest, ends = await here.go_on()

    assert late.taken == 2
    assert manifest is not None, ends
    check_balance(here, manifest)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skew", [-HOUR, HOUR])
async def test_a_client_whose_clock_is_wrong_buys_a_lost_create_once(world, skew, when):
    """A stage's own client; the next worker, whose clock is wrong the other way, finds what it bought."""
    here = world()
    clock = SkewedClock(here.clock, skew)
    lost = here.emulator.faults.add(CREATE[here.name], "cut", when=when)

    handle = await here.client(clock).submit(["a", "b"])
    again = await here.client(SkewedClock(here.clock, -skew)).submit(["a", "b"])
    here.clock.advance(HOUR)
    rows = await here.client(clock).get_results(handle.id)

    assert lost.taken == 1
    assert again.batch_ids == handle.batch_ids
    assert [row.output for row in rows] == ["echo: a", "echo: b"]
    assert len(books(here.emulator)["jobs"]) == 1
    assert books(here.emulator)["bought_twice"] == 0


@pytest.mark.parametrize("skew", [-HOUR, 0, HOUR])
async def test_a_batch_that_is_not_shown_yet_is_gone_by_the_providers_clock_only(world, skew):
    """Another worker bought it a moment ago, and the clock of this one is wrong."""
    here = world()
    here.emulator.faults.add(CREATE[here.name], "hide", seconds=120)
    with pytest.raises(Killed):
        await here.run(DiesWhenBought())
    here.worker_clock = SkewedClock(here.clock, skew)

    manifest, ends = await here.go_on(attempt=2)

    assert manifest is not None, ends
    check_balance(here, manifest)
