"""Rows that ask the same are bought once, and each of them has its row in the results."""

from __future__ import annotations

import pytest
from fakes import FakeClock, FakeProvider, Job, bombed_storage, failing
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import plan_of
from sweeps import killed_jobs

from airflow_batch_provider.ledger import digests
from airflow_batch_provider.ledger.digests import DigestTable
from airflow_batch_provider.models import BatchRequest, Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.opening import ledger_of

OK = Reply(key="", status="succeeded", output="fine")
SAME = ["a", "b", "a", {"custom_id": "mine", "prompt": "a"}, "c", "b"]


def told(rows):
    return [(row["custom_id"], row["status"], row["output"], row.get("same_as")) for row in rows]


async def test_rows_that_ask_the_same_are_bought_once_and_each_has_the_answer(job, provider):
    """In the order asked; the cost is that of the rows that were asked, and a copy says whose answer it has."""
    task = job(SAME)

    manifest = await task.run()

    assert provider.bought == {"a": 1, "b": 1, "c": 1}
    rows = task.rows(manifest)
    assert told(rows) == [
        ("request-0", "succeeded", "echo: a", None),
        ("request-1", "succeeded", "echo: b", None),
        ("request-2", "succeeded", "echo: a", "request-0"),
        ("mine", "succeeded", "echo: a", "request-0"),
        ("request-4", "succeeded", "echo: c", None),
        ("request-5", "succeeded", "echo: b", "request-1"),
    ]
    assert [row["usage"]["input_tokens"] for row in rows] == [10, 10, 0, 0, 10, 0]
    assert [row["batch_id"] for row in rows] == ["batch-0"] * 6
    assert (manifest.requests, manifest.copies, manifest.counts["succeeded"]) == (6, 3, 6)
    assert manifest.usage.input_tokens == 30


async def test_each_copy_has_the_answer_of_its_own_original(job):
    """However many there are of both, and wherever they stand."""
    prompts = [f"q{n}" for n in range(41)]
    task = job([*prompts, *reversed(prompts), "q7"])

    rows = task.rows(await task.run())

    assert [row["index"] for row in rows] == list(range(83))
    assert [row["output"] for row in rows[41:]] == [f"echo: {q}" for q in (*reversed(prompts), "q7")]
    assert [row["same_as"] for row in rows[41:]] == [f"request-{n}" for n in (*reversed(range(41)), 7)]


async def test_each_row_is_bought_where_that_is_wanted(job, provider):
    """`dedup_rows=False`."""
    manifest = await job(SAME, dedup_rows=False).run()

    assert provider.bought == {"a": 3, "b": 2, "c": 1}
    assert (manifest.copies, manifest.usage.input_tokens) == (0, 60)


@pytest.mark.parametrize("how", ["the task", "the row"])
@pytest.mark.parametrize(("temperature", "bought"), [(0.7, 2), (1, 2), (0, 1), (0.0, 1), (None, 1)])
async def test_rows_that_set_a_temperature_ask_for_answers_of_their_own(job, provider, how, temperature, bought):
    """A hundred times the same prompt asks for a hundred poems; temperature 0 says that one is enough."""
    params = {"request_params": {"temperature": temperature}}
    rows = [{"prompt": "a poem"} | (params if how == "the row" else {}) for _ in range(2)]

    await job(rows, **(params if how == "the task" else {})).run()

    assert provider.bought == {"a poem": bought}


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a", "system": "be short"},
        {"prompt": "a", "request_params": {"seed": 1}},
        {"prompt": "a", "output_type": {"type": "object", "properties": {}}},
        {"prompt": "a "},
    ],
)
async def test_rows_that_differ_in_anything_are_bought_each(job, provider, other):
    """What is compared is the whole body, and the schema that answers are checked against."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output="{}")

    manifest = await job(["a", other]).run()

    assert (manifest.copies, sum(provider.bought.values())) == (0, 2)


async def test_requests_of_every_shape_are_compared_by_what_is_sent(job, provider):
    """Texts, dicts and `BatchRequest`s."""
    manifest = await job(["a", {"prompt": "a"}, BatchRequest(prompt="a", custom_id="k")]).run()

    assert (provider.bought, manifest.copies) == ({"a": 1}, 2)


async def test_a_copy_gets_the_answer_of_whatever_wave(job, provider):
    """The original is asked again, alone; the copy is not asked at all."""
    provider.answer = lambda body, n: failing() if body["prompt"] == "a" and n == 1 else OK
    task = job(SAME, retry_rows=1)

    manifest = await task.run()

    assert provider.bought == {"a": 2, "b": 1, "c": 1}
    assert [(row["status"], row["wave"]) for row in task.rows(manifest)] == [
        ("succeeded", wave) for wave in (1, 0, 1, 1, 0, 0)
    ]


async def test_a_copy_of_a_row_without_a_good_answer_has_none_either_and_is_counted(job, provider):
    """So `min_success_ratio` and the reasons are of all rows that the task was given."""
    provider.answer = lambda body, _n: failing("refused", retryable=False) if body["prompt"] == "a" else OK

    manifest = await job(SAME).run()

    assert (manifest.counts["succeeded"], manifest.counts["failed"]) == (3, 3)
    (reason,) = manifest.errors.reasons
    assert (reason.count, reason.sample) == (3, ("request-0", "request-2", "mine"))


async def test_a_copy_of_a_row_that_is_too_large_is_skipped_with_it(job, provider):
    """And said to be bad, as the row that it copies."""
    provider.max_bytes = 300
    task = job(["x" * 500, "a", "x" * 500], on_bad_row="skip")

    rows = task.rows(await task.run())

    assert [(row["status"], (row["error"] or {}).get("code")) for row in rows] == [
        ("failed", "bad_row"),
        ("succeeded", None),
        ("failed", "bad_row"),
    ]


async def test_a_retry_goes_on_with_the_plan_whatever_it_says_of_copies(job, provider):
    """The argument changes how rows are bought, not which: a running batch is not refused, and nothing is bought twice."""
    provider.polls_until_done = 5
    task = job(SAME)
    await task.start()

    task.config = task.config.model_copy(update={"dedup_rows": False})
    manifest = await task.retry()

    assert provider.bought == {"a": 1, "b": 1, "c": 1}
    assert (manifest.copies, manifest.counts["succeeded"]) == (3, 6)


async def test_what_finished_before_the_deadline_is_there_for_copies_too(job, provider):
    """The rows of the other batch are missing, with their copies."""
    provider.max_requests = 1
    task = job(["a", "b", "a", "b"], max_in_flight=1, on_timeout="salvage")
    waiting = await task.start()
    provider.polls_until_done = 0
    await task.wait(waiting)
    provider.polls_until_done = 10_000
    waiting = await task.resume(waiting)

    manifest = await task.overdue(waiting)

    assert [row["status"] for row in task.rows(manifest)] == ["succeeded", "cancelled"] * 2


@pytest.mark.parametrize("result_format", ["jsonl", "jsonl.zst", "parquet"])
async def test_every_format_says_whose_answer_a_copy_has(job, result_format):
    """And reads back as it was."""
    manifest = await job(SAME, result_format=result_format).run()

    rows = list(BatchResults(manifest))

    assert [row.same_as for row in rows] == [None, None, "request-0", "request-0", None, "request-1"]
    assert [row.output for row in rows] == [f"echo: {one}" for one in "abaacb"]


async def test_the_estimate_is_of_what_is_bought(job):
    """And tells how many rows are not."""
    each = await job(SAME, dry_run=True, dedup_rows=False).run()
    once = await job(SAME, dry_run=True).run()

    assert once.usage.input_tokens < each.usage.input_tokens
    assert (once.requests, once.copies, once.counts) == (6, 3, {"missing": 6})


async def test_progress_counts_the_requests_that_are_asked(job):
    """A copy has not failed while its original runs."""
    task = job(SAME)
    await task.start()

    shown = task.shown[-1]["counts"]
    assert (shown["total"], shown["done"]) == (3, 0)


@pytest.mark.sweep
async def test_a_job_with_copies_killed_anywhere_is_paid_once_and_whole(tmp_path, monkeypatch, sweep):
    """Two waves, two batches."""

    def make(root, bomb, patch):
        answer = lambda body, n: failing() if body["prompt"] == "a" and n == 1 else OK  # noqa: E731
        provider = FakeProvider(FakeClock(), bomb, answer=answer, max_requests=2)
        bombed_storage(bomb, patch)
        return Job(root, provider, provider.clock, SAME, retry_rows=1)

    async def drive(task):
        manifest = await task.retry()
        assert task.provider.bought == {"a": 2, "b": 1, "c": 1}
        rows = task.rows(manifest)
        assert [row["status"] for row in rows] == ["succeeded"] * 6
        assert [row.get("same_as") for row in rows] == [None, None, "request-0", "request-0", None, "request-1"]

    async for task, _bomb in killed_jobs(sweep, make, drive, tmp_path, monkeypatch):
        await drive(task)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30))
def test_whatever_rows_are_equal_the_plan_asks_each_once_and_names_the_first(tmp_path_factory, prompts):
    """Of the rows that ask the same, the first is asked."""
    clock = FakeClock()
    task = Job(tmp_path_factory.mktemp("job"), FakeProvider(clock), clock, prompts)
    ledger = ledger_of(task.context(), task.provider)
    plan = plan_of(ledger, *prompts)

    first = {prompt: prompts.index(prompt) for prompt in prompts}
    asked = [row.index for batch in ledger.files.batches(plan.first) for row in batch.planned_rows()]
    assert asked == sorted(first.values())
    assert {row.index: row.original for row in ledger.files.copied_rows(plan)} == {
        index: first[prompt] for index, prompt in enumerate(prompts) if index != first[prompt]
    }
    assert (plan.requests, plan.skipped) == (len(prompts), 0)


def test_a_table_of_digests_keeps_the_first_number_of_each_across_its_blocks(monkeypatch):
    """In memory, on disk, and in buckets that several share."""
    monkeypatch.setattr(digests, "_BUCKETS", 7)
    monkeypatch.setattr(digests, "_FULL", 8)
    table = DigestTable()
    for number in range(200):
        assert table.first([bytes([number % 50]) * 16], [number]) == [number % 50]
    table.close()
