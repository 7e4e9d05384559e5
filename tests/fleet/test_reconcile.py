"""Batches that nobody waits for are found, cancelled, adopted or forgotten; those that a task waits for are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes import FakeProvider
from pydantic import SecretStr
from upath import UPath
from world import TASK, World

from airflow_batch_provider.exceptions import Denied, Unavailable, UsageError
from airflow_batch_provider.fleet.findings import Finding, counts
from airflow_batch_provider.fleet.reconcile import Reconciler
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account, TaskKey
from airflow_batch_provider.providers import connect
from airflow_batch_provider.providers.base import Candidate
from airflow_batch_provider.stages import Suspended

MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5-mini", "google": "gemini-2.5-flash"}


@pytest.fixture
def batch_emulator_settings(batch_emulator_settings):
    from airflow_batch_provider.emulator.settings import Progress, Settings

    return Settings(progress=Progress(by="time", pending=1, running=3600, finalizing=1, settle=2))


@pytest.fixture(params=MODELS)
async def wire(request, tmp_path, clock, batch_emulator):
    """A world whose provider is the emulator, over HTTP and the real SDK."""
    clock.advance(batch_emulator.clock.now() - clock.now().timestamp())
    urls = {"anthropic": batch_emulator.anthropic_url, "google": batch_emulator.google_url}
    account = Account(
        provider=request.param,
        api_key=SecretStr("k"),
        base_url=urls.get(request.param, batch_emulator.openai_url),
    )

    async def open_account(_):
        return account

    hub, provider = Hub(open_account, sleep=clock.sleep), connect(account)
    world = World(tmp_path / "batches", clock, provider, hub)
    world.emulator = batch_emulator
    world.job_options = {"model": MODELS[request.param], "conn_id": request.param}
    yield world
    await provider.aclose()
    await hub.aclose()


# over HTTP, for each provider


@pytest.mark.parametrize("state", ["over", "gone"])
async def test_a_batch_whose_task_ended_unseen_is_cancelled(wire, state):
    """Nobody's triggerer was up; the provider stops, and the registry forgets the batch when it has ended."""
    assert isinstance(await wire.job(**wire.job_options).start(), Suspended)
    wire.states[TASK] = state

    (finding,) = await wire.reconcile()

    assert (finding.action, finding.done, finding.task) == ("cancel", True, state)
    assert wire.phases == ["cancelling"]
    assert len(wire.tags) == 1
    (finding,) = await _when_settled(wire)
    assert (finding.action, finding.done) == ("forget", True)
    assert wire.tags == []


async def _when_settled(world):
    for _ in range(5):
        found = await world.reconcile()
        if found and found[0].action == "forget":
            return found
        world.emulator.clock.advance(10)
    raise AssertionError("never settled")


async def test_a_batch_that_a_task_waits_for_is_left_alone(wire):
    """Deferred, queued, running, up for retry: whatever the state, the task polls again."""
    suspended = await wire.job(**wire.job_options).start()
    wire.states[TASK] = "waiting"

    (finding,) = await wire.reconcile()

    assert (finding.action, finding.batch_id) == ("keep", suspended.state.batch_id)
    assert not (await wire.provider.status(finding.batch_id)).ended
    assert len(wire.tags) == 1


async def test_a_batch_without_receipt_is_found_at_the_provider(wire):
    """Its answer was lost with the worker: by its tag where there is one, else a person is told the candidates."""
    job = wire.job(**wire.job_options)
    await job.start()
    receipt = job.root / "waves" / "0" / "00000.receipt.json"
    receipt.unlink()
    wire.states[TASK] = "over"

    (found,) = await wire.inspect(grace=timedelta(hours=1))
    if not wire.provider.keeps_tags:
        assert found.action == "report"
        assert "airflow batches adopt" in found.why
        return
    assert found.action == "adopt"
    await wire.reconcile(grace=timedelta(hours=1))

    assert receipt.exists()
    assert (await wire.reconcile(grace=timedelta(hours=1)))[0].action == "keep"


async def test_an_orphan_is_reported_and_cancelled_only_on_demand(wire):
    """A tag like ours without an entry may be another deployment's."""
    await wire.job(**wire.job_options).start()
    (tag,) = wire.tags
    wire.deployment.registry.leave(tag)

    told = await wire.reconcile()
    if not wire.provider.keeps_tags:
        assert told == []
        return
    assert [(one.action, one.tag, one.label, one.done) for one in told] == [("report", tag, None, False)]
    assert "the registry does not have it" in told[0].why
    assert not (await wire.provider.status(told[0].batch_id)).ended
    (cancelled,) = await wire.reconcile(cancel_orphans=True)
    assert (cancelled.action, cancelled.done) == ("cancel", True)
    assert wire.phases == ["cancelling"]


@pytest.mark.parametrize("act", [False, True])
async def test_accounts_are_looked_through_and_acted_on_when_told_to(wire, act):
    """From the connections alone, as the command and the operator do."""
    await wire.job(**wire.job_options).start()
    wire.states[TASK] = "over"
    reconciler = Reconciler(wire.deployment, wire.ask, wire.clock)

    (finding,) = await reconciler.run([wire.provider.account], act=act)

    assert (finding.action, finding.done) == ("cancel", act)
    assert (wire.phases == ["cancelling"]) is act


# the rest, on a provider in memory


async def test_looking_changes_nothing(world):
    """Neither at the provider nor in storage."""
    await world.job().start()
    world.states[TASK] = "over"
    before = sorted(path.name for path in UPath(str(world.deployment.storage.root)).rglob("*"))

    (finding,) = await world.inspect(grace=timedelta(hours=1))

    assert finding.done is False
    assert sorted(path.name for path in UPath(str(world.deployment.storage.root)).rglob("*")) == before
    assert world.provider.batches["batch-0"].status == "processing"


@pytest.mark.parametrize("state", ["over", "gone"])
async def test_grace_counts_from_when_the_task_was_first_seen_to_be_over(world, state):
    """Time for a person to clear it; a task that waited again meanwhile begins again."""
    await world.job().start()
    world.states[TASK] = state
    grace = timedelta(hours=1)
    assert (await world.reconcile(grace=grace))[0].action == "keep"
    world.clock.advance(3000)
    world.states[TASK] = "waiting"
    await world.reconcile(grace=grace)
    world.states[TASK] = state
    world.clock.advance(3000)
    assert (await world.reconcile(grace=grace))[0].action == "keep"
    world.clock.advance(3601)

    (finding,) = await world.reconcile(grace=grace)

    assert (finding.action, finding.done) == ("cancel", True)
    assert world.provider.batches["batch-0"].status == "cancelled"


@pytest.mark.parametrize("state", ["over", "gone"])
async def test_a_task_that_is_cleared_between_report_and_act_keeps_its_batch(world, state):
    """The state is asked once more right before the cancel."""
    await world.job().start()
    world.states[TASK] = state
    reconciler = world._reconciler({})
    findings = await reconciler.examine([world.provider])
    world.states[TASK] = "waiting"

    (finding,) = await reconciler.act(findings, [world.provider])

    assert (finding.action, finding.done, finding.why) == ("keep", False, "Its task took it up again.")
    assert world.provider.batches["batch-0"].status == "processing"


async def test_a_cleared_task_lands_what_was_cancelled_and_buys_only_the_rest(world):
    """The reconciler's cancel costs time, never money."""
    job = world.job(retry_rows=1)
    await job.start()
    world.states[TASK] = "over"
    await world.reconcile()

    world.provider.polls_until_done = 0
    manifest = await job.retry()

    assert manifest.counts["succeeded"] == 2
    assert world.tags == []


async def test_a_batch_that_was_left_on_purpose_runs_on(world):
    """`on_timeout='leave'` says so; cancelled as a whole only when the run is deleted."""
    job = world.job(on_timeout="leave")
    suspended = await job.start()
    with pytest.raises(Exception, match="go on running"):
        await job.overdue(suspended)
    world.states[TASK] = "over"
    assert (await world.reconcile())[0].action == "keep"
    world.states[TASK] = "gone"

    assert (await world.reconcile())[0].action == "cancel"


async def test_a_batch_whose_task_died_before_its_deadline_was_not_left_on_purpose(world):
    """`on_timeout='leave'` speaks of the deadline, which the task still counted to."""
    await world.job(on_timeout="leave").start()
    world.states[TASK] = "over"

    assert (await world.reconcile())[0].action == "cancel"


async def test_killed_between_landing_and_leaving_the_entry_is_forgotten(world):
    """The rows are here: nothing is looked up."""
    job = world.job()
    await job.start()
    (job.root / "waves" / "0" / "00000.rows.jsonl").write_text("")
    world.states[TASK] = "waiting"

    (finding,) = await world.reconcile()

    assert (finding.action, finding.done) == ("forget", True)
    assert world.tags == []


async def test_a_claim_that_no_batch_belongs_to_is_forgotten_when_it_is_old(world):
    """Killed before the provider had it; a young one may only not be visible yet."""
    await world.job().start()
    (tag,) = world.tags
    world.provider.batches.clear()
    receipt = world.job().root / "waves" / "0" / "00000.receipt.json"
    receipt.unlink()
    world.states[TASK] = "over"
    assert (await world.reconcile())[0].action == "keep"
    world.clock.advance(601)

    (finding,) = await world.reconcile()

    assert (finding.action, finding.tag, world.tags) == ("forget", tag, [])


async def test_a_batch_that_is_adopted_is_noted_for_all(world):
    """A neighbour does not take it for its own; the provider's time of the claim stays with it."""
    theirs = world.clock.now() - timedelta(hours=1)
    world.provider.now = lambda: theirs
    await world.job().start()
    (entry,) = world.deployment.registry.entries()
    world.deployment.registry.enter(entry.model_copy(update={"batch_id": None}))
    receipt = world.job().root.joinpath("waves/0/00000.receipt.json")
    receipt.unlink()
    world.states[TASK] = "over"

    (finding,) = await world.reconcile(grace=timedelta(hours=1))

    assert (finding.action, finding.done, receipt.exists()) == ("adopt", True, True)
    assert json.loads(receipt.read_text())["as_of"] == theirs.isoformat().replace("+00:00", "Z")
    assert list(world.deployment.registry.entries()) == [entry]


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("listed", [True, False])
async def test_a_batch_whose_claim_was_withdrawn_is_cancelled_and_gets_no_receipt(world, noted, listed):
    """It is known by its note or by its tag; a receipt would let a clear land what was cancelled."""
    await world.job().start()
    world.job().root.joinpath("waves/0/00000.claim.json").unlink()
    receipt = world.job().root.joinpath("waves/0/00000.receipt.json")
    receipt.unlink()
    world.states[TASK] = "over"
    if not noted:
        (entry,) = world.deployment.registry.entries()
        world.deployment.registry.enter(entry.model_copy(update={"batch_id": None}))
    if not listed:
        lists_no_tags(world.provider)

    (finding,) = await world.reconcile()

    known = noted or listed
    assert (finding.action, finding.done, receipt.exists()) == ("cancel" if known else "keep", known, False)
    assert world.provider.batches["batch-0"].status == ("cancelled" if known else "processing")


def lists_no_tags(provider):
    """As Anthropic: only a search for a claim finds its batch."""

    async def tagged(_since):
        for status in ():
            yield status

    provider.tagged = tagged


async def test_a_batch_that_no_list_names_is_found_by_its_keys(world):
    """As at Anthropic, once it has ended."""
    await world.job().start()
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    lists_no_tags(world.provider)
    world.states[TASK] = "gone"

    (finding,) = await world.reconcile()

    assert (finding.action, finding.done, finding.batch_id) == ("cancel", True, "batch-0")


async def test_another_account_of_the_same_provider_says_nothing_about_a_batch(world):
    """Else what it does not show would be forgotten, and would run for nobody."""
    await world.job().start()
    world.states[TASK] = "over"
    world.clock.advance(3600)
    other = FakeProvider(world.clock)
    other.account = Account(provider="openai", api_key=SecretStr("another"))

    (finding,) = await world.inspect([other])

    assert (finding.action, finding.why.partition(":")[0]) == (
        "report",
        "None of the given connections reaches its account",
    )


async def test_a_batch_is_cancelled_at_its_own_account(world):
    """Another one of the same provider, whose key was refused, does not hinder it."""
    await world.job().start()
    world.states[TASK] = "over"
    findings = await world.inspect()
    other = FakeProvider(world.clock, status_faults=[Denied("no")] * 9)
    other.account = Account(provider="openai", api_key=SecretStr("another"))

    (finding,) = await world._reconciler({}).act(findings, [other, world.provider])

    assert (finding.action, finding.done) == ("cancel", True)
    assert len(other.status_faults) == 9


async def test_a_cancel_that_is_refused_is_reported(world):
    """With the reason; the others are acted on all the same."""
    await world.job().start()
    world.states[TASK] = "over"

    async def refused(_batch_id):
        raise Denied("no right to cancel")

    world.provider.cancel = refused

    (finding,) = await world.reconcile()

    assert (finding.action, finding.done) == ("report", False)
    assert finding.why.endswith("its task is over. Failed: no right to cancel")


async def test_what_is_a_neighbours_is_not_among_what_may_be_ours(world):
    """A person is asked about the others only; where none is left, the batch was never bought."""
    await world.job().start()
    (entry,) = world.deployment.registry.entries()
    neighbour = entry.model_copy(update={"tag": "0" * 12 + "-0-00000", "batch_id": "theirs"})
    world.deployment.registry.enter(neighbour)
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    world.states[TASK] = "over"
    world.clock.advance(3600)
    lists_no_tags(world.provider)
    found = [Candidate("theirs", certain=False), Candidate("perhaps", certain=False)]

    async def find(_claim):
        return found

    world.provider.find = find

    (asked,) = [one for one in await world.inspect() if one.tag == entry.tag]
    assert asked.why.startswith("Each of these may be it: perhaps. ")
    found.pop()
    (absent,) = [one for one in await world.inspect() if one.tag == entry.tag]
    assert absent.action == "forget"


async def test_a_batch_that_is_gone_when_it_is_to_be_cancelled_is_reported(world):
    """A person may look where it went."""
    await world.job().start()
    world.states[TASK] = "over"
    findings = await world.inspect()
    world.provider.batches.clear()

    (finding,) = await world._reconciler({}).act(findings, [world.provider])

    assert (finding.action, finding.done) == ("report", False)
    assert finding.why.endswith("It was not found to cancel.")


async def test_a_receipt_for_a_batch_of_another_tag_is_for_a_person(world):
    """Nothing is cancelled that is not surely ours."""
    await world.job().start()
    (tag,) = world.tags
    world.provider.batches["batch-0"].tag = "theirs"
    world.states[TASK] = "over"

    (finding,) = await world.reconcile()

    assert (finding.action, finding.why) == ("report", f"Batch 'batch-0' carries the tag 'theirs', not '{tag}'.")
    assert world.provider.batches["batch-0"].status == "processing"


async def test_of_two_batches_under_a_tag_the_receipt_names_ours(world):
    """The other one is reported."""
    await world.job().start()
    world.provider.batches["batch-x"] = replace(world.provider.batches["batch-0"])
    world.states[TASK] = "over"

    ours, orphan = await world.reconcile()

    assert (ours.action, ours.batch_id, ours.done) == ("cancel", "batch-0", True)
    assert (orphan.action, orphan.batch_id) == ("report", "batch-x")
    assert world.provider.batches["batch-x"].status == "processing"


async def test_two_batches_under_one_tag_are_for_a_person(world):
    """The message names both and the command."""
    await world.job().start()
    (tag,) = world.tags
    world.provider.batches["batch-x"] = world.provider.batches["batch-0"]
    world.job().root.joinpath("waves/0/00000.receipt.json").unlink()
    world.states[TASK] = "over"

    found = await world.inspect()

    assert found[0].action == "report"
    assert f"batch-0, batch-x. Look at the provider's console, then say which it is: airflow batches adopt {tag}" in (
        found[0].why
    )


async def test_a_second_batch_under_a_tag_with_a_receipt_is_an_orphan(world):
    """The task waits for one of them; the other runs for nobody."""
    await world.job().start()
    world.provider.batches["batch-x"] = world.provider.batches["batch-0"]
    world.states[TASK] = "waiting"

    kept, orphan = await world.inspect()

    assert (kept.action, kept.batch_id) == ("keep", "batch-0")
    assert (orphan.action, orphan.batch_id, orphan.why) == ("report", "batch-x", "It is a second batch under this tag.")
    assert (orphan.label, orphan.status, orphan.tag) == ("dag/run/task", "processing", kept.tag)


async def test_what_airflow_does_not_tell_is_reported(world):
    """Never cancelled on a guess."""
    await world.job().start()
    world.states[TASK] = "unknown"

    (finding,) = await world.reconcile()

    assert finding.action == "report"
    assert world.provider.batches["batch-0"].status == "processing"


async def test_another_accounts_batches_are_reported_unless_their_task_waits(world):
    """The key that bought them is needed to poll them."""
    await world.job().start()
    world.states[TASK] = "over"
    (finding,) = await world.inspect([])
    assert (finding.action, finding.why.partition(":")[0]) == (
        "report",
        "None of the given connections reaches its account",
    )
    world.states[TASK] = "waiting"
    assert (await world.inspect([]))[0].action == "keep"


async def test_a_new_key_of_the_same_account_finds_its_batches_by_their_tags(world):
    """Keys are rotated while batches run."""
    await world.job().start()
    world.states[TASK] = "over"
    world.provider.account = Account(provider="openai", api_key=SecretStr("rotated"))

    (finding,) = await world.reconcile()

    assert (finding.action, finding.done) == ("cancel", True)


@pytest.mark.parametrize("error", [Denied("no"), Unavailable("later")])
async def test_an_account_that_does_not_answer_hides_no_other_finding(world, error):
    """What concerns it is reported; nothing of it is touched."""
    await world.job().start()
    world.states[TASK] = "over"

    async def tagged(_since):
        raise error
        yield

    world.provider.tagged = tagged
    world.provider.status_faults = [error]

    entry, account = await world.reconcile()

    assert (entry.action, entry.label, entry.why) == ("report", "dag/run/task", str(error))
    assert (entry.provider, entry.batch_id) == ("openai", "batch-0")
    assert account.why == f"Its batches cannot be listed: {error}"


async def test_a_damaged_entry_is_reported(world):
    """The others are examined all the same."""
    await world.job().start()
    (tag,) = world.tags
    registry = UPath(str(world.deployment.storage.root)) / "=registry" / "open"
    (registry / "000000000000-0-00000.json").write_text("{")
    world.states[TASK] = "over"

    damaged, good = await world.inspect()

    assert (damaged.action, damaged.tag) == ("report", "000000000000-0-00000")
    assert (good.action, good.tag) == ("cancel", tag)


@pytest.mark.parametrize(
    "claim",
    [
        "/etc/passwd",
        "x/../run/task/waves/0/00000.claim.json",
        "dag/run/task/y/0/0.claim.json",
        "dag/run/task/waves/0",
        "task/waves/0/00000.claim.json",
        "waves/0/00000.claim.json",
        "dag/run/task/elsewhere/one/waves/0/00000.claim.json",
        "dag/run/task/submissions/../waves/0/00000.claim.json",
        "dag/run/task/submissions/./waves/0/00000.claim.json",
        "dag/run/task/submissions//waves/0/00000.claim.json",
        "",
    ],
)
async def test_an_entry_that_points_elsewhere_is_refused(world, claim):
    """Entries are files that others may write: they name no path of ours."""
    await world.job().start()
    (entry,) = world.deployment.registry.entries()
    world.deployment.registry.enter(entry.model_copy(update={"claim": claim}))
    world.states[TASK] = "over"

    (finding, *_) = await world.reconcile()

    assert finding.action == "report"
    assert "The registry says that batch" in finding.why


async def test_a_stages_own_batch_is_forgotten_when_it_ended_and_its_task_too(world):
    """Its client has no landing that could leave the registry."""
    job = world.job()
    client = job.context().batch("openai:m", "c")
    handle = await client.submit(["a"])
    world.states[TASK] = "waiting"
    assert (await world.reconcile())[0].action == "keep"
    world.provider.batches[handle.id].status = "completed"
    world.states[TASK] = "over"

    (finding,) = await world.reconcile()

    assert (finding.action, finding.done, world.tags) == ("forget", True, [])


def test_mapped_tasks_and_odd_ids_are_told_apart(tmp_path):
    """Ids are percent-encoded in paths; a map index is the fourth folder."""
    from airflow_batch_provider.fleet.deployment import task_of
    from airflow_batch_provider.registry import Entry

    def entry(label, path):
        claim = f"s3://conn@bucket/batches/{path}/waves/0/00000.claim.json"
        given = {"tag": "t", "provider": "openai", "account": "a", "requests": 1, "claimed_at": "2026-11-23T00:00:00Z"}
        return Entry(label=label, claim=claim, **given)

    for part in ("", ".", ".."):
        with pytest.raises(UsageError, match="The registry says that batch 't'"):
            task_of(entry(f"d/{part}/t", f"d/{part}/t"))
    assert task_of(entry("d/../t", "d/%2E%2E/t")) == TaskKey("d", "..", "t", -1)
    assert task_of(entry("d/r/t/5", "d/r/t/5")) == TaskKey("d", "r", "t", 5)
    assert task_of(entry("d/a/b/t", "d/a%2Fb/t")) == TaskKey("d", "a/b", "t", -1)


def test_findings_are_counted_by_what_to_do():
    """Those that did not occur are zero, so that a monitor finds every number."""
    found = [Finding(action=action, provider="openai", tag="t", why="w") for action in ("cancel", "report", "cancel")]

    assert counts(found) == {"keep": 0, "adopt": 0, "cancel": 2, "forget": 0, "report": 1}
