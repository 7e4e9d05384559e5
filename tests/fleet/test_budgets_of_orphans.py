"""What budgets count of batches that no task takes care of any more."""

from __future__ import annotations

import pytest
from world import TASK

from airflow_batch_provider.budgets import BudgetLimits
from airflow_batch_provider.fleet.deployment import Deployment


@pytest.fixture
async def orphan(world):
    """A batch whose task is over, bought within the budget of its connection. Returns its tag."""
    world.deployment = Deployment(world.deployment.storage, BudgetLimits(month={"*": 5}))
    await world.job(model="openai:gpt-5-mini").start()
    world.states[TASK] = "over"
    (tag,) = world.tags
    assert reserved(world) == [tag]
    return tag


def reserved(world):
    """Tags of the batches that count as the most that they may cost."""
    book = world.deployment.registry.budgets
    (budget,) = book.all()
    return list(book.use(budget).reserved)


async def test_a_batch_that_ended_and_nobody_will_land_goes_on_counting(world, orphan):
    """What ran is paid."""
    world.provider.batches["batch-0"].status = "completed"
    world.states[TASK] = "gone"

    assert (await world.reconcile())[0].action == "forget"

    assert (world.tags, reserved(world)) == ([], [orphan])


async def test_a_batch_that_the_provider_does_not_have_counts_no_more(world, orphan):
    """Nothing was bought."""
    world.provider.batches.clear()
    world.clock.advance(3600)

    assert (await world.reconcile())[0].action == "forget"

    assert (world.tags, world.deployment.registry.budgets._directory.names("month/2026-11/c")) == ([], [])


async def test_a_batch_that_a_person_says_is_absent_counts_no_more(world, orphan):
    """As the provider says as well."""
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    world.provider.batches.clear()
    world.clock.advance(3600)

    await world.resolver.absent(orphan, world.provider)

    assert world.deployment.registry.budgets._directory.names("month/2026-11/c") == []


async def test_a_landed_batch_that_was_not_taken_off_the_list_counts_as_what_it_cost(world, orphan):
    """The worker died between its rows and the entry."""
    entry = world.deployment.registry.get(orphan)
    world.provider.polls_until_done = 0
    world.states[TASK] = "waiting"
    await world.job(model="openai:gpt-5-mini").retry()
    world.deployment.registry.enter(entry)

    assert (await world.reconcile())[0].action == "forget"

    book = world.deployment.registry.budgets
    (budget,) = book.all()
    assert list(book.use(budget).spent) == [orphan]
    assert reserved(world) == []
