"""Several batches of one task are submitted at once, and bought as if they were submitted one after the other."""

from __future__ import annotations

import asyncio

import pytest
from fakes import Killed
from virtual_time import without_threads

from airflow_batch_provider.exceptions import Paused, Rejected, Unavailable
from airflow_batch_provider.ledger import submit as submitting
from airflow_batch_provider.ledger.side_by_side import side_by_side
from airflow_batch_provider.stages import Suspended

PROMPTS = ["a", "b", "c", "d", "e", "f"]


class Script:
    """Submits that do as they are told, and what became of them."""

    def __init__(self, *ends):
        self.ends = ends
        self.begun, self.done = [], []
        self.running = self.most = 0

    def submits(self):
        for number, end in enumerate(self.ends):
            yield self._submit(number, end)

    async def _submit(self, number, end):
        self.begun.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if isinstance(end, BaseException):
                raise end
            for _ in range(end):
                await asyncio.sleep(0)
            self.done.append(number)
        finally:
            self.running -= 1


async def test_the_first_goes_alone_and_then_so_many_at_once():
    """In their order."""
    script, alone = Script(5, 1, 1, 1, 1), []

    def watched():
        for submit in script.submits():
            alone.append(script.running)
            yield submit

    await side_by_side(watched(), 3)

    assert script.begun == [0, 1, 2, 3, 4]
    assert alone[:2] == [0, 0]
    assert script.most == 3


async def test_a_refused_first_one_is_the_only_one():
    """What is wrong with it is wrong with the others as well, most often."""
    script = Script(Rejected("no such model"), 1, 1)

    with pytest.raises(Rejected):
        await side_by_side(script.submits(), 3)

    assert script.begun == [0]


async def test_after_a_fault_no_other_begins_and_those_under_way_end():
    """So each has its receipt, or a fault of its own."""
    script = Script(0, Rejected("bad"), 9, 1, 1)

    with pytest.raises(Rejected, match="bad"):
        await side_by_side(script.submits(), 2)

    assert script.begun == [0, 1, 2]
    assert script.done == [0, 2]


@pytest.mark.parametrize("order", [1, -1])
async def test_of_several_faults_one_that_does_not_pass_is_told_and_the_other_is_logged(order, caplog):
    """Whichever came first."""
    script = Script(0, *[Unavailable("busy"), Paused("no credit")][::order])

    with pytest.raises(Paused):
        await side_by_side(script.submits(), 2)

    assert "busy" in caplog.text


async def test_what_keeps_the_next_one_from_beginning_lets_those_under_way_end():
    """A storage that fails while the next one is looked up, say."""
    script = Script(0, 5)

    def failing():
        yield from script.submits()
        raise OSError("the storage fails now")

    with pytest.raises(OSError, match="fails now"):
        await side_by_side(failing(), 3)

    assert script.done == [0, 1]


async def test_a_death_takes_all_with_it():
    """None of them does anything more: their claims tell the next worker."""
    script = Script(0, 50, Killed(), 50)

    with pytest.raises(Killed):
        await side_by_side(script.submits(), 3)

    assert script.done == [0]
    assert script.running == 0


async def test_a_cancelled_worker_leaves_none_running():
    """As Airflow ends a task."""
    script = Script(0, 10**9, 10**9)
    work = asyncio.create_task(side_by_side(script.submits(), 2))
    await asyncio.sleep(0.01)
    assert script.begun == [0, 1, 2]

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert script.running == 0


# the batches of a task


@pytest.fixture(autouse=True)
def in_place():
    """Packing takes no time, so that an upload meets the one before it."""
    with without_threads(lambda: 0):
        yield


def at_chunk(provider, faults):
    """Let the first create of a chunk of this number end in a fault; a pair of one and `after` has bought the batch."""
    create = provider.create

    async def struck(prepared):
        provider.submit_faults = [faults.pop(int(prepared.payload.tag.rpartition("-")[2]), None)]
        return await create(prepared)

    provider.create = struck


def many(job, provider, **config):
    provider.max_requests = 1
    task = job(**config)
    task.requests = PROMPTS
    return task


async def test_batches_of_a_task_are_uploaded_two_at_a_time(job, provider):
    """Each is bought once."""
    manifest = await many(job, provider).run()

    assert provider.most_uploading == 2
    assert provider.bought == dict.fromkeys(PROMPTS, 1)
    assert manifest.counts["succeeded"] == 6


async def test_batches_are_packed_one_after_the_other_in_their_order(job, provider):
    """In threads of which a later one would end first."""
    pack, packing, most = submitting._Submission._pack, [], []

    async def to_thread(call, *args, **kwargs):
        if getattr(call, "__func__", None) is not pack:
            return call(*args, **kwargs)
        packing.append(args[0])
        most.append(len(packing))
        for _ in range(100 if args[0].endswith("-00001") else 1):
            await asyncio.sleep(0)
        packing.remove(args[0])
        return call(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:  # undone before `in_place`, which patches the same
        patch.setattr(asyncio, "to_thread", to_thread)
        await many(job, provider).start()

    assert set(most) == {1}
    assert list(provider.bought) == PROMPTS


async def test_without_tags_one_batch_is_submitted_at_a_time(job, provider, monkeypatch):
    """What is seen after a lost reply could be any of them otherwise."""
    monkeypatch.setattr(type(provider), "keeps_tags", False)

    await many(job, provider).run()

    assert provider.most_uploading == 1


async def test_a_place_is_taken_when_a_batch_is_on_its_way(job, provider):
    """So no more are at the provider than may be, however many are uploaded at once."""
    task = many(job, provider, max_in_flight=4)

    await task.start()

    assert len(provider.batches) == 4


@pytest.mark.parametrize("refusal", [Rejected("bad"), Paused("no credit")])
async def test_a_refusal_in_the_middle_keeps_what_was_bought_beside_it(job, provider, refusal):
    """The batch beside it has its receipt, those behind it are not begun, and the next attempt buys the rest."""
    at_chunk(provider, {1: refusal})
    task = many(job, provider)

    with pytest.raises(type(refusal)):
        await task.start()

    assert provider.bought == {"a": 1, "c": 1}
    assert (await task.retry()).counts["succeeded"] == 6
    assert provider.bought == dict.fromkeys(PROMPTS, 1)


async def test_a_busy_provider_in_the_middle_lets_the_task_come_back(job, provider):
    """The worker leaves, and buys the rest later."""
    at_chunk(provider, {1: Unavailable("429", retry_after=900, ambiguous=False)})
    task = many(job, provider)

    suspended = await task.start()

    assert isinstance(suspended, Suspended)
    assert provider.bought == {"a": 1, "c": 1}
    await task.wait(suspended)
    assert (await task.run()).counts["succeeded"] == 6
    assert provider.bought == dict.fromkeys(PROMPTS, 1)


async def test_two_lost_replies_at_once_are_both_looked_for(job, provider):
    """The provider has one of the two batches, and not the other."""
    at_chunk(provider, {1: (Unavailable("cut"), "after"), 2: Unavailable("cut")})

    manifest = await many(job, provider).run()

    assert provider.bought == dict.fromkeys(PROMPTS, 1)
    assert manifest.counts["succeeded"] == 6
