"""What the built-in stages show to the people who wait: the record `batch_progress`, the ids, and the lines of the log."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from fakes import START, failing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from airflow_batch_provider.exceptions import Denied, NotFound, Overdue, Paused, RowsFailed, Unavailable
from airflow_batch_provider.layout import LANDED
from airflow_batch_provider.ledger.digest import Reasons
from airflow_batch_provider.models import REFUSED, BatchStatus, Reply, RequestCounts
from airflow_batch_provider.providers.consoles import console_url
from airflow_batch_provider.stages.host import MANIFEST
from airflow_batch_provider.stages.progress import MOST_BATCHES, Progress
from airflow_batch_provider.storage import Directory

OK = Reply(key="", status="succeeded", output="fine")
PRICED = "openai:gpt-5-mini"


def shows(provider, *statuses):
    """The provider tells these."""
    by_id = {status.batch_id: status for status in statuses}

    async def poll(batch_id):
        if batch_id not in by_id:
            raise NotFound(batch_id)
        return by_id[batch_id]

    provider.status = poll


def status(batch_id, word, **counts):
    return BatchStatus(batch_id=batch_id, status=word, counts=RequestCounts(**counts) if counts else None)


def counted(record):
    """total, done, succeeded, failed."""
    return tuple(record["counts"][name] for name in ("total", "done", "succeeded", "failed"))


def said(caplog):
    ours = ("task", "airflow_batch_provider.ledger.submit")
    return [record.getMessage() for record in caplog.records if record.name in ours]


# the record


async def test_counts_are_of_the_whole_task(job, provider):
    """Eight rows in four batches, one of them landed: 3 of 8, not 1 of 6."""
    provider.max_requests = 2
    provider.answer = lambda body, n: failing(retryable=False) if body["prompt"] == "a" else OK
    task = job("abcdefgh", max_in_flight=1)
    suspended = await task.start()
    await task.wait(suspended)
    suspended = await task.resume(suspended)
    shows(provider, status("batch-1", "processing", total=2, succeeded=1))

    await task.check(suspended)

    shown = task.shown[-1]
    assert counted(shown) == (8, 3, 2, 1)
    assert (shown["progress"], shown["wave"], shown["landed_batches"]) == (37.5, 0, 1)
    assert (shown["open_batches"], shown["queued_batches"]) == (1, 2)
    assert [(one["batch_id"], one["state"]) for one in shown["batches"]] == [("batch-1", "processing")]
    assert shown["errors"]["reasons"][0]["sample"] == ["request-0"]


async def test_a_later_wave_counts_the_rows_that_have_their_answer(job, provider):
    """Ten rows, of which two are asked again: 8 of 10, not 0 of 2."""
    provider.answer = lambda body, n: failing() if body["prompt"] in "ab" and n == 1 else OK
    task = job("abcdefghij", retry_rows=1, model=PRICED)
    suspended = await task.start()
    await task.wait(suspended)

    await task.resume(suspended)

    shown = task.shown[-1]
    assert (counted(shown), shown["wave"], shown["progress"]) == ((10, 8, 8, 0), 1, 80.0)
    assert (shown["usage"]["input_tokens"], shown["cost"]["usd"] > 0) == (100, True)
    assert shown["estimate"]["usd"] > shown["cost"]["usd"]
    assert shown["asked_again"]["reasons"][0]["count"] == 2
    assert shown["errors"]["reasons"] == []  # they are asked again, so nothing has failed yet


async def test_a_wave_that_fails_again_counts_as_failed(job, provider):
    """Once; and what it failed for in the wave before is over."""
    provider.answer = lambda body, n: failing("again" if n > 1 else "first") if body["prompt"] == "a" else OK
    task = job("abc", retry_rows=1)

    await task.run()

    shown = task.shown[-1]
    assert (counted(shown), shown["progress"]) == ((3, 3, 2, 1), 100.0)
    assert [(reason["code"], reason["count"]) for reason in shown["errors"]["reasons"]] == [("again", 1)]


async def test_a_task_that_is_done_shows_all_of_it(job, provider):
    """The last record is not the one of a third of the way."""
    task = job("abc")
    manifest = await task.run()

    assert [record["state"] for record in (task.shown[0], task.shown[1], task.shown[-1])] == [
        "submitting",
        "waiting",
        "succeeded",
    ]
    last = task.shown[-1]
    assert (counted(last), last["progress"]) == ((3, 3, 3, 0), 100.0)
    assert (last["results"], last["rows"]) == (manifest.results, manifest.model_dump()["counts"])
    await task.retry()
    assert task.shown[-1]["state"] == "succeeded"


async def test_a_failed_attempt_shows_what_became_of_it(job, provider):
    """Counts, reasons, tokens, where the rows are, and what to do."""
    provider.answer = lambda body, n: failing("refused", retryable=False) if body["prompt"] != "a" else OK
    task = job("abc", min_success_ratio=0.9)

    with pytest.raises(RowsFailed):
        await task.run()

    last = task.shown[-1]
    assert (last["state"], counted(last), last["progress"]) == ("unmet", (3, 3, 1, 2), 100.0)
    assert last["errors"]["reasons"][0]["code"] == "refused"
    assert last["usage"]["input_tokens"] > 0
    assert last["results"].endswith("results.jsonl")
    assert "a retry asks only the rest" in last["next_action"]
    assert task.published[MANIFEST] == json.loads(task.directory.read("manifest.unmet.json"))


async def test_an_attempt_that_succeeds_has_its_manifest_as_output_only(job):
    """Never a second copy, in Airflow's database."""
    task = job("abc")
    await task.run()

    assert MANIFEST not in task.published


async def test_a_missed_deadline_shows_what_was_saved(job):
    """Nothing, here."""
    task = job("abc")
    suspended = await task.start()
    with pytest.raises(Overdue):
        await task.overdue(suspended)
    assert task.published[MANIFEST]["counts"]["cancelled"] == 3
    assert (task.shown[-1]["state"], task.shown[-1]["rows"]["cancelled"]) == ("overdue", 3)


async def test_a_missed_deadline_that_leaves_its_batches_shows_that_they_run_on(job):
    """There is nothing to read yet."""
    task = job("abc", on_timeout="leave")
    suspended = await task.start()
    with pytest.raises(Overdue):
        await task.overdue(suspended)
    assert (task.shown[-1]["state"], task.shown[-1]["rows"]) == ("overdue", None)
    assert "go on running" in task.shown[-1]["next_action"]


async def test_a_worker_that_must_stop_shows_why(job, provider):
    """Nobody paid."""
    provider.submit_faults = [Paused("no credit. Pay at the provider.")]
    task = job()

    with pytest.raises(Paused):
        await task.start()

    assert (task.shown[-1]["state"], task.shown[-1]["next_action"]) == ("paused", "no credit. Pay at the provider.")


async def test_a_key_that_is_refused_while_it_waits_stops_no_batch(job, provider):
    """The record says that they run on and how to go on, and keeps them."""
    task = job("abc")
    suspended = await task.start()
    provider.status_faults = [Denied("openai answered 401: bad key.", code="invalid_api_key", http_status=401)]

    with pytest.raises(Denied):
        await task.check(suspended)

    last = task.shown[-1]
    assert (
        "runs on at the provider. Correct the connection; a retry, or a clear of the task, goes on"
        in last["next_action"]
    )
    assert (last["state"], [one["batch_id"] for one in last["batches"]]) == ("denied", ["batch-0"])


async def test_a_record_says_when_it_ends_at_the_latest(job, provider):
    """Age and deadline, so that a page needs no clock of the worker."""
    task = job("abc")
    await task.start()

    last = task.shown[-1]
    assert last["started_at"] == last["batches"][0]["submitted_at"] == START.isoformat().replace("+00:00", "Z")
    assert Progress.model_validate(last).deadline == START + timedelta(hours=10)


async def test_nothing_at_the_provider_yet_is_shown(job, provider):
    """It takes no batch now."""
    provider.submit_faults = [Unavailable("slow down", retry_after=900.0, ambiguous=False)]
    task = job()
    suspended = await task.start()

    await task.check(suspended)

    assert task.shown[-1]["message"] == "0 of 3 requests are done; wave 0: batches 1 queued."


async def test_a_batch_that_is_in_no_list_yet_is_shown(job, provider):
    """It was just created."""
    task = job()
    suspended = await task.start()
    shows(provider)

    await task.check(suspended)

    assert task.shown[-1]["message"] == "0 of 3 requests are done; wave 0: batches 1 submitted."
    assert task.shown[-1]["batches"][0]["state"] is None


async def test_pace_and_end_are_told_when_they_can_be_known(job, provider, clock):
    """A quarter in an hour: three more hours."""
    task = job("abcd")
    suspended = await task.start()
    clock.advance(3600)
    shows(provider, status("batch-0", "processing", total=4, succeeded=1))

    await task.check(suspended)

    end = (START + timedelta(hours=4)).strftime("%F %H:%M")
    assert task.shown[-1]["pace"] == f"1 requests an hour, so the end may be at {end} UTC."


async def test_a_record_stays_small(job, provider):
    """However many batches there are, and whatever rows are called and providers say."""
    provider.max_requests = 1
    hostile = "<script>" + "x" * 5000
    provider.answer = lambda body, n: failing(hostile + body["prompt"], retryable=False) if n else OK
    rows = [{"custom_id": f"{n:04}" + "k" * 500, "prompt": str(n)} for n in range(60)]
    task = job(rows, max_in_flight=50)
    suspended = await task.start()

    assert (len(task.shown[-1]["batches"]), task.shown[-1]["open_batches"]) == (MOST_BATCHES, 50)
    await task.wait(suspended)
    suspended = await task.resume(suspended)
    await task.wait(suspended)
    with pytest.raises(RowsFailed):
        await task.resume(suspended)
    assert max(len(json.dumps(record)) for record in task.shown) < 16_000


async def test_the_record_has_no_prompt_and_no_answer(job, provider):
    """It lies in Airflow's database."""
    provider.answer = lambda body, n: Reply(key="", status="succeeded", output="the secret answer")
    task = job(["the secret prompt", "another secret prompt"])
    await task.run()

    assert "secret" not in json.dumps(task.shown)
    assert all(Progress.model_validate(record).schema_version == 1 for record in task.shown)


async def test_the_ids_are_those_of_all_waves(job, provider):
    """Also after the last one, and for an attempt that only lands."""
    provider.max_requests = 2
    provider.answer = lambda body, n: failing() if body["prompt"] == "a" and n == 1 else OK
    task = job("abcd", retry_rows=1)
    suspended = await task.start()
    await task.wait(suspended)
    await task.resume(suspended)
    assert task.published["batch_ids"] == ["batch-0", "batch-1", "batch-2"]

    await task.retry()

    assert task.published["batch_ids"] == ["batch-0", "batch-1", "batch-2"]


# sums that are kept


@pytest.mark.parametrize("damage", [b"{}", b"not JSON", None])
async def test_a_damaged_file_of_sums_is_counted_again(job, provider, damage):
    """The sums lie in one small file; nothing depends on it."""
    provider.max_requests = 1
    task = job("abcd", max_in_flight=1)
    suspended = await task.start()
    await task.wait(suspended)
    suspended = await task.resume(suspended)
    if damage is None:
        task.directory.delete(LANDED)
    else:
        task.directory.write(LANDED, damage)
    await task.wait(suspended)

    await task.resume(suspended)

    assert counted(task.shown[-1]) == (4, 2, 2, 0)


async def test_no_landed_row_is_read_again_for_the_sums(job, provider, monkeypatch):
    """A task of a thousand batches resumes a thousand times; what landed was summed while it did."""
    read = []
    lines = Directory.lines

    def noted(self, name):
        read.append(name)
        return lines(self, name)

    provider.max_requests = 1
    task = job("abc", max_in_flight=1)
    suspended = await task.start()
    monkeypatch.setattr(Directory, "lines", noted)
    for _ in range(2):
        await task.wait(suspended)
        suspended = await task.resume(suspended)

    assert counted(task.shown[-1]) == (3, 2, 2, 0)
    assert [name for name in read if name.endswith(".rows.jsonl")] == []


async def test_sums_that_cannot_be_written_stop_nothing(job, provider, monkeypatch):
    """A full disk, say, which would stop the rest for good reasons of its own."""
    write = Directory.write

    def full(self, name, data):
        if name == LANDED:
            raise OSError("no space left")
        return write(self, name, data)

    monkeypatch.setattr(Directory, "write", full)
    task = job("abc")

    assert (await task.run()).counts["succeeded"] == 3
    assert counted(task.shown[-1]) == (3, 3, 3, 0)


# the log


async def test_the_log_tells_plan_submit_waves_and_receipt(job, provider, caplog):
    """In the order in which they happen."""
    caplog.set_level("INFO")
    provider.answer = lambda body, n: failing() if body["prompt"] == "a" and n == 1 else OK
    task = job("abc", model=PRICED, retry_rows=1, max_tokens=100)
    manifest = await task.run()

    lines = said(caplog)
    planned, submitted, again = lines[0], lines[1], next(line for line in lines if line.startswith("Wave"))
    assert planned.startswith("Planned: 3 requests to openai gpt-5-mini in 1 batch: about ")
    assert "300 out, for at most $0.0" in planned
    assert submitted.startswith("Submitted batch 'batch-0' to openai: 3 requests, ")
    assert submitted.endswith("See https://platform.openai.com/batches/batch-0")
    assert again.startswith("Wave 1 asks 1 row again. Reasons:\n1 x overloaded")
    (block,) = [line for line in lines if line.startswith("What openai gpt-5-mini was asked")]
    assert "rows      3: 3 succeeded" in block
    assert "tokens    40 in; 20 out" in block
    assert "and saved $0.000025 against single calls" in block
    assert manifest.cost.usd == pytest.approx(task.shown[-1]["cost"]["usd"])
    assert "in 2 waves of 2 batches" in block
    assert manifest.results in block
    assert lines[-1].startswith("Done: 3 succeeded. Results: ")


async def test_a_task_that_was_done_before_says_so(job, caplog):
    """Nothing is bought."""
    caplog.set_level("INFO")
    task = job()
    await task.run()
    caplog.clear()
    await task.retry()

    assert any("Everything was answered by an earlier attempt; nothing is bought." in line for line in said(caplog))


async def test_a_dry_run_logs_its_estimate(job, caplog):
    """It is asked for the number."""
    caplog.set_level("INFO")
    await job("abc", model=PRICED, dry_run=True).run()

    (line,) = said(caplog)
    assert line.startswith("Dry run, nothing is bought: 3 requests to openai gpt-5-mini")
    assert re.search(r"\d tokens", line)
    assert re.search(r"\$\d", line)


async def test_text_that_is_cut_off_is_told(job, provider, caplog):
    """It counts as succeeded, so nobody would look."""
    caplog.set_level("INFO")
    cut = structs.replace(OK, finish_reason="max_tokens")
    provider.answer = lambda body, n: cut if body["prompt"] == "a" else OK
    await job("abc", retry_truncated=False).run()

    assert any("1 answer ends at max_tokens" in line for line in said(caplog))


async def test_a_failed_attempt_logs_its_facts_before_the_error(job, provider, caplog):
    """The error itself is one line."""
    provider.answer = lambda body, n: failing("refused", retryable=False)

    with pytest.raises(RowsFailed) as caught:
        await job("abc").run()

    assert "\n" not in str(caught.value)
    (block,) = [line for line in said(caplog) if "without an answer:" in line]
    assert "3 x refused: it is refused" in block


async def test_a_fault_that_stays_is_told_once(job, provider, caplog):
    """Not at each of a dozen tries in a minute."""
    caplog.set_level("INFO")
    fault = Unavailable("nobody answers at http://localhost:1", ambiguous=False)
    provider.submit_faults = [fault] * 20

    await job().start()

    (line,) = [line for line in caplog.messages if "is not ready" in line]
    assert "http://localhost:1" in line


# reasons


def test_messages_that_differ_only_in_ids_and_quotes_are_one_reason():
    """500 rows refused under 500 keys are one reason."""
    reasons = Reasons()
    for n in range(500):
        reasons.add("fake", f"fake failure of 8575ce-0-00000-{n} in 'field {n}'", f"row-{n}")
    reasons.add("fake", "another failure", "row-x")

    first, second = reasons.digest().reasons
    assert (first.count, first.sample) == (500, ("row-0", "row-1", "row-2"))
    assert first.message == "fake failure of 8575ce-0-00000-0 in 'field 0'"
    assert second.message == "another failure"


def test_what_a_model_said_when_it_refused_is_in_no_digest():
    """It may repeat the prompt, and a digest goes to logs and XCom; each row keeps its own."""
    reasons = Reasons()
    for n in range(2):
        reasons.add("refusal", f"{REFUSED} I cannot say whether patient {'AB'[n]} is ill.", f"row-{n}")

    (reason,) = reasons.digest().reasons
    assert (reason.count, reason.message) == (2, "The model refused to answer.")


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=300), st.text(max_size=10)), max_size=30))
def test_every_row_is_counted_in_some_reason(rows):
    """Whatever providers say."""
    reasons = Reasons()
    for code, message, key in rows:
        reasons.add(code, message, key)

    assert sum(reason.count for reason in reasons.digest(1000).reasons) == len(rows)


# the console


@pytest.mark.parametrize("batch_id", ["../../evil", "a?b=c", "<img>", "x" * 200, "", "a b", "é"])
def test_a_hostile_id_is_in_no_address(provider, batch_id):
    """It gets the page of all batches."""
    account = provider.account.model_copy(update={"provider": "openai", "base_url": None})

    assert console_url(account, batch_id) == "https://platform.openai.com/batches"


def test_only_the_providers_own_server_has_a_console(provider):
    """A gateway's batches are not there; Google has no such page."""
    account = provider.account.model_copy(update={"provider": "openai", "base_url": None})

    assert console_url(account, "batch_1") == "https://platform.openai.com/batches/batch_1"
    assert console_url(account.model_copy(update={"provider": "anthropic"}), "msgbatch_1") == (
        "https://platform.claude.com/workspaces/default/batches?batch=msgbatch_1"
    )
    assert console_url(account.model_copy(update={"base_url": "http://localhost:1"}), "batch_1") is None
    assert console_url(account.model_copy(update={"provider": "google"}), "batches/1") is None
