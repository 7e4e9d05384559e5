"""One batch is bought once: what is sent, what is kept, and what is asked of the provider when an answer is lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START
from upath import UPath

from airflow_batch_provider.exceptions import NotFound, Rejected, Unavailable, Unresolved
from airflow_batch_provider.ledger.claim_log import ClaimLog
from airflow_batch_provider.ledger.claims import Order
from airflow_batch_provider.ledger.records import Claim, Receipt
from airflow_batch_provider.ledger.submit import submit_once
from airflow_batch_provider.models import Spec
from airflow_batch_provider.providers.base import BatchQuery, Candidate
from airflow_batch_provider.records import load, save
from airflow_batch_provider.registry import Entry, Registry
from airflow_batch_provider.storage import Directory

SPEC = Spec(kind="generate", model="m", max_tokens=10)


def lines(tag):
    for index in range(2):
        key = f"{tag}-{index}"
        yield key, json.dumps({"key": key, "body": {"prompt": f"q{index}"}}).encode()


def with_its_bytes(payload):
    return payload, Path(payload.path).read_bytes()


@pytest.fixture
def directory(tmp_path):
    return Directory(UPath(tmp_path / "wave"))


@pytest.fixture
def registry(tmp_path):
    return Registry(Directory(UPath(tmp_path / "registry")))


@pytest.fixture
def order(directory):
    return Order(
        directory=directory,
        name="00000",
        tag="tag-1",
        label="dag/run/task",
        spec=SPEC,
        requests=2,
        lines=lines,
        attempt=3,
    )


@pytest.fixture
def parcels(provider):
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


def claim_on(order):
    """The claim that counts."""
    return ClaimLog(order.directory, order.name).last()


def left_by_a_dead_worker(order, **more):
    """A claim without receipt."""
    log = ClaimLog(order.directory, order.name)
    claim = Claim(number=log.next(), tag="tag-0", requests=2, claimed_at=START, attempt=1, owner="dead")
    log.add(claim.model_copy(update=more))


async def test_a_parcel_says_what_is_in_it(order, provider, clock, parcels):
    """Every line with its newline, the first key, the size, and a label no longer than a provider keeps."""
    await submit_once(replace(order, label="x" * 600), provider, clock)

    ((payload, data),) = parcels
    assert data == b"".join(line + b"\n" for _, line in lines("tag-1"))
    assert (payload.first_key, payload.requests, payload.bytes) == ("tag-1-0", 2, len(data))
    assert (payload.tag, payload.label, payload.spec, payload.resumed) == ("tag-1", "x" * 512, SPEC, False)


async def test_the_claim_stands_before_the_create_and_the_receipt_after(order, provider, clock, directory):
    """Nothing was bought before the claim; the age of the batch counts from the answer to its create."""
    seen = []

    async def look():
        seen.append((claim_on(order), load(directory, order.receipt_name, Receipt)))
        clock.advance(5)

    provider.while_creating = [look]
    receipt = await submit_once(order, provider, clock)

    ((claim, no_receipt),) = seen
    assert no_receipt is None
    assert (claim.tag, claim.requests, claim.claimed_at, claim.attempt) == ("tag-1", 2, START, 3)
    assert receipt == Receipt(batch_id="batch-0", tag="tag-1", requests=2, submitted_at=START + timedelta(seconds=5))
    assert load(directory, order.receipt_name, Receipt) == receipt


async def test_a_batch_with_a_receipt_is_not_looked_for(order, provider, clock):
    """The receipt is the answer."""
    first = await submit_once(order, provider, clock)
    provider.batches.clear()

    assert await submit_once(order, provider, clock) == first


async def test_a_claim_is_looked_for_by_all_that_is_known_of_it(order, provider, clock, untagged):
    """Under the tag it was made under, at the time it was made."""
    found, asked = untagged
    found.append(Candidate("batch-7", certain=True))
    left_by_a_dead_worker(order)
    clock.advance(300)

    receipt = await submit_once(order, provider, clock)

    assert asked == [BatchQuery(tag="tag-0", claimed_at=START, requests=2, key_prefix="tag-0-")]
    assert receipt == Receipt(batch_id="batch-7", tag="tag-0", requests=2, submitted_at=START)
    assert not provider.batches


async def test_a_claim_whose_batch_is_absent_is_submitted_under_its_tag(order, provider, clock, parcels, directory):
    """After looks for the whole grace time; the payload says that parts of it may be there already."""
    left_by_a_dead_worker(order)

    receipt = await submit_once(order, provider, clock)

    ((payload, data),) = parcels
    assert (payload.tag, payload.resumed, payload.first_key) == ("tag-0", True, "tag-0-0")
    assert data == b"".join(line + b"\n" for _, line in lines("tag-0"))
    assert receipt.tag == "tag-0"
    assert (clock.time - START).total_seconds() == 60
    assert claim_on(order).attempt == 3


@pytest.mark.parametrize("lag", [2, 6])
async def test_a_batch_that_becomes_visible_within_the_grace_time_is_taken(order, provider, clock, untagged, lag):
    """Lists lag behind creates; it is taken at the first look that shows it."""
    found, _ = untagged
    left_by_a_dead_worker(order)
    looks = []

    async def sleep(seconds):
        looks.append(seconds)
        clock.advance(seconds)
        if len(looks) == lag:
            found.append(Candidate("late", certain=True))

    clock.sleep = sleep

    assert (await submit_once(order, provider, clock)).batch_id == "late"
    assert looks == [10] * lag


async def test_a_batch_that_appears_while_the_parcel_is_packed_is_taken(order, provider, clock, untagged, parcels):
    """The last look comes right before the create."""
    found, _ = untagged
    left_by_a_dead_worker(order)

    def slow(tag):
        found.append(Candidate("just in time", certain=True))
        yield from lines(tag)

    assert (await submit_once(replace(order, lines=slow), provider, clock)).batch_id == "just in time"
    assert not parcels


async def test_a_receipt_that_the_owner_writes_while_its_batch_is_looked_for_is_taken(
    order, provider, clock, untagged, parcels
):
    """The owner was only slow, and no list shows yet what it created."""
    left_by_a_dead_worker(order)
    written = Receipt(batch_id="unlisted", tag="tag-0", requests=2, submitted_at=START)

    async def sleep(seconds):
        clock.advance(seconds)
        save(order.directory, order.receipt_name, written)

    clock.sleep = sleep

    assert await submit_once(order, provider, clock) == written
    assert not parcels


async def test_a_receipt_that_the_owner_writes_at_the_last_moment_is_taken(order, provider, clock, untagged, parcels):
    """After the last look of its successor, and before the claim is taken over."""
    left_by_a_dead_worker(order)
    written = Receipt(batch_id="unlisted", tag="tag-0", requests=2, submitted_at=START)

    def slow(tag):
        save(order.directory, order.receipt_name, written)
        yield from lines(tag)

    assert await submit_once(replace(order, lines=slow), provider, clock) == written
    assert not parcels


async def test_a_batch_found_by_time_and_size_is_adopted_tentatively(order, provider, clock, untagged):
    """Its results must confirm it."""
    untagged[0].append(Candidate("perhaps", certain=False))
    left_by_a_dead_worker(order)

    receipt = await submit_once(order, provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("perhaps", True)


async def test_a_batch_with_our_keys_wins_over_those_that_only_fit(order, provider, clock, untagged):
    """Certainty ends the search."""
    untagged[0].extend(
        [Candidate("perhaps", certain=False), Candidate("surely", certain=True), Candidate("or", certain=False)]
    )
    left_by_a_dead_worker(order)

    receipt = await submit_once(order, provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("surely", False)


async def test_several_batches_that_fit_are_a_question_for_a_person(
    order, provider, clock, untagged, parcels, registry
):
    """The message names them and both ways on; nothing is paid."""
    untagged[0].extend([Candidate("one", certain=False), Candidate("two", certain=False)])
    left_by_a_dead_worker(order)

    with pytest.raises(Unresolved, match=r"'tag-0': one, two\..*adopt tag-0 BATCH_ID.*absent tag-0 "):
        await submit_once(replace(order, registry=registry), provider, clock)

    assert not parcels


async def test_without_a_registry_the_way_on_is_a_file_to_delete(order, provider, clock, untagged, parcels, directory):
    """The commands would not find the claim of a script; without its file the same requests are bought."""
    untagged[0].extend([Candidate("one", certain=False), Candidate("two", certain=False)])
    left_by_a_dead_worker(order)

    with pytest.raises(Unresolved, match=r"delete .*00000\.claim\*\.json and submit again") as stopped:
        await submit_once(order, provider, clock)

    assert "airflow batches" not in str(stopped.value)
    for name in directory.names():
        directory.delete(name)
    await submit_once(order, provider, clock)
    assert len(parcels) == 1


async def test_a_batch_of_a_sibling_or_a_neighbour_is_passed_over(order, provider, clock, untagged, registry):
    """Those with receipts in this task, and those other tasks of the deployment have noted."""
    found, _ = untagged
    neighbour = replace(order, directory=order.directory.sub("other"), tag="tag-9", registry=registry)
    await submit_once(neighbour, provider, clock)
    found.extend(
        [Candidate("batch-0", certain=False), Candidate("sibling", certain=False), Candidate("mine", certain=False)]
    )
    left_by_a_dead_worker(order)

    receipt = await submit_once(
        replace(order, registry=registry, is_siblings=lambda batch_id: batch_id == "sibling"), provider, clock
    )

    assert receipt.batch_id == "mine"


async def test_a_submit_that_is_never_answered_gives_up_its_slot(order, provider, clock, parcels):
    """Three sends, each looked for; the claim stays, for the last may have happened."""
    provider.submit_faults = [Unavailable("cut")] * 5

    with pytest.raises(Unavailable, match="answered none of 3 submits of batch 'tag-1'"):
        await submit_once(order, provider, clock)

    assert len(parcels) == 3
    assert claim_on(order) is not None


async def test_a_look_that_fails_for_a_passing_reason_is_repeated(order, provider, clock):
    """As long as the provider asks; five seconds when it does not say."""
    left_by_a_dead_worker(order)
    faults = [Unavailable("busy", retry_after=7), Unavailable("busy")]
    original, waited = provider.find, []

    async def find(claim):
        if faults:
            raise faults.pop(0)
        waited.append((clock.time - START).total_seconds())
        return await original(claim)

    provider.find = find
    await submit_once(order, provider, clock)

    assert waited[0] == 12


async def test_a_look_that_keeps_failing_gives_up_its_slot_and_keeps_the_claim(order, provider, clock, parcels):
    """After a minute of patience; nothing is sent on a guess."""
    left_by_a_dead_worker(order)

    async def find(_claim):
        raise Unavailable("busy", retry_after=20)

    provider.find = find
    with pytest.raises(Unavailable, match="busy"):
        await submit_once(order, provider, clock)

    assert (clock.time - START).total_seconds() == 60
    assert not parcels
    assert claim_on(order).owner == "dead"


async def test_a_provider_that_is_busy_for_a_moment_is_waited_for(order, provider, clock, parcels):
    """Within the patience of a worker, to the second."""
    provider.submit_faults = [
        Unavailable("429", retry_after=55, ambiguous=False),
        Unavailable("429", ambiguous=False),
    ]

    await submit_once(order, provider, clock)

    assert len(parcels) == 3
    assert (clock.time - START).total_seconds() == 60


async def test_a_fault_before_the_create_is_no_reason_to_look_for_a_batch(order, provider, clock, parcels):
    """Preparing buys nothing, so a lost answer is only waited for; what was uploaded is found again."""
    provider.prepare_faults = [Unavailable("cut", ambiguous=True)]
    prepare, prepared = provider.prepare, []

    async def noted(payload):
        prepared.append(payload.resumed)
        return await prepare(payload)

    async def find(_claim):
        raise AssertionError("looked for")

    provider.prepare, provider.find = noted, find
    await submit_once(order, provider, clock)

    assert prepared == [False, True]
    assert len(parcels) == len(provider.batches) == 1
    assert (clock.time - START).total_seconds() == 5


@pytest.mark.parametrize("fault", [Unavailable("cut", retry_after=61), Rejected("no"), NotFound("no such file")])
async def test_a_fault_for_good_before_the_create_gives_the_claim_back(order, provider, clock, parcels, fault):
    """It surely bought nothing, whatever the fault says of itself."""
    provider.prepare_faults = [fault]

    with pytest.raises((Unavailable, Rejected)):
        await submit_once(order, provider, clock)

    assert not parcels
    assert claim_on(order) is None


async def test_a_provider_that_is_busy_for_long_gets_its_claim_back(order, provider, clock):
    """It surely bought nothing, so another attempt starts with a clean slate; no time is lost waiting."""
    provider.submit_faults = [Unavailable("429", retry_after=61, ambiguous=False)]

    with pytest.raises(Unavailable, match="429"):
        await submit_once(order, provider, clock)

    assert clock.time == START
    assert claim_on(order) is None


async def test_a_claim_made_by_another_worker_just_now_is_left_alone(order, provider, clock, parcels):
    """Two workers started at once: the second comes back later and finds the first one's batch."""

    def meanwhile(tag):
        left_by_a_dead_worker(order, tag=tag, owner="other")
        yield from lines(tag)

    with pytest.raises(Unavailable, match="'tag-1'") as caught:
        await submit_once(replace(order, lines=meanwhile), provider, clock)

    assert not caught.value.ambiguous
    assert not parcels
    assert claim_on(order).owner == "other"


async def test_a_refused_worker_leaves_the_claim_of_its_successor(order, provider, clock):
    """Only one's own claim is withdrawn."""

    async def overtake():
        left_by_a_dead_worker(order, owner="successor")

    provider.while_creating = [overtake]
    provider.submit_faults = [Rejected("no")]
    with pytest.raises(Rejected):
        await submit_once(order, provider, clock)

    assert claim_on(order).owner == "successor"


async def test_a_batch_that_a_successor_found_first_is_kept(order, provider, clock):
    """Both mean the same batch, so it is not cancelled."""

    async def overtake():
        left_by_a_dead_worker(order, tag="tag-1", owner="successor")
        receipt = Receipt(batch_id="batch-0", tag="tag-1", requests=2, submitted_at=START)
        save(order.directory, order.receipt_name, receipt)

    provider.while_creating = [overtake]

    assert (await submit_once(order, provider, clock)).batch_id == "batch-0"
    assert provider.batches["batch-0"].status == "processing"


async def test_a_batch_is_cancelled_when_its_successor_has_another(order, provider, clock):
    """The message says which, and that nothing is to be done."""

    async def overtake():
        left_by_a_dead_worker(order, tag="tag-1", owner="successor")
        save(
            order.directory,
            order.receipt_name,
            Receipt(batch_id="its own", tag="tag-1", requests=2, submitted_at=START),
        )

    provider.while_creating = [overtake]
    with pytest.raises(Unresolved, match="'tag-1' over while this one created 'batch-0'"):
        await submit_once(order, provider, clock)

    assert provider.batches["batch-0"].status == "cancelled"
    assert load(order.directory, order.receipt_name, Receipt).batch_id == "its own"


async def test_a_batch_is_cancelled_when_there_is_another_receipt_already(order, provider, clock):
    """Its former owner looked at the claim, and wrote the receipt when the claim was no longer its own."""

    async def late():
        receipt = Receipt(batch_id="the first", tag="tag-1", requests=2, submitted_at=START)
        save(order.directory, order.receipt_name, receipt)

    provider.while_creating = [late]
    with pytest.raises(Unresolved, match="'tag-1' over while this one created 'batch-0'"):
        await submit_once(order, provider, clock)

    assert provider.batches["batch-0"].status == "cancelled"
    assert load(order.directory, order.receipt_name, Receipt).batch_id == "the first"


async def test_the_deployment_knows_a_claim_before_the_create_and_its_batch_after(order, provider, clock, registry):
    """So that a neighbour never takes it for its own."""
    seen = []

    async def look():
        seen.extend(registry.entries())

    provider.while_creating = [look]
    await submit_once(replace(order, registry=registry), provider, clock)

    (before,) = seen
    (after,) = registry.entries()
    assert (before.tag, before.batch_id, before.provider, before.label) == ("tag-1", None, "openai", "dag/run/task")
    assert (before.requests, before.claimed_at) == (2, START)
    assert before.claim == order.directory.uri("00000.claim.json")
    assert after == before.model_copy(update={"batch_id": "batch-0"})


async def test_a_refused_claim_leaves_the_deployment(order, provider, clock, registry):
    """Nothing was bought, so nobody is to look for it."""
    provider.submit_faults = [Rejected("no")]

    with pytest.raises(Rejected):
        await submit_once(replace(order, registry=registry), provider, clock)

    assert not list(registry.entries())


async def test_a_batch_that_failed_as_a_whole_is_bought_anew_also_where_workers_take_turns(
    order, provider, clock, registry, untagged, parcels, directory
):
    """The claim on disk is of the failed one; the new one replaces it."""
    left_by_a_dead_worker(order)

    receipt = await submit_once(
        replace(order, registry=registry, is_outdated=lambda tag: tag == "tag-0"), provider, clock
    )

    assert (receipt.tag, len(parcels)) == ("tag-1", 1)
    assert claim_on(order).tag == "tag-1"


async def test_workers_submit_in_turn_where_no_tags_are_kept(order, provider, clock, registry, untagged):
    """The turn is held during the create and given back after it, whatever becomes of it."""
    there = []

    async def look():
        there.extend(registry._directory.names("turns"))

    provider.while_creating = [look, look]
    provider.submit_faults = [None, Rejected("no")]
    await submit_once(replace(order, registry=registry), provider, clock)
    again = replace(order, registry=registry, name="00001", tag="tag-2")
    with pytest.raises(Rejected):
        await submit_once(again, provider, clock)

    assert len(there) == 2
    assert registry._directory.names("turns") == []


async def test_workers_need_no_turn_where_tags_are_kept(order, provider, clock, registry):
    """A lost batch is found by its tag, so nothing is gained by waiting."""
    there = []

    async def look():
        there.extend(registry._directory.names("turns"))

    provider.while_creating = [look]
    await submit_once(replace(order, registry=registry), provider, clock)

    assert there == []


async def test_a_claim_that_never_had_its_turn_is_submitted_without_a_look(order, provider, clock, registry, untagged):
    """A batch of its size is a neighbour's, who would buy it again if this one took it."""
    found, asked = untagged
    found.append(Candidate("a neighbour's", certain=False))
    left_by_a_dead_worker(order, waits_for_turn=True)

    receipt = await submit_once(replace(order, registry=registry), provider, clock)

    assert (receipt.batch_id, asked) == ("batch-0", [])


async def test_a_dead_workers_turn_ends_when_its_claim_is_taken_over(
    order, provider, clock, registry, untagged, parcels
):
    """It died before it sent anything; nobody waits out its lease. What it uploaded may be there already."""
    await registry.take_turn(provider.account, "dead", clock, timedelta(0))
    left_by_a_dead_worker(order, waits_for_turn=True)

    await submit_once(replace(order, registry=registry), provider, clock)

    assert clock.time == START
    assert [payload.resumed for payload, _ in parcels] == [True]


async def test_a_claim_is_sent_from_the_moment_it_has_its_turn(order, provider, clock, registry, untagged):
    """Its batch is looked for among those created since."""
    seen = []

    async def busy(*_):
        seen.append(claim_on(order))
        clock.advance(30)

    async def look():
        seen.append(claim_on(order))

    registry.take_turn = busy
    provider.while_preparing = [look]
    await submit_once(replace(order, registry=registry), provider, clock)

    assert [claim.waits_for_turn for claim in seen] == [True, False]
    assert [(claim.claimed_at - START).total_seconds() for claim in seen] == [0, 30]
    assert [entry.claimed_at for entry in registry.entries()] == [seen[1].claimed_at]


async def test_a_claim_whose_owner_gets_its_turn_meanwhile_is_left_to_it(
    order, provider, clock, registry, untagged, parcels
):
    """Packing takes minutes; the next look at the claim says what became of it."""
    left_by_a_dead_worker(order, waits_for_turn=True)

    def slow(tag):
        left_by_a_dead_worker(order)
        yield from lines(tag)

    with pytest.raises(Unavailable, match="Another worker just claimed batch 'tag-0'") as caught:
        await submit_once(replace(order, lines=slow, registry=registry), provider, clock)

    assert not caught.value.ambiguous
    assert not parcels


async def test_a_worker_that_gets_no_turn_withdraws_its_claim(order, provider, clock, registry, untagged, parcels):
    """It sent nothing, and comes back."""
    await registry.take_turn(provider.account, "somebody", clock, timedelta(0))

    with pytest.raises(Unavailable, match="are submitting"):
        await submit_once(replace(order, registry=registry), provider, clock)

    assert (clock.time - START).total_seconds() == 60
    assert not parcels
    assert claim_on(order) is None
    assert not list(registry.entries())


@pytest.mark.parametrize("left", [False, True])
async def test_scratch_files_are_gone_after_the_submit(order, provider, clock, parcels, left):
    """Prompts do not stay on the worker's disk, in whichever way the claim came about."""
    if left:
        left_by_a_dead_worker(order)

    await submit_once(order, provider, clock)

    assert not Path(parcels[0][0].path).parent.exists()


def a_guess(order, registry, batch_id):
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
    return replace(order, registry=registry)


@pytest.mark.parametrize("certain", [True, False])
async def test_what_a_dead_worker_bought_is_found_although_a_neighbour_guesses_it_is_its_own(
    order, provider, clock, untagged, registry, certain
):
    """Buying it again would be worse than to wait, both, until its answers tell whose it is."""
    found, _ = untagged
    found.append(Candidate("batch-7", certain=certain))
    left_by_a_dead_worker(order)

    receipt = await submit_once(a_guess(order, registry, "batch-7"), provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("batch-7", not certain)
    assert not provider.batches


async def test_what_no_neighbour_guesses_is_taken_before_what_one_does(order, provider, clock, untagged, registry):
    """Where the neighbour is right, the other one is ours."""
    untagged[0].extend([Candidate("batch-7", certain=False), Candidate("batch-8", certain=False)])
    left_by_a_dead_worker(order)

    receipt = await submit_once(a_guess(order, registry, "batch-7"), provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("batch-8", True)
    entry = registry.get("tag-0")
    assert (entry.batch_id, entry.tentative) == ("batch-8", True)


async def test_a_guess_that_is_older_than_the_turn_is_not_what_was_sent_in_it(
    order, provider, clock, untagged, registry, tmp_path
):
    """So a create whose answer is lost, and which did not happen, is sent again at once."""
    found, _ = untagged
    order = a_guess(order, registry, "batch-7")
    os.utime(tmp_path / "registry/open/tag-9.json", (0, 0))
    found.append(Candidate("batch-7", certain=False))
    provider.submit_faults = [Unavailable("cut")]

    receipt = await submit_once(order, provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("batch-0", False)


async def test_a_guess_that_is_younger_than_the_turn_may_be_what_was_sent_in_it(
    order, provider, clock, untagged, registry
):
    """A neighbour that looks for a claim of its own may see the new batch first."""
    found, _ = untagged

    async def look():
        a_guess(order, registry, "batch-0")
        found.append(Candidate("batch-0", certain=False))

    provider.while_creating = [look]
    provider.submit_faults = [(Unavailable("cut"), "after")]

    receipt = await submit_once(replace(order, registry=registry), provider, clock)

    assert (receipt.batch_id, receipt.tentative) == ("batch-0", True)
    assert len(provider.batches) == 1


def asleep(order, at, meanwhile):
    """A worker that stands still right after its nth look at its claim, while its successor does this."""

    def stands():
        nonlocal looks
        looks += 1
        if looks == at:
            meanwhile(claim_on(order))
        return True

    looks = 0
    return replace(order, stands=stands)


async def test_a_worker_that_slept_before_its_turn_does_not_undo_its_successors_claim(
    order, provider, clock, registry, untagged, parcels
):
    """The successor has bought since, and died: its claim is the only trace of that."""

    def taken_over(claim):
        ClaimLog(order.directory, order.name).add(
            claim.model_copy(update={"number": claim.number + 1, "owner": "successor", "waits_for_turn": False})
        )

    with pytest.raises(Unresolved, match="took over"):
        await submit_once(asleep(replace(order, registry=registry), 1, taken_over), provider, clock)

    assert claim_on(order).owner == "successor"
    assert not parcels


async def test_a_worker_that_slept_before_its_receipt_does_not_undo_its_successors(order, provider, clock):
    """Two batches of the same rows must not run; the one with the receipt stays."""
    theirs = Receipt(batch_id="batch-7", tag="tag-1", requests=2, submitted_at=START)

    def bought(_claim):
        save(order.directory, order.receipt_name, theirs)

    with pytest.raises(Unresolved, match="created 'batch-0', which is cancelled"):
        await submit_once(asleep(order, 2, bought), provider, clock)

    assert load(order.directory, order.receipt_name, Receipt) == theirs
    assert provider.batches["batch-0"].status == "cancelled"


async def test_a_list_that_does_not_reach_back_is_a_question_with_a_way_on(order, provider, clock, registry):
    """Nobody can tell, and the person who can is told how."""
    left_by_a_dead_worker(order)

    async def endless(_claim):
        raise Unresolved("1000 pages of the list do not reach back.")

    provider.find = endless
    with pytest.raises(Unresolved, match=r"do not reach back\. When you know.*airflow batches adopt tag-0 BATCH_ID"):
        await submit_once(replace(order, registry=registry), provider, clock)

    assert not provider.batches


async def test_a_claim_that_is_taken_over_is_in_the_new_owners_name(order, provider, clock):
    """Two that take it over at once must not write the same words: each would take them for its own."""
    left_by_a_dead_worker(order)
    owners = set()

    async def look():
        owners.add(claim_on(order).owner)

    provider.while_creating = [look]
    await submit_once(order, provider, clock)

    assert owners
    assert "dead" not in owners
