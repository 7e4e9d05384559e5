"""Rows that cannot be asked are refused all at once, or skipped and told in the results; an empty input may be no fault."""

from __future__ import annotations

import json
import re

import pytest
from fakes import Killed, failing

from airflow_batch_provider.exceptions import RowsFailed, UsageError
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.config import Source
from airflow_batch_provider.storage import Directory

BAD = [
    ({"custom_id": "b", "prompt": None}, "exactly one of"),
    ({"custom_id": "b", "promt": "x"}, "'promt' is not a field (did you mean 'prompt'?)"),
    ({"custom_id": "b", "prompt": "x", "Max_Tokens": 5}, "'Max_Tokens' is not a field (did you mean 'max_tokens'?)"),
    (
        {"custom_id": "b", "prompt": "x", "system_prompt": "y"},
        "'system_prompt' is not a field (did you mean 'system'?).",
    ),
    ({"custom_id": "b", "prompt": "x", "zzz": 5}, "'zzz' is not a field. A row is"),
    ({"custom_id": "b", "prompt": 5}, "prompt: Input should be a valid string"),
    ({"custom_id": "b", "prompt": "x", "messages": [5]}, "messages.0: Input should be a valid dictionary"),
    ({"custom_id": "b", "prompt": "x", "messages": [{}]}, "row: give exactly one of"),
    ({"custom_id": "b", "prompt": "\ud800"}, "lone surrogate"),
    ({"custom_id": "b", "prompt": "x", "request_params": {"a": object()}}, "object has no JSON form"),
    ({"custom_id": "b", "prompt": "x", "output_type": {"type": "nonsense"}}, "schema"),
]

BAD_ROW = {"prompt": None}


def statuses(rows):
    return [(row["custom_id"], row["status"]) for row in rows]


@pytest.mark.parametrize(("bad", "problem"), BAD)
async def test_a_bad_row_is_refused_by_default_and_skipped_on_demand(job, provider, bad, problem):
    """It stays in the results as failed, with the reason and its own key, and is never bought."""
    rows = ["good", bad, "better"]
    with pytest.raises(UsageError, match="Row 1") as caught:
        await job(rows).run()
    assert problem in str(caught.value)
    assert not provider.batches

    task = job(rows, on_bad_row="skip")
    manifest = await task.run()

    found = task.rows(manifest)
    assert statuses(found) == [("request-0", "succeeded"), ("b", "failed"), ("request-2", "succeeded")]
    assert problem in found[1]["error"]["message"]
    assert (found[1]["error"]["code"], found[1]["error"]["retryable"]) == ("bad_row", False)
    assert provider.bought == {"good": 1, "better": 1}
    assert (manifest.requests, manifest.counts["succeeded"], manifest.counts["failed"]) == (3, 2, 1)
    assert manifest.errors.reasons[0].sample == ("b",)


async def test_a_bad_row_keeps_a_key_of_the_greatest_length(job):
    """512 characters, as a good one."""
    task = job([{"custom_id": "k" * 512, "prompt": None}, "x"], on_bad_row="skip")

    assert statuses(task.rows(await task.run()))[0] == ("k" * 512, "failed")


async def test_every_skipped_row_is_in_the_results(job):
    """However many."""
    task = job([BAD_ROW, BAD_ROW, "x", BAD_ROW], on_bad_row="skip")

    assert [status for _, status in statuses(task.rows(await task.run()))] == [
        "failed",
        "failed",
        "succeeded",
        "failed",
    ]


@pytest.mark.parametrize("key", ["", "k" * 513, "\ud800", None, 7])
async def test_a_bad_row_without_a_key_that_can_be_used_is_numbered(job, key):
    """As one without any."""
    task = job([{"custom_id": key, "prompt": None}, "x"], on_bad_row="skip")

    assert statuses(task.rows(await task.run()))[0] == ("7" if key == 7 else "request-0", "failed")


@pytest.mark.parametrize(("bad", "head"), [(2, "2 rows"), (20, "At least 20 rows"), (50, "At least 20 rows")])
async def test_all_bad_rows_are_told_at_once(job, provider, bad, head):
    """Twenty at most: a person fixes kinds of faults."""
    with pytest.raises(UsageError, match=f"{head} cannot be asked. Fix them, or skip them") as caught:
        await job(["x", *[{"prompt": None}] * bad]).run()

    assert [f"Row {number} " in str(caught.value) for number in (1, 2, 20, 21)] == [True, True, bad >= 20, False]
    assert not provider.batches


async def test_rows_that_are_too_large_are_bad_rows(job, provider):
    """Whether the first, the last or in between."""
    rows = ["x" * 2_000_000, "a", "y" * 2_000_000, "b", "z" * 2_000_000]
    with pytest.raises(UsageError, match="3 rows cannot be asked"):
        await job(rows).run()

    task = job(rows, on_bad_row="skip")
    found = task.rows(await task.run())

    assert [status for _, status in statuses(found)] == ["failed", "succeeded"] * 2 + ["failed"]
    assert provider.bought == {"a": 1, "b": 1}


async def test_bad_rows_of_files_are_skipped(job, tmp_path, provider):
    """By their line; a file that cannot be read at all is refused."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,text\n1,a\n2\n3,\n")
    (tmp_path / "in/b.jsonl").write_text('{"id": "4", "text": "b"}\n{oops\n[]\n{"id": "7"}\n')
    task = job(source=Source(uri=str(tmp_path / "in"), prompt="{text}", key="id"), on_bad_row="skip")

    found = task.rows(await task.run())

    keys = ["1", "request-1", "3", "4", "request-4", "request-5", "7"]
    assert statuses(found) == [(key, "succeeded" if key in "14" else "failed") for key in keys]
    assert "Line 2 of" in found[4]["error"]["message"]
    assert provider.bought == {"a": 1, "b": 1}


async def test_a_file_without_the_column_is_refused_although_rows_are_skipped(job, tmp_path, provider):
    """Not one row of it can be asked."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(UsageError, match="has no column 'text'"):
        await job(source=Source(uri=str(tmp_path / "a.csv"), prompt="{text}"), on_bad_row="skip").run()


async def test_a_key_that_is_used_twice_is_always_refused(job, provider):
    """No skipping tells which of the two is meant."""
    rows = [{"custom_id": "x", "prompt": "a"}, {"custom_id": "x", "prompt": None}]
    with pytest.raises(UsageError, match="used by row 0 and by row 1"):
        await job(rows, on_bad_row="skip").run()
    assert not provider.batches


@pytest.mark.parametrize("standard", [{"on_partial": "fail"}, {"min_success_ratio": 0.9}])
async def test_a_task_that_would_fail_for_its_skipped_rows_buys_nothing(job, provider, standard):
    """They count as failed."""
    with pytest.raises(UsageError, match="Only 1 of 2 rows can be asked, less than"):
        await job(["a", {"prompt": None}], on_bad_row="skip", **standard).run()
    assert not provider.batches


async def test_only_bad_rows_buy_nothing_and_are_all_told(job, provider):
    """In the results of the failed task."""
    task = job([{"prompt": None}] * 2, on_bad_row="skip")
    with pytest.raises(RowsFailed, match="none of 2 has an answer"):
        await task.run()
    assert not provider.batches
    assert len(list(task.directory.lines("results.jsonl"))) == 2


async def test_a_later_attempt_goes_on_and_a_repaired_row_is_asked(job, provider):
    """The skipped rows are part of the plan."""
    rows = ["a", {"custom_id": "b", "prompt": None}]
    task = job(rows, on_bad_row="skip")
    first = await task.run()
    assert await task.run() == first
    assert provider.bought == {"a": 1}

    task.requests = ["a", {"custom_id": "b", "prompt": "b"}]
    assert (await task.run()).counts["succeeded"] == 2


async def test_later_waves_ask_good_rows_only(job, provider):
    """Rows between skipped ones keep their places."""
    provider.answer = lambda body, times: good(body) if times > 1 or body["prompt"] == "a" else failing()
    task = job([BAD_ROW, "a", BAD_ROW, "b", BAD_ROW], on_bad_row="skip", retry_rows=1)

    found = task.rows(await task.run())

    assert [(row["index"], row["status"]) for row in found] == [
        (0, "failed"),
        (1, "succeeded"),
        (2, "failed"),
        (3, "succeeded"),
        (4, "failed"),
    ]
    assert provider.bought == {"a": 1, "b": 2}


def good(body):
    return Reply(key="", status="succeeded", output=f"echo: {body['prompt']}")


@pytest.mark.parametrize("at", range(40))
async def test_a_kill_at_any_write_loses_no_row_and_buys_none_twice(job, provider, monkeypatch, at):
    """Skipped rows as well: the worker dies at its write number `at` and is started again."""
    task = job([BAD_ROW, "a", BAD_ROW, "b"], on_bad_row="skip")
    writes = iter(range(1000))
    for name in ("publish", "create"):
        method = getattr(Directory, name)

        def dying(self, *given, method=method):
            if next(writes) == at:
                raise Killed
            return method(self, *given)

        monkeypatch.setattr(Directory, name, dying)
    try:
        manifest = await task.run()
    except Killed:
        task.attempt = 2
        manifest = await task.run()

    found = task.rows(manifest)
    assert [row["status"] for row in found] == ["failed", "succeeded"] * 2
    assert provider.bought == {"a": 1, "b": 1}
    assert len([name for name in task.directory.names("waves/0") if name.endswith(".skipped.jsonl")]) == 1


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_skipped_rows_are_in_both_formats(job, form):
    """In the order asked."""
    task = job(["a", {"prompt": None}, "b"], on_bad_row="skip", result_format=form)
    results = BatchResults(await task.run())
    assert [(row.index, row.status) for row in results] == [(0, "succeeded"), (1, "failed"), (2, "succeeded")]


async def test_an_estimate_tells_the_skipped_rows(job, provider, caplog):
    """Nothing is bought."""
    caplog.set_level("INFO")
    manifest = await job(["a", {"prompt": None}], on_bad_row="skip", dry_run=True).run()
    assert (manifest.requests, manifest.counts) == (2, {"missing": 1, "failed": 1})
    assert "1 request (1 row skipped as bad) to openai" in caplog.text
    assert not provider.batches


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("tries", [1, 2])
async def test_an_empty_input_may_be_skipped(job, provider, form, tries):
    """An empty result, a manifest of 0 requests, nothing bought; a second attempt finds the same."""
    with pytest.raises(UsageError, match="has no rows"):
        await job([]).run()

    task = job(
        [], on_empty="skip", result_format=form, on_partial="fail", max_cost_usd=1, canary=2, model="openai:gpt-5-mini"
    )
    for _ in range(tries):
        manifest = await task.run()

    assert (manifest.requests, manifest.batches, manifest.counts["succeeded"]) == (0, (), 0)
    assert list(BatchResults(manifest)) == []
    assert not provider.batches


async def test_an_empty_file_may_be_skipped(job, tmp_path):
    """A file that is not there is refused still."""
    (tmp_path / "a.csv").touch()
    source = Source(uri=str(tmp_path / "a.csv"), prompt="{text}")
    assert (await job(source=source, on_empty="skip").run()).requests == 0
    with pytest.raises(UsageError, match=rf"Cannot submit empty batch: {re.escape(source.uri)} has no rows"):
        await job(source=source).run()
    with pytest.raises(UsageError, match="cannot be read"):
        await job(source=Source(uri=str(tmp_path / "b.csv"), prompt="{text}"), on_empty="skip").run()


async def test_a_system_text_that_is_empty_drops_the_task_s(job, provider):
    """Of one row; null takes the task's."""
    rows = [{"prompt": "a", "system": ""}, {"prompt": "b", "system": None}]
    task = job(rows, system="Be kind")
    await task.start()
    (name,) = [name for name in task.directory.names("waves/0") if name.endswith(".requests.jsonl")]
    bodies = [json.loads(line)["body"] for line in task.directory.lines(f"waves/0/{name}")]
    assert [body.get("system") or None for body in bodies] == [None, "Be kind"]


async def test_a_plan_that_is_refused_leaves_no_file_of_its_rows(job):
    """Neither of those that would have been bought nor of those that were skipped."""
    task = job(["a", BAD_ROW], on_bad_row="skip", max_cost_usd=1e-9, model="openai:gpt-5-mini")
    with pytest.raises(UsageError, match="max_cost_usd"):
        await task.run()
    assert list(task.root.joinpath("waves").rglob("*.jsonl")) == []
