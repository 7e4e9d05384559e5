"""A person settles a claim that nobody could decide: adopt a batch, or declare it absent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from world import TASK

from airflow_batch_provider.exceptions import Unresolved, UsageError
from airflow_batch_provider.fleet.reconcile import receipt_of
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.models import RequestCounts
from airflow_batch_provider.providers.base import Candidate


@pytest.fixture
async def lost(world):
    """A failed task whose claim has no receipt; its batch is `batch-0`. Returns the tag."""
    await world.job().start()
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    (tag,) = world.tags
    (entry,) = world.deployment.registry.entries()
    world.deployment.registry.enter(entry.model_copy(update={"batch_id": None}))
    world.states[TASK] = "over"
    world.clock.advance(120)
    return tag


def shown(world, **changes):
    """Let the provider show its batches with these fields changed."""
    asked = world.provider.status

    async def status(batch_id):
        return (await asked(batch_id)).model_copy(update=changes)

    world.provider.status = status


async def test_an_adopted_batch_is_what_the_cleared_task_goes_on_with(world, lost):
    """Nothing more is bought."""
    receipt = await world.resolver.adopt(lost, "batch-0", world.provider)

    assert (receipt.batch_id, receipt.tentative) == ("batch-0", False)
    (entry,) = world.deployment.registry.entries()
    assert (entry.batch_id, entry.tentative) == ("batch-0", False)
    world.provider.polls_until_done = 0
    manifest = await world.job().retry()
    assert manifest.counts["succeeded"] == 2
    assert list(world.provider.batches) == ["batch-0"]


async def test_an_adopted_batch_counts_for_the_month_whose_budget_let_it_in(world, lost):
    """The registry knows when its money was set aside, and the receipt takes it over."""
    (entry,) = world.deployment.registry.entries()
    reserved_at = entry.claimed_at - timedelta(days=40)
    world.deployment.registry.enter(entry.model_copy(update={"reserved_at": reserved_at}))

    receipt = await world.resolver.adopt(lost, "batch-0", world.provider)

    assert receipt.reserved_at == reserved_at


async def test_to_adopt_the_same_batch_twice_is_not_an_error(world, lost):
    """The first time may have been interrupted after the receipt."""
    first = await world.resolver.adopt(lost, "batch-0", world.provider)

    assert await world.resolver.adopt(lost, "batch-0", world.provider) == first


async def test_a_receipt_that_was_written_meanwhile_stands(world, lost):
    """A person's word comes too late; the message says where to look."""
    files_of = world.deployment.files
    asked = world.provider.status

    async def overtaken(batch_id):
        status = await asked(batch_id)
        (entry,) = world.deployment.registry.entries()
        files_of(entry).add_receipt(receipt_of(entry, "batch-7"))
        return status

    world.provider.status = overtaken

    with pytest.raises(UsageError, match=r"was given a receipt a moment ago\. See: airflow batches list"):
        await world.resolver.adopt(lost, "batch-0", world.provider)
    (entry,) = world.deployment.registry.entries()
    assert (files_of(entry).receipt().batch_id, entry.batch_id) == ("batch-7", None)


async def test_a_batch_without_tag_is_adopted_until_its_results_say_otherwise(world, lost):
    """Anthropic keeps none: the receipt is tentative."""
    shown(world, tag=None, counts=RequestCounts(total=2))

    assert (await world.resolver.adopt(lost, "batch-0", world.provider)).tentative
    (entry,) = world.deployment.registry.entries()
    assert entry.tentative


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tag": None, "counts": RequestCounts(total=7)}, "'batch-0' has 7 requests, not 2 like '{tag}'"),
        ({"tag": None}, "'batch-0' does not say its number of requests yet"),
        ({"tag": "other"}, "carries the tag 'other', not '{tag}'"),
        ({"created_at": "before"}, "was created 2026-11-22 08:02:00, before the claim of 2026-11-23 08:00:00"),
    ],
)
async def test_a_batch_that_cannot_be_it_is_refused(world, lost, changes, why):
    """The message says why and what else can be said."""
    if "created_at" in changes:
        changes = {"created_at": world.clock.now() - timedelta(days=1)}
    shown(world, **changes)

    with pytest.raises(UsageError) as caught:
        await world.resolver.adopt(lost, "batch-0", world.provider)

    assert why.format(tag=lost) in str(caught.value)
    assert f"airflow batches absent {lost}" in str(caught.value) or "Try again" in str(caught.value)
    assert not world.job().root.joinpath("waves/0/00000.receipt.json").exists()


async def test_a_neighbours_batch_is_refused(world, lost):
    """Another claim has it."""
    (entry,) = world.deployment.registry.entries()
    world.deployment.registry.enter(entry.model_copy(update={"tag": "0" * 12 + "-0-00000", "batch_id": "batch-0"}))

    with pytest.raises(UsageError, match="belongs to another open claim"):
        await world.resolver.adopt(lost, "batch-0", world.provider)


async def test_an_unknown_batch_or_tag_is_refused(world, lost):
    """Each with where to look."""
    with pytest.raises(
        UsageError, match=r"knows no batch 'batch-9' under this connection\..*check that the connection is"
    ):
        await world.resolver.adopt(lost, "batch-9", world.provider)
    with pytest.raises(UsageError, match=r"has the tag '../../x'; `airflow batches list`.*Give --storage-path when"):
        await world.resolver.adopt("../../x", "batch-0", world.provider)


@pytest.mark.parametrize("word", ["adopt", "absent"])
async def test_a_task_that_is_at_work_settles_its_claims_itself(world, lost, word):
    """A person's word could come between its claim and its receipt."""
    world.states[TASK] = "waiting"
    more = ["batch-0"] if word == "adopt" else []

    with pytest.raises(UsageError, match=r"has not ended.*mark it failed first\."):
        await getattr(world.resolver, word)(lost, *more, world.provider)


async def test_an_absent_batch_is_bought_when_the_task_is_cleared(world, lost):
    """The claim goes, and with it the entry."""
    world.provider.batches.clear()
    world.provider.bought.clear()

    await world.resolver.absent(lost, world.provider)

    assert world.tags == []
    world.provider.polls_until_done = 0
    assert (await world.job().retry()).counts["succeeded"] == 2
    assert set(world.provider.bought.values()) == {1}


async def test_a_batch_that_the_provider_surely_has_is_not_absent(world, lost):
    """It would be bought twice."""
    with pytest.raises(UsageError, match=f"has batch 'batch-0' under the tag .*: airflow batches adopt {lost} batch-0"):
        await world.resolver.absent(lost, world.provider)

    assert world.tags == [lost]


async def test_what_only_looks_alike_does_not_hinder_a_persons_word(world, lost):
    """That is what the person was asked about; nor does a list that is too long."""

    async def find(_claim):
        return [Candidate("batch-7", certain=False)]

    async def endless(_claim):
        raise Unresolved("pages do not reach back")

    for search in (find, endless):
        world.provider.find = search
        (entry,) = world.deployment.registry.entries()
        claims = BatchFiles(world.job().directory.sub("waves/0"), 0)
        claim = claims.claim()

        await world.resolver.absent(lost, world.provider)

        assert claims.claim() is None
        claims.add_claim(claim.model_copy(update={"number": claims.next_claim()}))
        world.deployment.registry.enter(entry)


async def test_a_young_claim_cannot_be_declared_absent(world):
    """The provider may not show the batch yet."""
    await world.job().start()
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    world.states[TASK] = "over"
    world.clock.advance(59)

    with pytest.raises(UsageError, match=r"claimed 59 s ago and may not be visible yet\. Wait a minute"):
        await world.resolver.absent(world.tags[0], world.provider)
    world.clock.advance(1)
    world.provider.batches.clear()
    await world.resolver.absent(world.tags[0], world.provider)


async def test_a_settled_batch_stays_as_it_is(world, lost):
    """A receipt was written; the message names it."""
    await world.resolver.adopt(lost, "batch-0", world.provider)
    for call in (
        world.resolver.absent(lost, world.provider),
        world.resolver.adopt(lost, "batch-1", world.provider),
    ):
        with pytest.raises(UsageError, match="is settled: it is 'batch-0'"):
            await call


async def test_a_batch_that_is_gone_from_its_provider_is_bought_again_after_a_word(world):
    """The task stopped as unresolved; its message names this command."""
    await world.job().start()
    (tag,) = world.tags
    world.provider.batches.clear()
    world.clock.advance(601)
    with pytest.raises(Unresolved, match=f"again: airflow batches absent {tag}, then clear the task"):
        await world.job().start()
    world.states[TASK] = "over"

    await world.resolver.absent(tag, world.provider)

    world.provider.polls_until_done = 0
    world.states[TASK] = "waiting"
    manifest = await world.job().retry()
    assert manifest.counts["succeeded"] == 2
    assert world.provider.bought == {"a": 2, "b": 2}


async def test_a_batch_that_may_only_not_be_visible_yet_is_not_declared_gone(world):
    """Ten minutes from its submit, to the second."""
    await world.job().start()
    world.provider.batches.clear()
    world.states[TASK] = "over"
    world.clock.advance(600)

    with pytest.raises(UsageError, match="is settled: it is 'batch-0'"):
        await world.resolver.absent(world.tags[0], world.provider)
    world.clock.advance(1)
    await world.resolver.absent(world.tags[0], world.provider)


async def test_a_word_that_was_cut_off_can_be_said_again(world, monkeypatch):
    """The receipt goes first: a claim without one is searched for, whoever comes next."""
    await world.job().start()
    (tag,) = world.tags
    world.provider.batches.clear()
    world.states[TASK] = "over"
    world.clock.advance(601)

    def killed(_self, _claim):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchFiles, "withdraw", killed)
        with pytest.raises(KeyboardInterrupt):
            await world.resolver.absent(tag, world.provider)

    await world.resolver.absent(tag, world.provider)
    assert BatchFiles(world.job().directory.sub("waves/0"), 0).claim() is None
    assert world.tags == []


async def test_a_claim_that_was_withdrawn_needs_no_word(world, lost):
    """The entry alone is left."""
    world.job().root.joinpath("waves/0/00000.claim.json").unlink()

    with pytest.raises(UsageError, match="is not claimed any more"):
        await world.resolver.adopt(lost, "batch-0", world.provider)
