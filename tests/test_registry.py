"""What one deployment has at its providers: who has which batch, and which worker may submit."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import START
from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.exceptions import Unavailable
from airflow_batch_provider.models import Account
from airflow_batch_provider.registry import Entry, Registry, account_digest, distinct
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import LOCK_LEASE

MAX_WAIT = timedelta(seconds=60)
ACCOUNT = Account(provider="anthropic", api_key=SecretStr("sk-very-secret"))


@pytest.fixture
def directory(tmp_path):
    return Directory(UPath(tmp_path / "registry"))


@pytest.fixture
def registry(directory):
    return Registry(directory)


def entry(tag, batch_id=None):
    return Entry(
        tag=tag,
        provider="anthropic",
        account=account_digest(ACCOUNT),
        label="dag/run/task",
        claim="file:///claim",
        requests=3,
        claimed_at=START,
        batch_id=batch_id,
    )


def test_a_batch_is_noted_until_it_has_landed(registry):
    """Noting it again, with its id, replaces the first note."""
    registry.enter(entry("b"))
    registry.enter(entry("a"))
    registry.enter(entry("b", "batch-1"))

    assert list(registry.entries()) == [entry("a"), entry("b", "batch-1")]
    assert registry.get("b") == entry("b", "batch-1")
    registry.leave("b")
    assert registry.get("b") is None
    assert list(registry.entries()) == [entry("a")]


@pytest.mark.parametrize("tag", ["../locks/theirs", "x/../../locks/theirs", "A", "a.b", "a" * 41, "", "a\n"])
def test_a_tag_that_a_provider_shows_never_becomes_a_path(registry, directory, tag):
    """A stranger's batch may carry anything in its place."""
    for name in ("locks/theirs", "open/A", "open/a.b", f"open/{'a' * 41}", "open/"):
        directory.write(f"{name}.json", entry("t").model_dump_json().encode())

    assert registry.get(tag) is None


def test_an_entry_that_leaves_during_a_listing_and_a_half_written_one_are_ignored(registry, directory):
    """Other workers land and claim meanwhile."""
    for tag in "abc":
        registry.enter(entry(tag))
    directory.write("open/d.json.draft-1", b"half")

    listed = registry.entries()
    assert next(listed) == entry("a")
    registry.leave("b")
    assert list(listed) == [entry("c")]


def test_a_batch_belongs_to_another_only_when_another_tag_has_it(registry):
    """One's own entry is not a reason to pass a batch over."""
    registry.enter(entry("mine", "batch-1"))
    registry.enter(entry("theirs", "batch-2"))
    registry.enter(entry("nobody's"))

    held = registry.held_by_others(["batch-1", "batch-2", "batch-3"], "mine")

    assert held == {"batch-2": [entry("theirs", "batch-2")]}


def test_no_entry_is_read_where_there_is_no_batch_to_ask_about(registry, directory, monkeypatch):
    """A deployment may have thousands of open batches, each a read of an object store."""
    registry.enter(entry("theirs", "batch-2"))
    read = []
    monkeypatch.setattr(directory, "read", read.append)

    assert registry.held_by_others([], "mine") == {}
    assert read == []


async def test_one_worker_at_a_time_has_the_submit_lock(registry, clock):
    """The next one waits, a second at a time, and gets it when it is released."""
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)

    async def sleep(seconds):
        assert seconds == 1
        clock.advance(seconds)
        if (clock.time - START).total_seconds() == 5:
            registry.release_submit_lock(ACCOUNT, "one")

    clock.sleep = sleep
    await registry.acquire_submit_lock(ACCOUNT, "two", clock, MAX_WAIT)

    assert (clock.time - START).total_seconds() == 5


async def test_a_worker_that_gets_no_lock_comes_back_later(registry, clock):
    """It gives up its slot after its longest wait, having sent nothing."""
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)

    with pytest.raises(Unavailable, match=r"^Other tasks are submitting at this account\.$") as caught:
        await registry.acquire_submit_lock(ACCOUNT, "two", clock, MAX_WAIT)

    assert (clock.time - START) == MAX_WAIT
    assert (caught.value.retry_after, caught.value.ambiguous) == (30, False)


async def test_a_worker_that_has_the_lock_keeps_it(registry, clock):
    """Its second submit does not wait for its first."""
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)

    assert clock.time == START


async def test_a_lock_of_a_dead_worker_is_taken_after_its_lease(registry, clock):
    """Not sooner, however often the others ask; and the dead one cannot release it later."""
    await registry.acquire_submit_lock(ACCOUNT, "dead", clock, MAX_WAIT)

    await registry.acquire_submit_lock(ACCOUNT, "next", clock, LOCK_LEASE * 2)

    assert (clock.time - START) == LOCK_LEASE + timedelta(seconds=1)
    registry.release_submit_lock(ACCOUNT, "dead")
    with pytest.raises(Unavailable):
        await registry.acquire_submit_lock(ACCOUNT, "third", clock, MAX_WAIT)


async def test_a_lock_that_is_released_while_it_is_looked_at_is_taken_by_whoever_looked(registry, clock, monkeypatch):
    """Nobody submits without it, so the next worker waits for that one."""
    look = Registry._lock
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)

    with monkeypatch.context() as patch:

        def released_meanwhile(self, account):
            patch.undo()
            self.release_submit_lock(account, "one")
            return look(self, account)

        patch.setattr(Registry, "_lock", released_meanwhile)
        await registry.acquire_submit_lock(ACCOUNT, "two", clock, MAX_WAIT)

    assert clock.time == START
    with pytest.raises(Unavailable):
        await registry.acquire_submit_lock(ACCOUNT, "three", clock, MAX_WAIT)


async def test_a_settled_claim_gives_the_lock_of_its_submit_back(registry, clock):
    """And no other claim's, whoever holds it."""
    registry.enter(entry("mine"))
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT, tag="mine")

    registry.end_submit(ACCOUNT, ["another"])
    with pytest.raises(Unavailable):
        await registry.acquire_submit_lock(ACCOUNT, "two", clock, MAX_WAIT)

    waited = clock.time
    registry.end_submit(ACCOUNT, ["another", "mine"])
    await registry.acquire_submit_lock(ACCOUNT, "two", clock, MAX_WAIT)
    assert clock.time == waited


async def test_releasing_a_lock_that_is_gone_is_not_an_error(registry):
    """It may have been taken away and released by another since."""
    registry.release_submit_lock(ACCOUNT, "one")


@pytest.mark.parametrize(
    "other",
    [
        Account(provider="openai", api_key=SecretStr("sk-very-secret")),
        Account(provider="anthropic", api_key=SecretStr("another")),
        Account(provider="anthropic", api_key=SecretStr("sk-very-secret"), base_url="https://other.test"),
    ],
)
async def test_accounts_have_locks_of_their_own(registry, clock, other):
    """Submits to one account do not hold up those to another."""
    await registry.acquire_submit_lock(ACCOUNT, "one", clock, MAX_WAIT)
    await registry.acquire_submit_lock(other, "two", clock, MAX_WAIT)

    assert clock.time == START


def test_an_account_is_named_without_its_key():
    """The same name in every process and release: workers of two releases must not submit at once."""
    assert account_digest(ACCOUNT) == "9e22791ab54c60be"


def test_a_tag_is_not_a_path(registry):
    """A person may type anything."""
    registry.mark_over("a", START)

    assert registry.get("../over/a") is None


def test_connections_to_one_account_are_one_account():
    """Its batches are looked through once."""
    same = Account(provider="anthropic", api_key=SecretStr("sk-very-secret"), options={"a": 1})
    other = Account(provider="anthropic", api_key=SecretStr("another"))

    assert [account_digest(one) for one in distinct([ACCOUNT, other, same])] == [
        account_digest(ACCOUNT),
        account_digest(other),
    ]
