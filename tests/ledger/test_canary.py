"""`canary=k`: the first rows are bought alone, and decide whether the others are; whatever happens, no row is bought twice."""

from __future__ import annotations

from functools import partial

import pytest
from fakes import Job, bombed_storage, failing
from sweeps import killed_jobs, until_done

from airflow_batch_provider.exceptions import RowsFailed
from airflow_batch_provider.models import Manifest, Reply
from airflow_batch_provider.stages import Suspended

OK = Reply(key="", status="succeeded", output="fine")
ROWS = list("abcdefgh")


def sizes(provider):
    return [len(batch.keys) for batch in provider.batches.values()]


async def test_the_first_rows_are_asked_alone_and_count_as_results(job, provider):
    """The others follow once they have landed."""
    task = job(ROWS, canary=2)

    suspended = await task.start()
    assert sizes(provider) == [2]
    provider.batches["batch-0"].status = "completed"
    assert (await task.check(suspended)).is_ready
    assert isinstance(await task.resume(suspended), Suspended)
    manifest = await task.retry()

    assert sizes(provider) == [2, 6]
    assert provider.bought == dict.fromkeys(ROWS, 1)
    assert (manifest.counts["succeeded"], manifest.waves) == (8, 1)
    assert [row["custom_id"] for row in task.rows(manifest)] == [f"request-{n}" for n in range(8)]


@pytest.mark.parametrize(("good", "bought"), [(0, 4), (1, 4), (2, 8), (4, 8)])
async def test_the_rest_is_bought_when_at_least_half_of_the_canary_is_good(job, provider, good, bought):
    """A template that never fits, a wrong model or an empty wallet shows in the first rows."""
    refused = failing("invalid", retryable=False)
    provider.answer = lambda body, _n: OK if body["prompt"] in "abcd"[:good] or body["prompt"] in "efgh" else refused
    task = job(ROWS, canary=4)

    if bought == 8:
        assert (await task.run()).counts["succeeded"] == good + 4
    else:
        with pytest.raises(RowsFailed, match="The canary failed"):
            await task.run()

    assert sum(provider.bought.values()) == bought


async def test_a_canary_that_failed_says_why_and_what_became_of_the_rest(job, provider):
    """In the error, in the results and in the record for people; nothing waits any more."""
    provider.answer = lambda _body, _n: failing("wrong_model", retryable=False)
    task = job(ROWS, canary=3)

    with pytest.raises(RowsFailed) as error:
        await task.run()

    assert str(error.value) == (
        "The canary failed: only 0 of the 3 rows that were asked first have a good answer, so the other 5 were not bought. "
        "Fix the cause, then clear the task: it asks those without an answer first again, and buys the rest when most are "
        "good. Reasons: 3 x wrong_model: it is wrong_model (e.g. 'request-0', 'request-1', 'request-2')"
    )
    assert not error.value.retryable
    rows = [row["status"] for row in (task.rows(_unmet(task)))]
    assert rows == ["failed"] * 3 + ["missing"] * 5
    assert task.shown[-1]["state"] == "unmet"
    assert "clock.json" not in task.directory.names()


async def test_a_canary_that_failed_is_worth_another_attempt_where_one_of_its_rows_may_do_better(job, provider):
    """Airflow retries the task then."""
    provider.answer = lambda body, _n: failing(retryable=body["prompt"] == "a")
    task = job(ROWS, canary=3)

    with pytest.raises(RowsFailed, match="The canary failed") as error:
        await task.run()

    assert error.value.retryable


def _unmet(task):
    return Manifest.model_validate_json(task.directory.read("manifest.unmet.json"))


async def test_a_clear_asks_the_canary_again_before_it_buys_the_rest(job, provider):
    """A good row of it is not bought again; the rows without an answer go first, also the next time."""
    provider.answer = lambda body, n: OK if body["prompt"] == "a" or n > 2 or body["prompt"] in "fgh" else failing()
    task = job(ROWS, canary=4)
    with pytest.raises(RowsFailed, match="only 1 of the 4 rows") as error:
        await task.run()
    assert error.value.retryable

    with pytest.raises(RowsFailed, match="only 0 of the 4 rows"):
        await task.retry()
    assert provider.bought == {"a": 1, "b": 2, "c": 2, "d": 2, "e": 1}
    task.config = task.config.model_copy(update={"retry_rows": 1})
    provider.answer = lambda _body, _n: OK
    manifest = await task.retry()

    assert sizes(provider) == [4, 4, 4, 3]
    assert provider.bought == {"a": 1, "b": 3, "c": 3, "d": 3, "e": 2, "f": 1, "g": 1, "h": 1}
    assert manifest.counts["succeeded"] == 8
    assert [row["custom_id"] for row in task.rows(manifest)] == [f"request-{n}" for n in range(8)]


async def test_rows_that_are_asked_again_have_no_canary_of_their_own(job, provider):
    """The first one was good, and so the rest was bought."""
    provider.answer = lambda body, n: failing() if body["prompt"] in "efgh" and n == 1 else OK

    manifest = await job(ROWS, canary=3, retry_rows=1).run()

    assert sizes(provider) == [3, 5, 4]
    assert manifest.counts["succeeded"] == 8


async def test_a_canary_of_every_row_is_none(job, provider):
    """There is no rest, so the task's own criteria decide."""
    provider.answer = lambda body, _n: OK if body["prompt"] == "a" else failing("invalid", retryable=False)

    manifest = await job(["a", "b", "c"], canary=3).run()

    assert manifest.counts["succeeded"] == 1


async def test_other_requests_after_a_failed_canary_have_one_of_their_own(job, provider):
    """A fixed template is another question."""
    provider.answer = lambda body, _n: OK if body["prompt"].isupper() else failing()
    task = job(ROWS, canary=2)
    with pytest.raises(RowsFailed):
        await task.run()

    task.requests = [row.upper() for row in ROWS]
    manifest = await task.retry()

    assert sizes(provider) == [2, 2, 6]
    assert manifest.counts["succeeded"] == 8


async def test_the_plan_says_that_a_canary_goes_first(job, caplog):
    """In the task's log."""
    caplog.set_level("INFO")

    await job(ROWS, canary=2).run()

    assert "The first 2 rows are asked alone, as a canary." in caplog.text


@pytest.mark.sweep
@pytest.mark.parametrize("fails", [False, True])
async def test_a_job_with_a_canary_killed_anywhere_is_paid_once(tmp_path, clock, provider, monkeypatch, sweep, fails):
    """One that lives, and one that fails and is asked again by the next attempt."""

    def make(root, bomb, patch):
        def answer(body, n):
            return failing() if fails and body["prompt"] in "ab" and n == 1 else OK

        here = type(provider)(clock, bomb, answer=answer, max_requests=2)
        bombed_storage(bomb, patch)
        return Job(root, here, clock, list("abcde"), canary=2)

    drive = partial(until_done, fails=fails)
    async for task, bomb in killed_jobs(sweep, make, drive, tmp_path, monkeypatch):
        manifest = await drive(task)

        asked_twice = {"a": 2, "b": 2} if fails else {}
        assert task.provider.bought == dict.fromkeys("abcde", 1) | asked_twice, bomb.where
        assert manifest.counts["succeeded"] == 5, bomb.where
