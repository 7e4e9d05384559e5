"""The sums that are kept beside landed rows are those of these rows, or are not used."""

from __future__ import annotations

import pytest
from fakes import START, failing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import SecretStr

from airflow_batch_provider.ledger import Target
from airflow_batch_provider.ledger.batch_files import ROWS
from airflow_batch_provider.ledger.landed import landed_so_far
from airflow_batch_provider.ledger.merge import Tally
from airflow_batch_provider.ledger.sums import BatchSums, Summing
from airflow_batch_provider.models import ROW_STATUSES, Account, Reply, RowError, Usage
from airflow_batch_provider.pricing import Bill, PriceBook, own_prices
from airflow_batch_provider.rows import Row

OK = Reply(
    key="", status="succeeded", output="fine", finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=7)
)
CUT = Reply(key="", status="succeeded", output="fi", finish_reason="max_tokens", usage=Usage(output_tokens=9))


@pytest.fixture
async def landed(ledger, provider, clock):
    """Three rows in two batches: a good one, one that may be asked again, one that was refused for good."""
    refused = replace(failing("refused", retryable=False), usage=Usage(input_tokens=10))
    answers = {"a": CUT, "b": failing(), "c": refused}
    provider.answer = lambda body, _n: answers[body["prompt"]]
    provider.max_requests, provider.polls_until_done = 2, 0
    task, _ = ledger()
    while await task.advance():
        clock.advance(60)
    return task


def manifest_of(task):
    return task.write_results("generate", Target(task.root, "results.jsonl")).manifest


def row_files(task):
    directory = task.files.wave_directory(0)
    return directory, [name for name in directory.names() if name.endswith(ROWS)]


def without_sums(task):
    directory = task.files.wave_directory(0)
    for name in directory.names():
        if name.endswith(".sums.json"):
            directory.delete(name)
    task.root.delete("landed.json")


async def test_kept_sums_say_what_the_rows_say(landed):
    """For the manifest and for people who wait; so it makes no difference that they are lost."""
    kept, kept_landed = manifest_of(landed), landed.landed()
    without_sums(landed)
    counted, counted_landed = manifest_of(landed), landed.landed()

    assert kept.counts["succeeded"] == 1
    assert len(kept.errors.reasons) == 2
    assert kept == counted
    assert kept_landed == counted_landed
    assert (kept_landed.cut_off, kept_landed.ended_early, kept_landed.longest) == (1, 1, 9)
    assert kept_landed.answers == 2  # the refused row used no tokens for one, so no length is learnt from it


async def test_what_one_batch_used_without_a_price_is_told_after_others_have_landed(job, provider):
    """A sum that looked whole would be too small."""
    spoken = replace(OK, usage=Usage(input_tokens=3, output_tokens=7, output_audio_tokens=2))
    provider.answer = lambda body, _n: spoken if body["prompt"] == "a" else OK
    provider.max_requests = 1
    task = job(["a", "b", "c"], model="openai:gpt-4o-mini")

    await task.run()

    assert landed_so_far(task.directory).cost.unpriced == ("output_audio_tokens",)


@pytest.mark.parametrize("second", [failing(), CUT])
async def test_an_answer_that_comes_twice_counts_once(ledger, provider, clock, second):
    """Whichever of the two stands; rows are counted as they come."""
    longest = Reply(key="", status="succeeded", output="finest", usage=Usage(input_tokens=4, output_tokens=11))
    answers, results = {"a": [longest, OK], "b": [CUT, second], "c": [failing(), OK]}, provider.results
    provider.answer, provider.polls_until_done = lambda body, _n: answers[body["prompt"]][0], 0
    task, _ = ledger()

    async def twice(batch_id, kind):
        async for reply in results(batch_id, kind):
            yield reply
        provider.answer = lambda body, _n: answers[body["prompt"]][1]
        async for reply in results(batch_id, kind):
            yield reply

    provider.results = twice
    while await task.advance():
        clock.advance(60)

    kept = task.landed()
    without_sums(task)
    assert kept == task.landed()
    assert (kept.succeeded, kept.cut_off, kept.longest) == (3, 1, 9)
    assert kept.usage == Usage(input_tokens=6, output_tokens=23)


@pytest.mark.parametrize("damage", [b"{}", b"", b'{"bytes": "many"}'])
async def test_sums_that_are_damaged_are_counted_again(landed, damage):
    """From the rows."""
    before = manifest_of(landed)
    directory = landed.files.wave_directory(0)
    for name in directory.names():
        if name.endswith(".sums.json"):
            directory.write(name, damage)

    assert manifest_of(landed) == before


async def test_sums_of_other_rows_do_not_count(landed):
    """A person has put other rows there, or two workers have landed the batch at once."""
    directory, (first, _) = row_files(landed)
    rows = directory.read(first).splitlines(keepends=True)
    directory.write(first, rows[0].replace(b'"succeeded"', b'"failed"') + rows[1])

    assert manifest_of(landed).counts["failed"] == 3


async def test_a_landed_row_that_cannot_be_read_is_counted_as_failed(landed):
    """A disk has lost a block; its neighbours count as they are."""
    directory, (first, _) = row_files(landed)
    rows = directory.read(first).splitlines(keepends=True)
    directory.write(first, b"{" + rows[0] + rows[1])
    landed.root.delete("landed.json")

    reasons = landed.landed().errors.reasons

    assert [(one.code, one.message, one.count) for one in reasons if one.code == "unreadable"] == [
        ("unreadable", "the landed row cannot be read", 1)
    ]
    assert [(one.code, one.sample) for one in landed.landed().unsettled.reasons if one.code == "unreadable"] == [
        ("unreadable", ("",))
    ]


async def test_rows_are_charged_again_when_the_prices_have_changed(landed, provider):
    """A deployment that learns its prices late is told what was paid."""
    assert manifest_of(landed).cost.usd is None

    provider.account = Account(
        provider="openai", api_key=SecretStr("k"), options={"prices": {"m": {"input": 1_000_000}}}
    )

    assert manifest_of(landed).cost.usd == 20


@pytest.mark.parametrize("model", ["gpt-4o-mini", "nobody-lists-me"])
async def test_what_all_batches_cost_and_saved_is_told_as_in_the_manifest(job, provider, model):
    """To people who wait; without sums where the model has no price."""
    provider.max_requests = 1
    used = Usage(input_tokens=1_000_001, output_tokens=3)
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="x", usage=used)
    task = job(["a", "b", "c"], model=f"openai:{model}")

    manifest = await task.run()

    cost = landed_so_far(task.directory).cost
    assert cost.usd == pytest.approx(manifest.cost.usd, abs=1e-6)
    assert cost.saved_usd == pytest.approx(manifest.cost.saved_usd, abs=1e-6)
    assert cost.unpriced == manifest.cost.unpriced


@pytest.mark.parametrize("split", ["abc", "a", "c"])
async def test_what_a_row_holds_beside_its_results_stays_out_of_them(job, provider, split):
    """Pieces of an answer of which no schema has chosen one: the line that landed is then not that of the results."""
    whole = Reply(key="", status="succeeded", output="ab")
    provider.answer = lambda body, _n: replace(whole, choices=("a", "b")) if body["prompt"] in split else whole
    task = job()

    rows = task.rows(await task.run())

    assert [row["output"] for row in rows] == ["ab"] * 3
    assert not any("choices" in row for row in rows)


# whatever the rows are

OWN = own_prices({"cheap": {"input": 0.0001, "output": 0.0003}, "dear": {"input": 7, "output": 11}})
ERRORS = st.builds(
    RowError,
    code=st.sampled_from(["busy", "refused"]),
    message=st.sampled_from(["no room for 'a' at 12", "no room for 'b' at 7", "never", "", "x" * 300]),
    retryable=st.booleans(),
)
COUNTS = st.integers(0, 10**7)
USAGES = st.just(Usage()) | st.builds(Usage, input_tokens=COUNTS, output_tokens=COUNTS, cached_tokens=COUNTS)


@st.composite
def rows(draw, models):
    status = draw(st.sampled_from(ROW_STATUSES))
    return Row(
        custom_id=draw(st.sampled_from("abcde")),
        index=0,
        status=status,
        error=None if status == "succeeded" else draw(st.none() | ERRORS),
        usage=draw(USAGES),
        model=draw(st.sampled_from(models)),
        finish_reason=draw(st.sampled_from(["stop", "max_tokens"])),
    )


def batches(models):
    return st.lists(st.lists(rows(models), max_size=8), max_size=5)


MODELS = st.lists(st.sampled_from([None, "cheap", "dear", "gpt-4.1-mini", "never-heard-of"]), min_size=1, unique=True)


def told(tally):
    return +tally.counts, tally.open, tally.usage, tally.cost, tally.digest


@settings(deadline=None)
@given(MODELS.flatmap(batches), st.sampled_from(["cheap", "never-heard-of"]))
def test_the_sums_of_batches_add_up_to_what_their_rows_tell(batches, model):
    """Counts, tokens, cost to the last digit, and the reasons in order, in words and with samples."""
    bill = lambda: Bill(PriceBook("openai", START, OWN), model)  # noqa: E731
    by_sums, by_rows = Tally(bill=bill()), Tally(bill=bill())
    for batch in batches:
        summing = Summing(bill())
        for row in batch:
            summing.add(row)
            by_rows.asked(row)
            by_rows.settled(row)
        by_sums.take(BatchSums.model_validate_json(summing.sums().model_dump_json()))

    assert told(by_sums) == told(by_rows)
