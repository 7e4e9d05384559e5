"""The client where money is at stake: what it refuses, what it buys once, and what it buys again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from driving import MODELS, PATHS, Driver

from airflow_batch_provider.exceptions import Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.stages.generate import GenerateStage

CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}
LIST = {"anthropic": "anthropic.list", "openai": "openai.batches.list", "google": "google.list"}
NO_SCHEMA = {"type": "object", "properties": {"red": {"type": "integer", "minimum": "much"}}}


class Died(BaseException):
    """The process was killed here."""


@pytest.mark.parametrize("custom_id", ["a b", "a/b", "../a", "ü", "a" * 500, "a\n", "Z_-9"])
async def test_any_id_comes_back_as_it_was(driver, provider_name, custom_id):
    """The wire carries the row's place; what people call their rows stays in storage."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit([{"custom_id": custom_id, "prompt": "one"}])
    await driver.ended(client, handle.id)
    (row,) = await driver.client(MODELS[provider_name]).get_results(handle.id)
    assert (row.custom_id, row.output) == (custom_id, "echo: one")


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        ([{"custom_id": "a", "prompt": "1"}, {"custom_id": "a", "prompt": "2"}], "'a' is used by row 0 and by row 1"),
        ([{"prompt": ""}], "Row 0 is not a request: prompt"),
        ([{"prompt": "one", "temperature": 1}], "Row 0 is not a request: 'temperature' is not a field"),
        ([7], "Row 0 is not a prompt but int"),
        (["one", {"prompt": "two", "output_type": NO_SCHEMA}], "Row 1: output_type is not a JSON schema"),
    ],
)
async def test_a_wrong_request_is_named_before_anything_is_paid(driver, provider_name, requests, told):
    """Which row, what is wrong with it."""
    with pytest.raises(UsageError, match=told):
        await driver.client(MODELS[provider_name]).submit(requests)
    assert driver.jobs == []


async def test_a_schema_for_all_that_is_none_is_refused_before_it_is_paid(driver, provider_name):
    """Not after a day of waiting, when the answers are to be checked by it."""
    with pytest.raises(UsageError, match="not a JSON schema"):
        await driver.client(MODELS[provider_name]).submit(["one"], output_type=NO_SCHEMA)
    assert driver.jobs == []


async def test_the_same_requests_of_a_task_are_bought_once(driver, provider_name):
    """A retried `execute` submits again and gets the batch that it has."""
    first = await driver.client(MODELS[provider_name]).submit(["one", "two"])
    again = await driver.client(MODELS[provider_name]).submit(["one", "two"])
    other = await driver.client(MODELS[provider_name]).submit(["one", "three"])
    assert first == again != other
    assert len(driver.jobs) == 2


@pytest.mark.parametrize(
    "fault", [{"kind": "cut"}, {"kind": "status", "status": 500}, {"kind": "cut_body", "bytes": 10}], ids=str
)
async def test_a_lost_answer_to_the_create_does_not_buy_twice(driver, provider_name, fault):
    """The provider committed and its answer was lost: the batch is found there."""
    fields = {"when": "after", **fault}
    driver.fault(CREATE[provider_name], fields.pop("kind"), **fields)
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two"])
    assert [job["id"] for job in driver.jobs] == [handle.id]
    await driver.ended(client, handle.id)
    assert [row.output for row in await client.get_results(handle.id)] == ["echo: one", "echo: two"]
    assert driver.server.books()["bought_twice"] == 0


@pytest.mark.parametrize(
    ("model", "route"), [("text-embedding-3-small", "openai.batches.create"), ("gemini-embedding-001", "google.embed")]
)
async def test_a_lost_answer_to_an_embedding_create_does_not_buy_twice(driver, model, route):
    """Vectors go another way at Gemini, and are found there too."""
    driver.fault(route, "cut", when="after")
    client = driver.client(model)
    handle = await client.submit(["one", "two"])
    assert [job["id"] for job in driver.jobs] == [handle.id]
    await driver.ended(client, handle.id)
    assert [len(row.output) for row in await client.get_results(handle.id)] == [8, 8]


async def test_a_poll_that_fails_too_leaves_the_claim_for_the_next_process(driver, provider_name):
    """Neither the create nor the list answers: nothing more is bought, and the next process finds the batch."""
    driver.fault(CREATE[provider_name], "cut", when="after")
    driver.fault(LIST[provider_name], "status", status=503, times=None)
    with pytest.raises(Unavailable):
        await driver.client(MODELS[provider_name]).submit(["one", "two"])
    driver.server.faults.clear()
    handle = await driver.client(MODELS[provider_name]).submit(["one", "two"])
    assert [job["id"] for job in driver.jobs] == [handle.id]


async def test_an_id_that_is_a_path_is_never_sent(driver, provider_name):
    """What comes from a state or a provider may be anything."""
    client = driver.client(MODELS[provider_name])
    for verb in (client.get_status, client.get_results, client.cancel):
        with pytest.raises(Rejected):
            await verb("../../v1/models?x=1")
    assert not driver.calls


async def test_a_create_that_never_arrived_is_sent_again(driver, provider_name):
    """The connection broke before the provider had it: after a grace time it is bought, once."""
    driver.fault(CREATE[provider_name], "cut", when="before")
    started = driver.now()
    handle = await driver.client(MODELS[provider_name]).submit(["one", "two"])
    assert [job["id"] for job in driver.jobs] == [handle.id]
    assert driver.now() - started >= timedelta(seconds=60)


async def test_a_process_that_died_after_the_commit_buys_nothing_in_the_next_one(driver, provider_name, monkeypatch):
    """The claim is on disk, the receipt is not: the next process finds the batch and goes on with it."""
    provider = await driver.hub.provider(driver.client(MODELS[provider_name])._connection)
    really = provider.create

    async def submit_and_die(prepared):
        await really(prepared)
        raise Died

    monkeypatch.setattr(provider, "create", submit_and_die)
    with pytest.raises(Died):
        await driver.client(MODELS[provider_name]).submit(["one", "two"])
    monkeypatch.undo()
    await driver.hub.aclose()
    driver.server.clock.advance(3600)
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two"])
    assert [job["id"] for job in driver.jobs] == [handle.id]
    await driver.ended(client, handle.id)
    assert [row.output for row in await client.get_results(handle.id)] == ["echo: one", "echo: two"]


async def test_a_batch_that_cannot_be_seen_just_after_its_create_is_not_bought_again(driver, provider_name):
    """A 404 just after the create means: not visible yet."""
    driver.fault(CREATE[provider_name], "hide", polls=1)
    first = await driver.client(MODELS[provider_name]).submit(["one"])
    again = await driver.client(MODELS[provider_name]).submit(["one"])
    assert first == again
    assert len(driver.jobs) == 1


async def test_requests_of_a_dead_batch_are_bought_again(driver, provider_name):
    """A cancelled batch gives no answers any more, so a retry of the task pays for a new one."""
    client = driver.client(MODELS[provider_name])
    first = await client.submit(["one", "two"])
    await client.cancel(first.id)
    await driver.ended(client, first.id)
    second = await driver.client(MODELS[provider_name]).submit(["one", "two"])
    assert second.id != first.id
    await driver.ended(client, second.id)
    assert [row.output for row in await client.get_results(second.id)] == ["echo: one", "echo: two"]


async def test_a_refused_create_withdraws_its_claim(driver, provider_name):
    """Without credit nothing is bought; when there is some, the same submit goes through at once."""
    code = {"anthropic": "billing_error", "openai": "insufficient_quota", "google": "RESOURCE_EXHAUSTED"}[provider_name]
    status = {"anthropic": 402, "openai": 429, "google": 402}[provider_name]
    driver.fault(CREATE[provider_name], "status", status=status, code=code)
    with pytest.raises(Paused):
        await driver.client(MODELS[provider_name]).submit(["one"])
    started = driver.now()
    await driver.client(MODELS[provider_name]).submit(["one"])
    assert driver.now() == started
    assert len(driver.jobs) == 1


async def test_a_client_without_storage_keeps_nothing(driver):
    """The hook's client submits without claims, and the same requests are then two batches."""
    client = driver.client("gpt-4o", stored=False)
    first, second = await client.submit(["one"]), await client.submit(["one"])
    assert first.id != second.id
    assert not driver.root.exists()


async def test_the_same_requests_over_another_connection_are_other_requests(driver):
    """Two accounts are two purchases, and each batch is asked of the account that has it."""
    first = await driver.client("gpt-4o", conn_id="one").submit(["one"])
    second = await driver.client("gpt-4o", conn_id="two").submit(["one"])
    assert first.id != second.id
    assert set(driver.opened) == {"one", "two"}


# Anthropic keeps no name of ours, so a batch of the same size at the same time may be somebody else's.


@pytest.fixture
def neighbour(server, tmp_path) -> Driver:
    """Another task of the same workspace."""
    return Driver(server, tmp_path / "neighbour")


async def test_a_neighbours_batch_is_not_taken_for_ours_in_the_client(driver, neighbour):
    """Adopted by time and size while it ran, it is refused by its keys, and the retry buys our own."""
    theirs = await _at_the_same_time(driver, neighbour)
    client = driver.client(MODELS["anthropic"])
    adopted = await client.submit(["one", "two"])
    assert adopted.id == theirs.id
    await driver.ended(client, adopted.id)
    with pytest.raises(Unresolved, match="answers are to other requests"):
        await client.get_results(adopted.id)
    driver.server.clock.advance(60)
    ours = await driver.client(MODELS["anthropic"]).submit(["one", "two"])
    assert ours.id != theirs.id
    await driver.ended(client, ours.id)
    assert [row.output for row in await client.get_results(ours.id)] == ["echo: one", "echo: two"]


async def test_a_neighbours_batch_is_not_taken_for_ours_by_a_built_in_stage(driver, neighbour):
    """Its rows are not landed: the stage searches again for its own batch and only then buys it."""
    theirs = await _at_the_same_time(driver, neighbour)
    done = await driver.run(GenerateStage, driver.config("anthropic"), ["one", "two"])
    assert done.output.counts["succeeded"] == 2
    assert theirs.id not in done.output.batches
    assert driver.server.books()["bought_twice"] == 0


async def test_a_late_batch_of_ours_is_found_after_a_neighbours_was_taken_for_it(driver, neighbour):
    """The claim outlives the mistake: ours had been created all along, and is not bought a second time."""
    theirs = await neighbour.client(MODELS["anthropic"]).submit(["x", "y"])
    driver.fault(CREATE["anthropic"], "unlist", seconds=30)
    driver.fault(CREATE["anthropic"], "cut", when="after")
    done = await driver.run(GenerateStage, driver.config("anthropic"), ["one", "two"])
    assert done.output.counts["succeeded"] == 2
    assert theirs.id not in done.output.batches
    assert len(driver.jobs) == 2
    await neighbour.hub.aclose()


async def _at_the_same_time(driver, neighbour):
    """The neighbour's batch of two, created while the first create of ours is being cut."""
    theirs = await neighbour.client(MODELS["anthropic"]).submit(["x", "y"])
    driver.fault(CREATE["anthropic"], "cut", when="before")
    await neighbour.hub.aclose()
    return theirs


def test_every_provider_is_covered():
    """A provider that joins must be added here."""
    assert set(CREATE) == set(PATHS) == set(MODELS)
