"""One batch is bought once: what is sent, what is kept, and what is asked of the provider when an answer is lost."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START
from ledgers import policy_of
from upath import UPath

from airflow_batch_provider.exceptions import NotFound, Overtaken, Rejected, Unavailable, Unresolved
from airflow_batch_provider.ledger import LedgerContext, Plan, Wave
from airflow_batch_provider.ledger.batch import BatchToBuy
from airflow_batch_provider.ledger.records import Chunk, Claim, Receipt
from airflow_batch_provider.ledger.submit import submit_once
from airflow_batch_provider.models import ConnectionRef, Spec
from airflow_batch_provider.providers.base import BatchQuery, Candidate
from airflow_batch_provider.registry import Entry, Registry
from airflow_batch_provider.storage import Directory

SPEC = Spec(kind="generate", model="m", max_tokens=10)
TAG = "new-0-00000"
OLD = "new-old"


def lines(tag):
    for index in range(2):
        yield json.dumps({"key": f"{tag}-{index}", "body": {"prompt": f"q{index}"}}).encode() + b"\n"


def with_its_bytes(payload):
    return payload, Path(payload.path).read_bytes()


@dataclass(frozen=True, kw_only=True)
class Watched(BatchToBuy):
    """A batch at whose steps something else happens.

    packing: called with the tag when its lines are first asked for.
    checking: called each time that its worker asks whether its plan is current.
    """

    packing: object = None
    checking: object = None

    def lines(self, tag):
        if self.packing:
            self.packing(tag)
        yield from super().lines(tag)

    def is_current(self):
        if self.checking:
            self.checking()
        return super().is_current()


@pytest.fixture
def root(tmp_path):
    return Directory(UPath(tmp_path / "task"))


@pytest.fixture
def registry(tmp_path):
    return Registry(Directory(UPath(tmp_path / "registry")))


@pytest.fixture
def batch(root, provider, clock):
    """The first of two batches of a plan, two rows each, without a registry."""
    return batch_of(root, provider, clock)


def batch_of(root, provider, clock, nonce="new"):
    """The same of any task."""
    context = LedgerContext(
        root=root,
        provider=provider,
        spec=SPEC,
        policy=policy_of(),
        clock=clock,
        label="dag/run/task",
        attempt=3,
    )
    chunks = tuple(Chunk(number=number, requests=2, bytes=1, tokens=1, draft="d") for number in range(2))
    first = Wave(nonce=nonce, number=0, attempt=3, opened_at=START, chunks=chunks)
    plan = Plan(fingerprint="f", provider="openai", spec=SPEC, requests=4, created_at=START, first=first)
    context.files.add_plan(plan)
    rows = [{"index": index, "custom_id": f"id-{index}", "body": {"prompt": f"q{index}"}} for index in range(2)]
    for files in context.files.batches(first):
        root.write(f"waves/0/{files.requests_name}", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return Watched(context=context, plan=plan, waves=(first,), chunk=chunks[0])


def sibling_of(batch):
    """The second batch of the plan."""
    return replace(batch, chunk=batch.wave.chunks[1])


def within(batch, registry, **context):
    """The same batch in a deployment."""
    return replace(batch, context=replace(batch.context, registry=registry, **context))


@pytest.fixture
def payloads(provider):
    """What the provider was sent, each with its bytes."""
    sent = []
    original = provider.create

    async def create(prepared):
        sent.append(with_its_bytes(prepared.payload))
        return await original(prepared)

    provider.create = create
    return sent


@pytest.fixture
def untagged(provider):
    """A provider that keeps no tags, as Anthropic; gives the list of what it finds and the list of what it was asked."""
    found, asked = [], []

    async def find(claim):
        asked.append(claim)
        return list(found)

    provider.find = find
    provider.keeps_tags = False
    return found, asked


def claim_on(batch):
    """The claim that counts."""
    return batch.files.claim()


def left_by_a_dead_worker(batch, **more):
    """A claim without receipt."""
    log = batch.files
    claim = Claim(number=log.next_claim(), tag=OLD, requests=2, claimed_at=START, attempt=1, owner="dead")
    log.add_claim(claim.model_copy(update=more))


async def test_a_payload_says_what_is_in_it(batch, provider, clock, payloads):
    """Every line with its newline, the size, and a label no longer than a provider keeps."""
    await submit_once(replace(batch, context=replace(batch.context, label="x" * 600)))

    ((payload, data),) = payloads
    assert data == b"".join(lines(TAG))
    assert (payload.requests, payload.bytes) == (2, len(data))
    assert (payload.tag, payload.label, payload.spec, payload.resumed) == (TAG, "x" * 512, SPEC, False)


async def test_the_claim_stands_before_the_create_and_the_receipt_after(batch, provider, clock, root):
    """Nothing was bought before the claim; the age of the batch counts from the answer to its create."""
    seen = []

    async def check():
        seen.append((claim_on(batch), batch.files.receipt()))
        clock.advance(5)

    provider.while_creating = [check]
    receipt = await submit_once(batch)

    ((claim, no_receipt),) = seen
    assert no_receipt is None
    assert (claim.tag, claim.requests, claim.claimed_at, claim.attempt) == (TAG, 2, START, 3)
    assert receipt == Receipt(
        batch_id="batch-0",
        tag=TAG,
        requests=2,
        submitted_at=START + timedelta(seconds=5),
        as_of=START + timedelta(seconds=5),
    )
    assert batch.files.receipt() == receipt


async def test_a_batch_with_a_receipt_is_not_looked_for(batch, provider, clock):
    """The receipt is the answer."""
    first = await submit_once(batch)
    provider.batches.clear()

    assert await submit_once(batch) == first


async def test_a_claim_is_looked_for_by_all_that_is_known_of_it(batch, provider, clock, untagged):
    """Under the tag it was made under, at the time it was made."""
    found, asked = untagged
    found.append(Candidate("batch-7", certain=True))
    left_by_a_dead_worker(batch, as_of=START)
    clock.advance(300)

    receipt = await submit_once(batch)

    assert asked == [BatchQuery(tag=OLD, claimed_at=START, requests=2, key_prefix=f"{OLD}-")]
    assert receipt == Receipt(
        batch_id="batch-7", tag=OLD, requests=2, submitted_at=START, as_of=START + timedelta(seconds=300)
    )
    assert not provider.batches


async def test_a_claim_whose_batch_is_absent_is_submitted_under_its_tag(batch, provider, clock, payloads, root):
    """After looks for the whole grace time; the payload says that parts of it may be there already."""
    left_by_a_dead_worker(batch)

    receipt = await submit_once(batch)

    ((payload, data),) = payloads
    assert (payload.tag, payload.resumed) == (OLD, True)
    assert data == b"".join(lines(OLD))
    assert receipt.tag == OLD
    assert (clock.time - START).total_seconds() == 60
    assert claim_on(batch).attempt == 3


@pytest.mark.parametrize("lag", [2, 6])
async def test_a_batch_that_becomes_visible_within_the_grace_time_is_taken(batch, provider, clock, untagged, lag):
    """Lists lag behind creates; it is taken at the first search that shows it."""
    found, _ = untagged
    left_by_a_dead_worker(batch)
    searches = []

    async def sleep(seconds):
        searches.append(seconds)
        clock.advance(seconds)
        if len(searches) == lag:
            found.append(Candidate("late", certain=True))

    clock.sleep = sleep

    assert (await submit_once(batch)).batch_id == "late"
    assert searches == [10] * lag


async def test_a_batch_that_appears_while_the_payload_is_packed_is_taken(batch, provider, clock, untagged, payloads):
    """The last search comes right before the create."""
    found, _ = untagged
    left_by_a_dead_worker(batch)

    def slow(_tag):
        found.append(Candidate("just in time", certain=True))

    assert (await submit_once(replace(batch, packing=slow))).batch_id == "just in time"
    assert not payloads


async def test_a_receipt_that_the_owner_writes_while_its_batch_is_looked_for_is_taken(
    batch, provider, clock, untagged, payloads
):
    """The owner was only slow, and no list shows yet what it created."""
    left_by_a_dead_worker(batch)
    written = Receipt(batch_id="unlisted", tag=OLD, requests=2, submitted_at=START)

    async def sleep(seconds):
        clock.advance(seconds)
        batch.files.replace_receipt(written)

    clock.sleep = sleep

    assert await submit_once(batch) == written
    assert not payloads


async def test_a_receipt_that_the_owner_writes_at_the_last_moment_is_taken(batch, provider, clock, untagged, payloads):
    """After the last search of its successor, and before the claim is taken over."""
    left_by_a_dead_worker(batch)
    written = Receipt(batch_id="unlisted", tag=OLD, requests=2, submitted_at=START)

    def slow(_tag):
        batch.files.replace_receipt(written)

    assert await submit_once(replace(batch, packing=slow)) == written
    assert not payloads


async def test_a_batch_found_by_time_and_size_is_adopted_tentatively(batch, provider, clock, untagged):
    """Its results must confirm it."""
    untagged[0].append(Candidate("perhaps", certain=False))
    left_by_a_dead_worker(batch)

    receipt = await submit_once(batch)

    assert (receipt.batch_id, receipt.tentative) == ("perhaps", True)


async def test_a_batch_with_our_keys_wins_over_those_that_only_fit(batch, provider, clock, untagged):
    """Certainty ends the search."""
    untagged[0].extend(
        [Candidate("perhaps", certain=False), Candidate("surely", certain=True), Candidate("or", certain=False)]
    )
    left_by_a_dead_worker(batch)

    receipt = await submit_once(batch)

    assert (receipt.batch_id, receipt.tentative) == ("surely", False)


async def test_several_batches_that_fit_are_a_question_for_a_person(
    batch, provider, clock, untagged, payloads, registry
):
    """The message names them and both ways on; nothing is paid."""
    untagged[0].extend([Candidate("one", certain=False), Candidate("two", certain=False)])
    left_by_a_dead_worker(batch)

    with pytest.raises(Unresolved, match=r"'new-old': one, two\..*adopt new-old BATCH_ID.*absent new-old "):
        await submit_once(within(batch, registry))

    assert not payloads


async def test_without_a_registry_the_way_on_is_a_file_to_delete(batch, provider, clock, untagged, payloads, root):
    """The commands would not find the claim of a script; without its file the same requests are bought."""
    untagged[0].extend([Candidate("one", certain=False), Candidate("two", certain=False)])
    left_by_a_dead_worker(batch)

    with pytest.raises(Unresolved, match=r"delete .*00000\.claim\*\.json and submit again") as stopped:
        await submit_once(batch)

    assert "airflow batches" not in str(stopped.value)
    for name in root.names("waves/0"):
        if ".claim" in name:
            root.delete(f"waves/0/{name}")
    await submit_once(batch)
    assert len(payloads) == 1


async def test_a_batch_of_a_sibling_or_a_neighbour_is_ignored(batch, provider, clock, untagged, registry, root):
    """Those with receipts in this task, and those other tasks of the deployment have noted."""
    found, _ = untagged
    neighbour = batch_of(root.sub("other"), provider, clock, nonce="other")
    await submit_once(within(neighbour, registry))
    sibling = Receipt(batch_id="sibling", tag="new-0-00001", requests=2, submitted_at=START)
    sibling_of(batch).files.add_receipt(sibling)
    found.extend(
        [Candidate("batch-0", certain=False), Candidate("sibling", certain=False), Candidate("mine", certain=False)]
    )
    left_by_a_dead_worker(batch)

    receipt = await submit_once(within(batch, registry))

    assert receipt.batch_id == "mine"


async def test_a_submit_that_is_never_answered_gives_up_its_slot(batch, provider, clock, payloads):
    """Three sends, each looked for; the claim stays, for the last may have happened."""
    provider.submit_faults = [Unavailable("cut")] * 5

    with pytest.raises(Unavailable, match="answered none of 3 submits of batch 'new-0-00000'"):
        await submit_once(batch)

    assert len(payloads) == 3
    assert claim_on(batch) is not None


async def test_a_search_that_fails_for_a_passing_reason_is_repeated(batch, provider, clock):
    """As long as the provider asks; five seconds when it does not say."""
    left_by_a_dead_worker(batch)
    faults = [Unavailable("busy", retry_after=7), Unavailable("busy")]
    original, waited = provider.find, []

    async def find(claim):
        if faults:
            raise faults.pop(0)
        waited.append((clock.time - START).total_seconds())
        return await original(claim)

    provider.find = find
    await submit_once(batch)

    assert waited[0] == 12


async def test_a_search_that_keeps_failing_gives_up_its_slot_and_keeps_the_claim(batch, provider, clock, payloads):
    """After a minute; nothing is sent on a guess."""
    left_by_a_dead_worker(batch)

    async def find(_claim):
        raise Unavailable("busy", retry_after=20)

    provider.find = find
    with pytest.raises(Unavailable, match="busy"):
        await submit_once(batch)

    assert (clock.time - START).total_seconds() == 60
    assert not payloads
    assert claim_on(batch).owner == "dead"


async def test_a_provider_that_is_busy_for_a_moment_is_waited_for(batch, provider, clock, payloads):
    """Within the retry budget of a worker, to the second."""
    provider.submit_faults = [
        Unavailable("429", retry_after=55, ambiguous=False),
        Unavailable("429", ambiguous=False),
    ]

    await submit_once(batch)

    assert len(payloads) == 3
    assert (clock.time - START).total_seconds() == 60


async def test_a_fault_before_the_create_is_not_a_reason_to_look_for_a_batch(batch, provider, clock, payloads):
    """Preparing buys nothing, so a lost answer is only waited for; an uploaded file is found again."""
    provider.prepare_faults = [Unavailable("cut", ambiguous=True)]
    prepare, prepared = provider.prepare, []

    async def noted(payload):
        prepared.append(payload.resumed)
        return await prepare(payload)

    async def find(_claim):
        raise AssertionError("looked for")

    provider.prepare, provider.find = noted, find
    await submit_once(batch)

    assert prepared == [False, True]
    assert len(payloads) == len(provider.batches) == 1
    assert (clock.time - START).total_seconds() == 5


@pytest.mark.parametrize("fault", [Unavailable("cut", retry_after=61), Rejected("no"), NotFound("no such file")])
async def test_a_fault_for_good_before_the_create_gives_the_claim_back(batch, provider, payloads, fault):
    """It surely bought nothing, whatever the fault says of itself."""
    provider.prepare_faults = [fault]

    with pytest.raises((Unavailable, Rejected)):
        await submit_once(batch)

    assert not payloads
    assert claim_on(batch) is None


async def test_a_provider_that_is_busy_for_long_gets_its_claim_back(batch, provider, clock):
    """It surely bought nothing, so another attempt starts with a clean slate; no time is lost waiting."""
    provider.submit_faults = [Unavailable("429", retry_after=61, ambiguous=False)]

    with pytest.raises(Unavailable, match="429"):
        await submit_once(batch)

    assert clock.time == START
    assert claim_on(batch) is None


async def test_a_claim_made_by_another_worker_just_now_is_left_alone(batch, provider, clock, payloads):
    """Two workers started at once: the second comes back later and finds the first one's batch."""

    def meanwhile(tag):
        left_by_a_dead_worker(batch, tag=tag, owner="other")

    with pytest.raises(Unavailable, match="'new-0-00000'") as caught:
        await submit_once(replace(batch, packing=meanwhile))

    assert not caught.value.ambiguous
    assert not payloads
    assert claim_on(batch).owner == "other"


async def test_a_refused_worker_leaves_the_claim_of_its_successor(batch, provider, clock):
    """Only one's own claim is withdrawn."""

    async def overtake():
        left_by_a_dead_worker(batch, owner="successor")

    provider.while_creating = [overtake]
    provider.submit_faults = [Rejected("no")]
    with pytest.raises(Rejected):
        await submit_once(batch)

    assert claim_on(batch).owner == "successor"


async def test_a_batch_that_a_successor_found_first_is_kept(batch, provider, clock):
    """Both mean the same batch, so it is not cancelled."""

    async def overtake():
        left_by_a_dead_worker(batch, tag=TAG, owner="successor")
        receipt = Receipt(batch_id="batch-0", tag=TAG, requests=2, submitted_at=START)
        batch.files.replace_receipt(receipt)

    provider.while_creating = [overtake]

    assert (await submit_once(batch)).batch_id == "batch-0"
    assert provider.batches["batch-0"].status == "processing"


async def test_a_batch_is_cancelled_when_its_successor_has_another(batch, provider, clock):
    """The message says which, and that no action is needed."""

    async def overtake():
        left_by_a_dead_worker(batch, tag=TAG, owner="successor")
        batch.files.replace_receipt(Receipt(batch_id="its own", tag=TAG, requests=2, submitted_at=START))

    provider.while_creating = [overtake]
    with pytest.raises(Overtaken) as caught:
        await submit_once(batch)

    assert str(caught.value) == (
        "Another worker took batch 'new-0-00000' over while this one created 'batch-0', which is cancelled. No action is "
        "needed: the other one goes on."
    )
    assert provider.batches["batch-0"].status == "cancelled"
    assert batch.files.receipt().batch_id == "its own"


async def test_a_batch_that_a_successor_has_too_and_that_cannot_be_cancelled_is_for_a_person(batch, provider, clock):
    """The message says which, where, why, and that the other worker is not in the way."""

    async def overtake():
        left_by_a_dead_worker(batch, tag=TAG, owner="successor")
        batch.files.replace_receipt(Receipt(batch_id="its own", tag=TAG, requests=2, submitted_at=START))

    async def refuse(_batch_id):
        raise Unavailable("503")

    provider.while_creating, provider.cancel = [overtake], refuse
    with pytest.raises(Unresolved) as caught:
        await submit_once(batch)

    assert str(caught.value) == (
        "Another worker took batch 'new-0-00000' over while this one created 'batch-0', which could not be cancelled: 503 "
        "Cancel it in openai's console; the other worker goes on."
    )


async def test_a_batch_is_cancelled_when_there_is_another_receipt_already(batch, provider, clock):
    """Its former owner checked the claim, and wrote the receipt when the claim was no longer its own."""

    async def late():
        receipt = Receipt(batch_id="the first", tag=TAG, requests=2, submitted_at=START)
        batch.files.replace_receipt(receipt)

    provider.while_creating = [late]
    with pytest.raises(Overtaken, match="'new-0-00000' over while this one created 'batch-0'"):
        await submit_once(batch)

    assert provider.batches["batch-0"].status == "cancelled"
    assert batch.files.receipt().batch_id == "the first"


async def test_the_deployment_knows_a_claim_before_the_create_and_its_batch_after(batch, provider, clock, registry):
    """So that a neighbour never takes it for its own."""
    seen = []

    async def check():
        seen.extend(registry.entries())

    provider.while_creating = [check]
    await submit_once(within(batch, registry))

    (before,) = seen
    (after,) = registry.entries()
    assert (before.tag, before.batch_id, before.provider, before.label) == (TAG, None, "openai", "dag/run/task")
    assert (before.requests, before.claimed_at) == (2, START)
    assert before.claim == batch.files.claim_uri
    assert after == before.model_copy(update={"batch_id": "batch-0"})


async def test_a_refused_claim_leaves_the_deployment(batch, provider, clock, registry):
    """Nothing was bought, so nobody is to look for it."""
    provider.submit_faults = [Rejected("no")]

    with pytest.raises(Rejected):
        await submit_once(within(batch, registry))

    assert not list(registry.entries())


async def test_a_batch_that_failed_as_a_whole_is_bought_again_also_where_workers_take_the_submit_lock(
    batch, provider, clock, registry, untagged, payloads
):
    """The claim on disk is of the failed one; the new one replaces it."""
    left_by_a_dead_worker(batch, tag=TAG)

    receipt = await submit_once(within(replace(batch, failed=1), registry))

    assert (receipt.tag, len(payloads)) == (f"{TAG}-1", 1)
    assert claim_on(batch).tag == f"{TAG}-1"


async def test_workers_submit_one_at_a_time_where_no_tags_are_kept(batch, provider, clock, registry, untagged):
    """The lock is held during the create and released after it, whatever becomes of it."""
    there = []

    async def check():
        there.extend(registry._directory.names("locks"))

    provider.while_creating = [check, check]
    provider.submit_faults = [None, Rejected("no")]
    await submit_once(within(batch, registry))
    with pytest.raises(Rejected):
        await submit_once(within(sibling_of(batch), registry))

    assert len(there) == 2
    assert registry._directory.names("locks") == []


async def test_workers_need_no_turn_where_tags_are_kept(batch, provider, clock, registry):
    """A lost batch is found by its tag, so nothing is gained by waiting."""
    there = []

    async def check():
        there.extend(registry._directory.names("locks"))

    provider.while_creating = [check]
    await submit_once(within(batch, registry))

    assert there == []


async def test_a_claim_that_never_had_the_lock_is_submitted_without_a_search(
    batch, provider, clock, registry, untagged
):
    """A batch of its size is a neighbour's, who would buy it again if this one took it."""
    found, asked = untagged
    found.append(Candidate("a neighbour's", certain=False))
    left_by_a_dead_worker(batch, queued_for_lock=True)

    receipt = await submit_once(within(batch, registry))

    assert (receipt.batch_id, asked) == ("batch-0", [])


async def test_a_dead_workers_turn_ends_when_its_claim_is_taken_over(
    batch, provider, clock, registry, untagged, payloads
):
    """It died before it sent anything; nobody waits out its lease. What it uploaded may be there already."""
    await registry.acquire_submit_lock(provider.account, "dead", clock, timedelta(0))
    left_by_a_dead_worker(batch, queued_for_lock=True)

    await submit_once(within(batch, registry))

    assert clock.time == START
    assert [payload.resumed for payload, _ in payloads] == [True]


async def test_a_claim_is_sent_from_the_moment_it_has_its_turn(batch, provider, clock, registry, untagged):
    """Its batch is looked for among those created since."""
    provider.now = lambda: clock.now() - timedelta(hours=1)
    seen = []

    async def busy(*_):
        seen.append(claim_on(batch))
        clock.advance(30)

    async def check():
        seen.append(claim_on(batch))

    registry.acquire_submit_lock = busy
    provider.while_preparing = [check]
    await submit_once(within(batch, registry))

    assert [claim.queued_for_lock for claim in seen] == [True, False]
    assert [(claim.claimed_at - START).total_seconds() for claim in seen] == [0, 30]
    assert (seen[1].as_of - START).total_seconds() == 30 - 3600  # by the provider's clock, too
    assert [entry.claimed_at for entry in registry.entries()] == [seen[1].claimed_at]


async def test_a_claim_whose_owner_gets_its_turn_meanwhile_is_left_to_it(
    batch, provider, clock, registry, untagged, payloads
):
    """Packing takes minutes; the next check of the claim says what became of it."""
    left_by_a_dead_worker(batch, queued_for_lock=True)

    def slow(_tag):
        left_by_a_dead_worker(batch)

    with pytest.raises(Unavailable, match="Another worker just claimed batch 'new-old'") as caught:
        await submit_once(within(replace(batch, packing=slow), registry))

    assert not caught.value.ambiguous
    assert not payloads


async def test_a_worker_that_gets_no_turn_withdraws_its_claim(batch, provider, clock, registry, untagged, payloads):
    """It sent nothing, and comes back."""
    await registry.acquire_submit_lock(provider.account, "somebody", clock, timedelta(0))

    with pytest.raises(Unavailable, match="are submitting"):
        await submit_once(within(batch, registry))

    assert (clock.time - START).total_seconds() == 60
    assert not payloads
    assert claim_on(batch) is None
    assert not list(registry.entries())


@pytest.mark.parametrize("left", [False, True])
async def test_scratch_files_are_gone_after_the_submit(batch, provider, clock, payloads, left):
    """Prompts do not stay on the worker's disk, in whichever way the claim came about."""
    if left:
        left_by_a_dead_worker(batch)

    await submit_once(batch)

    assert not Path(payloads[0][0].path).parent.exists()


def a_guess(batch, registry, batch_id):
    """A neighbour took this batch for its own, by its time and size."""
    entry = Entry(
        tag="tag-9",
        provider="openai",
        account="a",
        label="dag/run/other",
        claim="c",
        requests=2,
        claimed_at=START,
        batch_id=batch_id,
        tentative=True,
    )
    registry.enter(entry)
    return within(batch, registry)


@pytest.mark.parametrize("certain", [True, False])
async def test_what_a_dead_worker_bought_is_found_although_a_neighbour_guesses_it_is_its_own(
    batch, provider, clock, untagged, registry, certain
):
    """Buying it again would be worse than to wait, both, until its answers tell whose it is."""
    found, _ = untagged
    found.append(Candidate("batch-7", certain=certain))
    left_by_a_dead_worker(batch)

    receipt = await submit_once(a_guess(batch, registry, "batch-7"))

    assert (receipt.batch_id, receipt.tentative) == ("batch-7", not certain)
    assert not provider.batches


async def test_what_no_neighbour_guesses_is_taken_before_what_one_does(batch, provider, clock, untagged, registry):
    """Where the neighbour is right, the other one is ours."""
    untagged[0].extend([Candidate("batch-7", certain=False), Candidate("batch-8", certain=False)])
    left_by_a_dead_worker(batch)

    receipt = await submit_once(a_guess(batch, registry, "batch-7"))

    assert (receipt.batch_id, receipt.tentative) == ("batch-8", True)
    entry = registry.get(OLD)
    assert (entry.batch_id, entry.tentative) == ("batch-8", True)


async def test_a_guess_that_is_older_than_the_turn_is_not_what_was_sent_in_it(
    batch, provider, clock, untagged, registry, tmp_path
):
    """So a create whose answer is lost, and which did not happen, is sent again at once."""
    found, _ = untagged
    batch = a_guess(batch, registry, "batch-7")
    os.utime(tmp_path / "registry/open/tag-9.json", (0, 0))
    found.append(Candidate("batch-7", certain=False))
    provider.submit_faults = [Unavailable("cut")]

    receipt = await submit_once(batch)

    assert (receipt.batch_id, receipt.tentative) == ("batch-0", False)


async def test_a_guess_that_is_younger_than_the_turn_may_be_what_was_sent_in_it(
    batch, provider, clock, untagged, registry
):
    """A neighbour that looks for a claim of its own may see the new batch first."""
    found, _ = untagged

    async def check():
        a_guess(batch, registry, "batch-0")
        found.append(Candidate("batch-0", certain=False))

    provider.while_creating = [check]
    provider.submit_faults = [(Unavailable("cut"), "after")]

    receipt = await submit_once(within(batch, registry))

    assert (receipt.batch_id, receipt.tentative) == ("batch-0", True)
    assert len(provider.batches) == 1


def asleep(batch, at, meanwhile):
    """A worker that stands still right after its nth check of its claim, while its successor does this."""

    def checking():
        nonlocal searches
        searches += 1
        if searches == at:
            meanwhile(claim_on(batch))

    searches = 0
    return replace(batch, checking=checking)


async def test_a_worker_that_slept_before_it_had_the_lock_does_not_undo_its_successors_claim(
    batch, provider, clock, registry, untagged, payloads
):
    """The successor has bought since, and died: its claim is the only trace of that."""

    def taken_over(claim):
        batch.files.add_claim(
            claim.model_copy(update={"number": claim.number + 1, "owner": "successor", "queued_for_lock": False})
        )

    with pytest.raises(Overtaken, match="took over"):
        await submit_once(asleep(within(batch, registry), 1, taken_over))

    assert claim_on(batch).owner == "successor"
    assert not payloads


async def test_a_worker_that_slept_before_its_receipt_does_not_undo_its_successors(batch, provider, clock):
    """Two batches of the same rows must not run; the one with the receipt stays."""
    theirs = Receipt(batch_id="batch-7", tag=TAG, requests=2, submitted_at=START)

    def bought(_claim):
        batch.files.replace_receipt(theirs)

    with pytest.raises(Overtaken, match="created 'batch-0', which is cancelled"):
        await submit_once(asleep(batch, 2, bought))

    assert batch.files.receipt() == theirs
    assert provider.batches["batch-0"].status == "cancelled"


async def test_a_list_that_does_not_reach_back_is_a_question_with_a_way_on(batch, provider, clock, registry):
    """Nobody can tell, and the person who can is told how."""
    left_by_a_dead_worker(batch)

    async def endless(_claim):
        raise Unresolved("1000 pages of the list do not reach back.")

    provider.find = endless
    with pytest.raises(Unresolved, match=r"do not reach back\. When you know.*airflow batches adopt new-old BATCH_ID"):
        await submit_once(within(batch, registry))

    assert not provider.batches


async def test_a_claim_that_is_taken_over_is_in_the_new_owners_name(batch, provider, clock):
    """Two that take it over at once must not write the same words: each would take them for its own."""
    left_by_a_dead_worker(batch)
    owners = set()

    async def check():
        owners.add(claim_on(batch).owner)

    provider.while_creating = [check]
    await submit_once(batch)

    assert owners
    assert "dead" not in owners


async def test_the_deployment_knows_how_to_look_after_a_batch(batch, registry):
    """Which connection reaches it, and whether its task wants it to run on: no other floor's files are read for that."""
    policy = policy_of(leave_running=True)

    await submit_once(within(batch, registry, connection=ConnectionRef(conn_id="openai_prod"), policy=policy))

    (entry,) = registry.entries()
    assert (entry.connection, entry.leave_running) == (ConnectionRef(conn_id="openai_prod"), True)


async def test_a_submit_lock_of_a_claim_that_is_settled_keeps_nobody_waiting(
    batch, provider, clock, registry, untagged
):
    """Its worker was killed before it released it; the registry says that its batch was bought, or that it was not."""
    for settled in (registry.get("tag-9"), a_guess(batch, registry, "batch-7")):
        await registry.acquire_submit_lock(provider.account, f"killed {settled}", clock, timedelta(0), "tag-9")

    await registry.acquire_submit_lock(provider.account, "next", clock, timedelta(0), "next")

    assert clock.time == START


async def test_the_provider_is_asked_for_its_time_before_a_claim_is_made(batch, provider, clock):
    """The clock of this machine may be an hour off."""
    times = [None, None]
    theirs = START - timedelta(hours=1)

    async def check():
        times.clear()
        return "reached"

    provider.now = lambda: times[0] if times else theirs
    provider.check = check
    await submit_once(batch)

    assert (claim_on(batch).claimed_at, claim_on(batch).as_of) == (START, theirs)
    assert claim_on(batch).earliest == theirs


async def test_a_provider_that_cannot_be_reached_for_its_time_is_sent_nothing(batch, provider, clock, payloads):
    """Nothing was claimed, so the task only comes back."""

    async def check():
        raise Unavailable("no route")

    provider.now = lambda: None
    provider.check = check
    with pytest.raises(Unavailable, match="no route"):
        await submit_once(batch)

    assert claim_on(batch) is None
    assert not payloads


async def test_a_claim_without_the_providers_time_is_looked_for_a_day_back(batch, provider, clock, untagged):
    """The clock of its worker may have been off by any time zone."""
    found, asked = untagged
    found.append(Candidate("batch-7", certain=True))
    left_by_a_dead_worker(batch)

    await submit_once(batch)

    assert [query.claimed_at for query in asked] == [START - timedelta(days=1)]


async def test_a_claim_that_another_worker_makes_while_the_time_is_asked_is_not_ignored(
    batch, provider, clock, payloads
):
    """It is looked for, as any claim without a receipt, and taken over only when its batch is absent."""
    times = []

    async def check():
        left_by_a_dead_worker(batch)
        times.append(START)

    provider.now = lambda: times[0] if times else None
    provider.check = check
    await submit_once(batch)

    assert [payload.tag for payload, _ in payloads] == [OLD]
    assert (clock.time - START).total_seconds() == 60


async def test_a_neighbours_entry_that_goes_while_it_is_looked_at_proves_nothing(batch, provider, clock, registry):
    """Its batch landed in that moment; the answers of the candidate will tell whose it is."""
    a_guess(batch, registry, "batch-7")
    (entry,) = registry.entries()
    await registry.acquire_submit_lock(provider.account, "me", clock, timedelta(0))
    registry.leave(entry.tag)

    assert not registry.is_certain([entry], provider.account, "me")
