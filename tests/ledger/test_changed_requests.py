"""The requests change while an old worker still runs: it neither disturbs nor feeds what its successor asks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import START, Killed, failing
from ledgers import plan_of, policy_of
from upath import UPath

from airflow_batch_provider.exceptions import Overtaken
from airflow_batch_provider.ledger import Ledger, LedgerContext, Plan, Wave
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.current_wave import CurrentWave
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.ledger.later_waves import LaterWaves
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.ledger.wave import WaveRun
from airflow_batch_provider.models import Reply, Spec
from airflow_batch_provider.records import load, save
from airflow_batch_provider.storage import Directory

GOOD = Reply(key="", status="succeeded", output="fine")
STRANGE = "0123456789ab"


@pytest.fixture
def root(tmp_path):
    return Directory(UPath(tmp_path / "storage"))


@pytest.fixture
def work(root, provider, clock):
    """What a worker that begins now works with: `work(attempt)`; the next one begins a second later."""

    def begin(attempt, **policy):
        clock.advance(1)
        return LedgerContext(
            root=root,
            provider=provider,
            spec=Spec(model="m"),
            policy=policy_of(**policy),
            clock=clock,
            label="dag/run/task",
            attempt=attempt,
        )

    return begin


def files(root):
    return {name: root.names(name) for name in ("", "waves/0", "superseded")}


def test_a_zombie_does_not_set_aside_what_its_successor_planned(work, root):
    """It was given the requests of yesterday, and wakes up when those of today are planned."""
    zombie, successor = Ledger(work(1)), Ledger(work(2))
    planned = plan_of(successor, "new")
    before = files(root)

    with pytest.raises(Overtaken, match="began later asks other requests"):
        plan_of(zombie, "old")

    assert successor.plan() == planned
    assert files(root) == before


def test_a_worker_that_begins_after_a_plan_may_set_it_aside(work, root):
    """However the tries are counted: a run that was deleted and made again begins at one again."""
    old = plan_of(Ledger(work(3)), "old")

    new = plan_of(Ledger(work(1)), "new")

    assert root.names("superseded") == [old.nonce]
    assert load(root, "plan.json", Plan) == new


def test_a_zombie_does_not_plan_while_its_successor_sets_old_requests_aside(work, root):
    """For a moment there is no plan; it must not be filled by the one that knows the old requests only."""
    zombie = Ledger(work(2))

    def slow():
        yield "old"
        root.write("superseded/x/plan.json", b"")

    assert zombie.current_plan(["old"]) is None

    with pytest.raises(Overtaken, match="began later"):
        with zombie.draft(slow()) as draft:
            draft.commit()

    assert root.names("waves/0") == []
    assert zombie.plan() is None


def test_requests_that_are_being_set_aside_are_not_planned_again(work, root):
    """Its successor has moved the first files of the old plan; their answers are good, and paid."""
    plan_of(Ledger(work(1)), "old")
    zombie = Ledger(work(2))
    root.move("waves", "superseded/x/waves")

    with pytest.raises(Overtaken, match="is setting these requests aside"):
        plan_of(zombie, "old")

    assert root.names("waves/0") == []


async def test_a_zombie_opens_no_wave_after_its_plan_was_set_aside(work, root, provider):
    """Its successor would ask the rows of that wave under keys of its own."""
    provider.answer = lambda _body, _n: failing()
    provider.polls_until_done = 0
    zombie = work(1, retry_rows=1)
    old = plan_of(Ledger(zombie), "old")
    waves = TaskFiles(root).waves()
    new = plan_of(Ledger(work(2)), "new")

    with pytest.raises(Overtaken, match="began later"):
        LaterWaves(zombie).open_next(old, waves)

    assert TaskFiles(root).waves() == [new.first]
    assert root.names("waves/1") == []


async def test_a_wave_that_another_worker_opened_first_is_gone_on_with(work, root, provider):
    """Its rows are the same; the request files of the one that came late are removed."""
    provider.answer = lambda _body, _n: failing()
    provider.polls_until_done = 0
    first, second = work(1, retry_rows=1), work(1, retry_rows=1)
    own = plan_of(Ledger(first), "a", "b")
    await Ledger(first).advance()
    await WaveRun(CurrentWave(first, own, TaskFiles(root).waves())).drive()
    waves = TaskFiles(root).waves()
    opened = LaterWaves(first).open_next(own, waves)
    before = root.names("waves/1")

    assert LaterWaves(second).open_next(own, waves) == opened
    assert root.names("waves/1") == before


async def test_a_wave_of_other_requests_is_replaced(work, root, provider):
    """A zombie left it, between two steps of its successor."""
    provider.answer = lambda _body, n: failing() if n == 1 else GOOD
    provider.polls_until_done = 0
    ledger = Ledger(work(1, retry_rows=1))
    own = plan_of(ledger, "a", "b")
    save(root, "waves/1/wave.json", Wave(nonce=STRANGE, number=1, attempt=9, opened_at=START, chunks=()))

    await ledger.advance()
    await ledger.advance()
    await ledger.advance()

    assert [wave.nonce for wave in TaskFiles(root).waves()] == [own.nonce, own.nonce]
    assert provider.bought == {"a": 2, "b": 2}


async def test_a_claim_of_other_requests_is_replaced(work, root, provider):
    """Its batch may be there, but its answers are to other rows."""
    ledger = Ledger(work(2))
    own = plan_of(ledger, "a")
    strange = Claim(tag=f"{STRANGE}-0-00000", requests=1, claimed_at=START, attempt=1, owner="zombie")
    save(root, "waves/0/00000.claim.json", strange)

    await ledger.advance()

    (batch,) = provider.batches.values()
    assert batch.tag == own.tag(0, 0, 0)
    assert BatchFiles(root.sub("waves/0"), 0).claim().tag == batch.tag


async def test_a_receipt_of_other_requests_is_not_landed(work, root, provider):
    """Right index, wrong question."""
    ledger = Ledger(work(2))
    own = plan_of(ledger, "a")
    strange = Receipt(batch_id="theirs", tag=f"{STRANGE}-0-00000", requests=1, submitted_at=START)
    save(root, "waves/0/00000.receipt.json", strange)

    assert ledger.receipts() == []
    waiting = await ledger.advance()

    assert waiting.batch_ids == ("batch-0",)
    assert load(root, "waves/0/00000.receipt.json", Receipt).tag == own.tag(0, 0, 0)


async def test_a_zombie_leaves_its_successors_claim_alone(work, root, provider):
    """The claim is of other requests, but the zombie is the one that is out of date."""
    zombie = work(1)
    old = plan_of(Ledger(zombie), "old")
    successor = Ledger(work(2))
    plan_of(successor, "new")
    await successor.advance()
    root.delete("waves/0/00000.receipt.json")
    claim = root.read("waves/0/00000.claim.json")

    with pytest.raises(Overtaken, match="took over"):
        await WaveRun(CurrentWave(zombie, old, [old.first])).drive()

    assert root.read("waves/0/00000.claim.json") == claim
    assert provider.bought == {"new": 1}


@pytest.mark.parametrize("moment", ["while_preparing", "while_creating"])
async def test_a_worker_whose_requests_are_set_aside_while_it_submits_leaves_no_batch(job, provider, clock, moment):
    """Before the create it stops; after it, it cancels what it created."""
    provider.submit_faults = [None]
    zombie, successor = job(["old"]), job(["new"])

    async def overtake():
        root = zombie.directory
        clock.advance(1)
        root.move("waves/0/00000.claim.json", "claim.json")  # the successor looked before the claim was made
        suspended.append(await successor.start())
        if moment == "while_preparing":
            root.move("claim.json", "waves/0/00000.claim.json")

    suspended = []
    setattr(provider, moment, [overtake])
    with pytest.raises(Overtaken, match=r"took (over|batch)"):
        await zombie.start()

    live = [batch for batch in provider.batches.values() if batch.status == "processing"]
    assert [batch.bodies[0]["prompt"] for batch in live] == ["new"]
    await successor.wait(suspended[0])
    manifest = await successor.resume(suspended[0])
    assert [found["output"] for found in successor.rows(manifest)] == ["echo: new"]


async def test_rows_that_a_zombie_lands_late_are_not_the_answers_to_new_requests(job, provider, clock, monkeypatch):
    """It stood still with the rows in its hand, while all was asked again."""
    zombie, other, successor = job(["old"]), job(["old"]), job(["new"])
    suspended = await zombie.start()
    await zombie.wait(suspended)
    publish, met = Directory.publish, []

    async def all_again():
        await other.resume(suspended)
        clock.advance(1)
        successor.attempt = 2
        return await successor.start()

    def slow(self, local, name):
        if name.endswith(".rows.jsonl") and not met:
            met.append(None)
            with ThreadPoolExecutor(1) as pool:
                met[0] = pool.submit(asyncio.run, all_again()).result()
        publish(self, local, name)

    monkeypatch.setattr(Directory, "publish", slow)
    with pytest.raises((Overtaken, FileNotFoundError)):
        await zombie.resume(suspended)

    await successor.wait(met[0])
    manifest = await successor.resume(met[0])
    assert [row["output"] for row in successor.rows(manifest)] == ["echo: new"]


def test_a_zombie_that_planned_first_removes_no_files_of_a_later_plan(work, root, monkeypatch):
    """It stood still between its plan and the removal of what others had drafted."""
    create, plans = Directory.create, []
    root.write("waves/0/00000-other.requests.jsonl", b"{}")

    def slow(self, name, data):
        made = create(self, name, data)
        if name == "plan.json" and not plans:
            plans.append(None)
            plans[0] = plan_of(Ledger(work(2)), "new")
        return made

    monkeypatch.setattr(Directory, "create", slow)
    plan_of(Ledger(work(1)), "old")

    (chunk,) = plans[0].first.chunks
    assert f"00000-{chunk.draft}.requests.jsonl" in root.names("waves/0")


def test_a_plan_that_was_made_although_the_storage_failed_keeps_its_request_files(work, root, monkeypatch):
    """The answer to the write was lost: the next attempt finds a whole plan and goes on with it."""
    create = Directory.create

    def lost(self, name, data):
        create(self, name, data)
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "create", lost)
        with pytest.raises(OSError, match="reset"):
            plan_of(Ledger(work(1)), "a")

    plan = load(root, "plan.json", Plan)
    assert plan_of(Ledger(work(2)), "a") == plan


def test_a_draft_that_is_not_committed_leaves_nothing(work, root):
    """Whether the block ends or raises; a price was asked, no more."""
    ledger = Ledger(work(1))

    with ledger.draft(["a"]):
        assert root.names("waves/0")
    with pytest.raises(ValueError, match="too dear"), ledger.draft(["a"]):
        raise ValueError("too dear")

    assert root.names("waves/0") == []
    assert ledger.plan() is None


def test_a_worker_that_is_killed_while_it_drafts_only_stops(work, root):
    """What it has written is the next attempt's to delete; a kill that waits for a slow storage is a kill too late."""
    with pytest.raises(Killed), Ledger(work(1)).draft(["a"]):
        raise Killed
    assert root.names("waves/0")

    (chunk,) = plan_of(Ledger(work(2)), "a").first.chunks

    assert {name.split(".")[0] for name in root.names("waves/0")} == {f"00000-{chunk.draft}"}


def test_of_two_workers_that_plan_at_once_the_second_is_told_so_and_leaves_nothing(work, root):
    """The plan of the first is the one that both go on with."""
    with Ledger(work(1)).draft(["a"]) as first, Ledger(work(1)).draft(["a"]) as second:
        assert first.commit()
        assert not second.commit()

    assert Ledger(work(1)).plan() == first.plan
    (chunk,) = first.plan.first.chunks
    assert {name.split(".")[0] for name in root.names("waves/0")} == {f"00000-{chunk.draft}"}


def test_a_zombie_that_slept_before_it_looked_for_a_plan_plans_nothing(work, root):
    """There is none: its successor has set the old plan aside and is about to ask other requests."""
    plan_of(Ledger(work(1)), "old")
    zombie = Ledger(work(2))
    successor = Ledger(work(3))
    assert successor.current_plan(["new"]) is None

    assert zombie.current_plan(["old"]) is None
    with pytest.raises(Overtaken, match="began later"), zombie.draft(["old"]) as draft:
        draft.commit()

    assert plan_of(successor, "new") == successor.plan()
