"""Limits of the deployment: all tasks share the places at a provider, in the order of asking."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import FakeClock, FakeProvider, Job, Killed, bombed_storage
from pydantic import SecretStr
from sweeps import killed_jobs
from upath import UPath

from airflow_batch_provider import place_queue
from airflow_batch_provider.exceptions import Paused, Rejected, UsageError
from airflow_batch_provider.models import Account
from airflow_batch_provider.place_queue import Queue
from airflow_batch_provider.places import PlaceLimits, Places, scope_of
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import PLACE_LEASE

LEASE = PLACE_LEASE.total_seconds()


def limited(provider, **limits):
    """The provider, whose connection has these limits."""
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options=limits)
    return provider


@pytest.fixture
def registry(tmp_path):
    return Registry(Directory(UPath(tmp_path / "registry")))


@pytest.fixture
def tasks(tmp_path, provider, clock, registry):
    """Makes tasks of one row each that share a connection: `tasks(20)`."""

    def make(count, **config):
        def one(number):
            task = Job(
                tmp_path / f"storage-{number}",
                provider,
                clock,
                [f"q{number}"],
                registry=registry,
                conn_id="shared",
                **config,
            )
            task.map_index = number
            return task

        return [one(number) for number in range(count)]

    return make


def open_batches(provider):
    return [batch for batch in provider.batches.values() if batch.status == "processing"]


async def together(tasks, provider, clock, most):
    """All tasks to their end, each polled every minute; never are more batches open than may be."""
    waiting = {}
    for task in tasks:
        waiting[task] = await task.start()
        assert len(open_batches(provider)) <= most
    for _ in range(500):
        for task, suspended in waiting.items():
            if isinstance(suspended, Suspended) and (await task.check(suspended)).is_ready:
                waiting[task] = await task.resume(suspended)
                assert len(open_batches(provider)) <= most
        if not any(isinstance(one, Suspended) for one in waiting.values()):
            return list(waiting.values())
        clock.advance(60)
    raise AssertionError("never done")


async def test_twenty_mapped_tasks_stay_inside_three_places_and_go_in_the_order_of_asking(tasks, provider, clock):
    """None holds a worker while it waits, and all are answered."""
    limited(provider, max_in_flight=3)
    provider.polls_until_done = 2

    manifests = await together(tasks(20), provider, clock, most=3)

    assert all(manifest.counts["succeeded"] == 1 for manifest in manifests)
    bought = [batch.bodies[0]["prompt"] for batch in provider.batches.values()]
    assert bought == [f"q{number}" for number in range(20)]


async def test_a_batch_that_failed_as_a_whole_leaves_its_place_to_others(tasks, provider):
    """While its rows rest before they are submitted again."""
    limited(provider, max_in_flight=1)
    first, second = tasks(2)
    suspended = await first.start()
    failed = provider.batches["batch-0"]
    failed.status, failed.retryable = "failed", True
    await first.resume(suspended)

    await second.start()

    assert [batch.bodies[0]["prompt"] for batch in open_batches(provider)] == ["q1"]


async def test_a_task_that_waits_says_for_what(tasks, provider, clock, caplog):
    """On its page, and in what its trigger is given."""
    caplog.set_level("INFO")
    limited(provider, max_in_flight=1)
    first, second, third = tasks(3)
    await first.start()
    await second.start()

    suspended = await third.start()

    said = (
        "Waiting for a place: the deployment has 1 batch of this connection and model at the provider (about 20 tokens), the "
        "most that max_in_flight=1 allows, and 1 asked before."
    )
    assert third.shown[-1]["message"].endswith(said)
    assert said in caplog.text
    assert suspended.state.metadata["place"]["ahead"] == 1
    assert suspended.poll.first_poll.total_seconds() <= 60


@pytest.mark.parametrize(
    ("limits", "tokens", "said"),
    [
        ({"batches": 2}, 10, "has 2 batches of this connection and model at the provider (about 20 tokens), the most that max_in_flight=2 allows."),
        ({"batches": 5, "tokens": 20}, 10, "has 2 batches of this connection and model at the provider (about 20 tokens), the most that max_enqueued_tokens=20 allows."),
    ],
)  # fmt: skip
def test_a_wait_names_the_limit_that_is_full(queue, limits, tokens, said):
    """And how much of it is in use: as many tokens as the limit says may be at the provider."""
    one = queue(**limits)
    assert [one.ask(tag, tokens, "x") for tag in ("a", "b")] == [None, None]

    assert str(one.ask("c", 1, "y")).endswith(said)


async def test_tokens_of_all_tasks_count_together(tasks, provider, clock):
    """A batch that is larger than the limit goes alone, so that none waits for ever."""
    limited(provider, max_enqueued_tokens=1)
    manifests = await together(tasks(3), provider, clock, most=1)
    assert len(manifests) == 3


async def test_each_model_and_each_connection_has_places_of_its_own(tasks, provider):
    """A full queue of one keeps nobody else waiting."""
    limited(provider, max_in_flight=1)
    first, second, third = tasks(3)
    second.config = second.config.model_copy(update={"model": "openai:n"})
    third.config = third.config.model_copy(
        update={"connection": third.config.connection.model_copy(update={"conn_id": "other"})}
    )

    for task in (first, second, third):
        await task.start()

    assert len(provider.batches) == 3


@pytest.mark.parametrize(
    ("given", "batches", "tokens"),
    [
        ({"max_in_flight": "3"}, 3, None),
        ({"max_in_flight": 2.0, "max_enqueued_tokens": {"m": 5, "n": 9}}, 2, 5),
        ({"max_in_flight": {"n": 1}}, None, None),
        ({}, None, None),
    ],
)
def test_a_limit_is_a_number_or_one_by_model(given, batches, tokens):
    """Of the configuration as text, of a form as a float."""
    found = PlaceLimits.of(Account(provider="openai", api_key=SecretStr("k"), options=given), "m")
    assert found == (PlaceLimits(batches=batches, tokens=tokens) if batches or tokens else None)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "many", [3], {"m": "x"}, float("inf"), float("nan")])
async def test_a_limit_that_is_none_is_refused_before_anything_is_paid(tasks, provider, wrong):
    """With its value, and what to give."""
    limited(provider, max_in_flight=wrong)
    with pytest.raises(UsageError, match="max_in_flight of the connection"):
        await tasks(1)[0].run()
    assert not provider.batches


async def test_a_limit_that_is_lowered_lets_what_runs_run_and_nobody_in(tasks, provider, clock):
    """Until as few are left as may be; one that is taken away lets all in."""
    limited(provider, max_in_flight=3)
    provider.polls_until_done = 3
    made = tasks(5)
    waits = [await task.start() for task in made]
    assert len(open_batches(provider)) == 3

    limited(provider, max_in_flight=1)
    assert not (await made[3].check(waits[3])).is_ready
    for number in (0, 1):
        await made[number].wait(waits[number])
        await made[number].resume(waits[number])
        assert not (await made[3].check(waits[3])).is_ready
    await made[2].wait(waits[2])
    await made[2].resume(waits[2])
    assert (await made[3].check(waits[3])).is_ready

    limited(provider)
    assert (await made[4].check(waits[4])).is_ready


async def test_a_task_that_is_killed_while_it_waits_keeps_nobody_waiting(tasks, provider):
    """It leaves the queue."""
    limited(provider, max_in_flight=1)
    first, second, third = tasks(3)
    waits = [await task.start() for task in (first, second, third)]

    await second.cancel(waits[1])
    await first.wait(waits[0])
    await first.resume(waits[0])

    assert (await third.check(waits[2])).is_ready


async def test_a_task_that_vanished_while_it_waited_is_waited_for_a_lease_only(tasks, provider, clock):
    """Its triggerer may be restarting; when it comes back later, it asks again at the end."""
    limited(provider, max_in_flight=1)
    first, second, third = tasks(3)
    waits = [await task.start() for task in (first, second, third)]
    await first.wait(waits[0])
    await first.resume(waits[0])

    assert not (await third.check(waits[2])).is_ready
    clock.advance(LEASE + 60)
    assert (await third.check(waits[2])).is_ready
    await third.resume(waits[2])
    assert len(open_batches(provider)) == 1
    assert (await second.check(waits[1])).is_ready  # it is not in the queue any more
    again = await second.resume(waits[1])
    assert not (await second.check(again)).is_ready
    assert len(provider.batches) == 2


async def test_a_refused_batch_gives_its_place_up(tasks, provider):
    """A misspelt model must not keep others waiting."""
    limited(provider, max_in_flight=1)
    first, second = tasks(2)
    provider.submit_faults = [Rejected("no such model")]
    with pytest.raises(Rejected):
        await first.start()

    await second.start()

    assert [batch.bodies[0]["prompt"] for batch in provider.batches.values()] == ["q1"]


@pytest.mark.parametrize("lands", [False, True])
async def test_a_canary_in_realtime_gives_its_place_up(tasks, provider, lands):
    """Whether its first call is refused or its rows have landed."""
    limited(provider, max_in_flight=1)
    (provider.submit_faults if lands else provider.call_faults).append(Paused("no credit"))
    task, other = tasks(2, canary=1, canary_realtime=True)
    task.requests = ["a", "b"]
    with pytest.raises(Paused):
        await task.start()

    await other.start()

    assert provider.calls == ["a"] * lands
    assert [batch.bodies[0]["prompt"] for batch in provider.batches.values()] == ["q1"]


async def test_a_claimed_batch_is_looked_for_without_a_place(tasks, provider):
    """It may have been bought, and the limit may be full."""
    limited(provider, max_in_flight=1)
    first, second = tasks(2)
    provider.submit_faults = [(Killed("died"), "after")]
    with pytest.raises(Killed):
        await first.start()
    await second.start()

    await first.start()

    assert provider.bought == {"q0": 1}


async def test_one_task_of_many_batches_shares_with_the_others(tasks, provider, clock):
    """It asks for one place at a time, and goes to the end of the queue for the next."""
    limited(provider, max_in_flight=1)
    provider.max_requests = 1
    large, small = tasks(2)
    large.requests = ["a", "b", "c"]

    await together([large, small], provider, clock, most=1)

    bought = [batch.bodies[0]["prompt"] for batch in provider.batches.values()]
    assert bought.index("q1") < bought.index("c")


@pytest.mark.sweep
async def test_a_holder_that_dies_at_any_step_keeps_nobody_out_for_ever(tmp_path, monkeypatch, sweep):
    """Neither who has a place nor who waits: its neighbour is answered without it, and it goes on when it comes back."""

    def make(root, bomb, patch):
        provider = limited(FakeProvider(FakeClock(), bomb), max_in_flight=1)
        registry = Registry(Directory(UPath(root / "registry")))
        bombed_storage(bomb, patch)
        return Job(root / "storage", provider, provider.clock, ["mine"], registry=registry, conn_id="shared")

    async def drive(task):
        assert (await task.retry()).counts["succeeded"] == 1

    async for task, bomb in killed_jobs(sweep, make, drive, tmp_path, monkeypatch):
        provider, clock = task.provider, task.clock
        other = Job(task.root.parent / "other", provider, clock, ["other"], registry=task.registry, conn_id="shared")
        suspended = await other.start()
        if not provider.bought["other"]:
            clock.advance(LEASE + 60)
            if not (await other.check(suspended)).is_ready:
                # The dead one's batch is at the provider, or may be, until its retry lands it.
                assert len(task.registry.tags()) == 1, bomb.where
                await drive(task)
                assert (await other.check(suspended)).is_ready, bomb.where
            suspended = await other.resume(suspended)
        while isinstance(suspended, Suspended):
            await other.wait(suspended)
            suspended = await other.resume(suspended)
        await drive(task)
        assert provider.bought == {"mine": 1, "other": 1}, bomb.where


# the queue itself


@pytest.fixture
def queue(registry, clock):
    """Makes one worker's view of a queue."""
    scope = scope_of("c", "openai", "m")
    return lambda **limits: Places(registry, scope, PlaceLimits(**limits), clock.now)


def test_workers_that_ask_at_once_never_have_more_places_than_there_are(queue, registry, monkeypatch):
    """Each change of the queue follows the one before it: a worker that was second reads again."""
    mine, theirs = queue(batches=2), queue(batches=2)
    create, raced = place_queue.create, []

    def late(directory, name, record):
        if not raced:
            raced.append(name)
            assert theirs.ask("x", 1, "theirs") is None
            assert theirs.ask("y", 1, "theirs") is None
        return create(directory, name, record)

    monkeypatch.setattr(place_queue, "create", late)

    told = mine.ask("a", 1, "mine")

    assert (told.held, told.ahead) == (2, 0)


def test_of_many_workers_in_the_same_moment_as_many_get_in_as_there_are_places(queue, registry):
    """The others wait, each in a place of its own."""
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: queue(batches=3).ask(f"t{number}", 1, "x"), range(24)))

    assert sum(one is None for one in told) == 3
    names = [name for name in registry.places(queue().scope).names() if name.endswith(".json")]
    last = Queue.model_validate_json(registry.places(queue().scope).read(names[-1]))
    assert sorted(place.tag for place in last.places) == sorted(f"t{number}" for number in range(24))
    assert [bool(place.given_at) for place in last.places] == [True] * 3 + [False] * 21


def test_who_asked_first_goes_first_as_long_as_somebody_looks_after_its_wait(queue, clock):
    """However long ago it asked."""
    one = queue(batches=1)
    assert one.ask("a", 1, "x") is None
    for tag in ("b", "c"):
        assert one.ask(tag, 1, "y") is not None
    clock.advance(LEASE * 0.6)
    assert one.wait("b") is not None
    assert one.ask("d", 1, "stage", waits=False) is None
    clock.advance(LEASE * 0.6)
    for tag in ("a", "d"):
        one.leave(tag)

    assert one.wait("c").ahead == 1
    assert one.ask("b", 1, "y") is None


def test_who_cannot_wait_takes_a_place_and_the_others_wait_the_longer(queue):
    """A submit of a custom stage is whole, or fails."""
    one = queue(batches=1)
    assert one.ask("a", 1, "x") is None
    assert one.ask("b", 1, "stage", waits=False) is None
    assert one.ask("c", 1, "y").held == 2
    one.leave("a")
    assert one.wait("c") is not None
    one.leave("b")
    assert one.wait("c") is None


def test_a_worker_that_slept_for_long_changes_nothing(queue, registry, monkeypatch):
    """The number that it would write is free again, because old ones are removed: it finds that out, and reads again."""
    monkeypatch.setattr(place_queue, "_KEPT", 2)
    mine, theirs = queue(batches=100), queue(batches=100)
    assert theirs.ask("first", 1, "theirs") is None
    create, slept = place_queue.create, []

    def late(directory, name, record):
        if not slept:
            slept.append(name)
            for number in range(9):
                theirs.ask(f"t{number}", 1, "theirs")
        return create(directory, name, record)

    monkeypatch.setattr(place_queue, "create", late)
    mine.ask("a", 1, "mine")

    names = [name for name in registry.places(mine.scope).names() if name.endswith(".json")]
    assert slept[0] not in names
    last = Queue.model_validate_json(registry.places(mine.scope).read(names[-1]))
    assert [place.tag for place in last.places] == ["first", *(f"t{number}" for number in range(9)), "a"]


def test_few_files_stay_behind(queue, registry):
    """Old queues are removed."""
    one = queue(batches=1)
    for number in range(200):
        one.ask(f"t{number}", 1, "x")
        one.leave(f"t{number}")
    assert len(registry.places(one.scope).names()) < 60
    assert registry.places(one.scope).names("seen") == []


def test_a_queue_that_cannot_be_read_is_begun_again(queue, registry):
    """All who wait ask again; nobody stops."""
    one = queue(batches=1)
    one.ask("a", 1, "x")
    registry.places(one.scope).write("000000000001.json", b"{")

    assert one.ask("b", 1, "x") is None
    assert one.ask("a", 1, "x") is not None
