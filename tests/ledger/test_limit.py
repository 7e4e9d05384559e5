"""`max_cost_usd` bounds all waves of all attempts of a task; what was bought is counted by the provider's books."""

from __future__ import annotations

import pytest
from fakes import Bomb, Job, Killed, bombed_storage, failing
from msgspec.structs import replace
from pydantic import SecretStr
from sweeps import killed_jobs

from airflow_batch_provider.exceptions import OverBudget, RowsFailed, UsageError
from airflow_batch_provider.ledger.landed import LandedRows
from airflow_batch_provider.ledger.limit import learned_from
from airflow_batch_provider.models import Account, Reply, Usage
from airflow_batch_provider.pricing.forecast import Learned

# A model whose output costs ten cents a token and whose input is free. An answer of the fake provider has five tokens.
PRICES = {"house": {"input": 0, "output": 100_000}}
ANSWER = 0.5
MOST = {"model": "openai:house", "max_tokens": 10}  # one dollar
OK = Reply(key="", status="succeeded", output="fine")


def priced(provider, answer=None):
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options={"prices": PRICES})
    provider.answer = answer or (lambda body, _n: failing() if body["prompt"] == "b" else OK)
    return provider


def paid(provider):
    """Dollars by the provider's own books."""
    return ANSWER * sum(provider.bought.values())


async def test_a_later_wave_is_bought_while_it_fits_and_withheld_when_it_does_not(job, provider):
    """Three rows cost $1.50; asking one again may cost $1, three times: after the third, $3.50 might be spent."""
    priced(provider)
    task = job(**MOST, max_cost_usd=3, retry_rows=9)

    manifest = await task.run()

    assert (provider.bought, manifest.waves) == ({"a": 1, "b": 3, "c": 1}, 3)  # no wave begins that buys nothing
    assert manifest.withheld == (
        "1 row was not bought: up to $1.00, after $2.50 for what was bought before, would be more than max_cost_usd=3. "
        "Raise it and clear the task to buy the rest."
    )
    assert [row["error"] and row["error"]["code"] for row in task.rows(manifest)] == [None, "overloaded", None]
    assert task.shown[-1]["next_action"] == manifest.withheld


async def test_the_limit_holds_for_all_attempts_together(job, provider):
    """A retry or a clear does not start to count again, and says that no retry of Airflow will help."""
    priced(provider)
    task = job(**MOST, max_cost_usd=3, retry_rows=0, on_partial="fail")

    for _ in range(6):
        with pytest.raises(RowsFailed) as error:
            await task.retry()

    assert paid(provider) == 2.5
    assert "max_cost_usd=3" in str(error.value)
    assert not error.value.retryable


async def test_a_higher_limit_buys_what_was_withheld_and_nothing_else(job, provider):
    """With the same plan, and the good rows as they were."""
    priced(provider, lambda body, n: failing() if body["prompt"] == "b" and n < 5 else OK)
    task = job(**MOST, max_cost_usd=3, retry_rows=9, on_partial="fail")
    with pytest.raises(RowsFailed, match="not bought"):
        await task.run()

    task.config = task.config.model_copy(update={"max_cost_usd": 5})
    manifest = await task.retry()

    assert (manifest.withheld, manifest.counts["succeeded"]) == (None, 3)
    assert provider.bought == {"a": 1, "b": 5, "c": 1}


async def test_rows_that_cost_more_than_was_estimated_stop_the_batches_that_wait(job, provider):
    """Six rows were estimated at $6 and cost $2 each: four are bought, the others are missing and say why."""
    priced(provider, lambda _b, _n: Reply(key="", status="succeeded", output="x", usage=Usage(output_tokens=20)))
    provider.max_requests = 1
    task = job(list("abcdef"), **MOST, max_cost_usd=7, max_in_flight=1)

    manifest = await task.run()

    assert sum(provider.bought.values()) == 4  # $6 are spent, and another row may cost one more dollar
    rows = task.rows(manifest)
    assert [(row["status"], (row["error"] or {}).get("code")) for row in rows[3:]] == [
        ("succeeded", None),
        *[("missing", "not_bought")] * 2,
    ]
    assert "2 rows were not bought" in manifest.withheld
    assert manifest.cost.usd == 8


async def test_what_waits_at_the_provider_counts_as_much_as_it_may_cost(job, provider):
    """Two batches at once: the second is bought only as long as both may cost no more than the limit."""
    priced(provider, lambda _b, _n: Reply(key="", status="succeeded", output="x", usage=Usage(output_tokens=20)))
    provider.max_requests = 1
    task = job(list("abcdef"), **MOST, max_cost_usd=6, max_in_flight=2)

    await task.run()

    assert provider.bought == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_batches_that_are_bought_at_the_same_moment_count_together(job, provider):
    """Two have landed for $4; of the next two, which may cost a dollar each, the second would be too much."""
    priced(provider, lambda _b, _n: Reply(key="", status="succeeded", output="x", usage=Usage(output_tokens=20)))
    provider.max_requests = 1
    task = job(list("abcde"), **MOST, max_cost_usd=5, max_in_flight=2)

    await task.run()

    assert provider.bought == {"a": 1, "b": 1, "c": 1}


async def test_a_batch_that_runs_while_another_lands_counts_with_the_next(job, provider):
    """One is at the provider at each landing."""
    priced(provider, lambda _b, _n: Reply(key="", status="succeeded", output="x", usage=Usage(output_tokens=20)))
    provider.max_requests, provider.polls_until_done = 1, 1_000
    task = job(list("abcdef"), **MOST, max_cost_usd=6, max_in_flight=2)

    suspended = await task.start()
    for number in range(3):
        provider.batches[f"batch-{number}"].status = "completed"
        suspended = await task.resume(suspended)

    assert provider.bought == dict.fromkeys("abcd", 1)  # $6 are spent, and one more row may cost another


async def test_requests_that_were_set_aside_count_for_the_limit(job, provider):
    """Other requests of the same task instance are bought from what is left."""
    priced(provider, lambda _b, _n: OK)
    task = job(["a", "b"], **MOST, max_cost_usd=3)
    await task.run()

    task.requests = ["c", "d", "e"]
    with pytest.raises(UsageError, match=r"with the \$1\.00 that earlier requests of the task have cost"):
        await task.retry()
    task.requests = ["c", "d"]
    await task.retry()

    assert provider.bought == dict.fromkeys("abcd", 1)


async def test_all_requests_that_were_set_aside_count_for_each_batch(job, provider):
    """Fifty cents twice, and $1.50 for a row that made more than was expected: another dollar would be too much."""
    longer = Reply(key="", status="succeeded", output="longer", usage=Usage(output_tokens=15))
    priced(provider, lambda body, _n: longer if body["prompt"] == "c" else OK)
    provider.max_requests = 1
    task = job(["a"], **MOST, max_cost_usd=3, max_in_flight=1)
    await task.run()
    task.requests = ["b"]
    await task.retry()

    task.requests = ["c", "d"]
    manifest = await task.retry()

    assert provider.bought == dict.fromkeys("abc", 1)
    assert "up to $1.00, after $2.50 for what was bought before" in manifest.withheld


async def test_rows_are_asked_again_where_the_answers_so_far_leave_room_for_them(job, provider):
    """Forty answers of five tokens: two more may cost 50 cents each, and not a dollar, which their room would."""
    priced(provider, lambda body, n: failing() if body["prompt"] in "pq" and n == 1 else OK)
    rows = [f"row {n}" for n in range(38)]
    task = job([*rows, "p", "q"], **MOST, max_cost_usd=40, on_partial="fail")
    with pytest.raises(RowsFailed):
        await task.run()

    task.config = task.config.model_copy(update={"max_cost_usd": 21})
    manifest = await task.retry()

    assert (manifest.counts["succeeded"], manifest.withheld, manifest.cost.usd) == (40, None, 21)


@pytest.mark.parametrize(("limit", "good"), [(41.9, 38), (42.1, 40)])
async def test_what_goes_in_is_estimated_by_the_answers_so_far(job, provider, limit, good):
    """Rows of a few letters that were counted as a thousand tokens, a dollar, will be so again."""
    prices = {"house": {"input": 1000, "output": 0}}
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options={"prices": prices})
    used = Usage(input_tokens=1000, output_tokens=1)  # whose price is nothing
    busy = replace(failing(), usage=used)
    fine = replace(OK, usage=used)
    provider.answer = lambda body, n: busy if body["prompt"] in "pq" and n == 1 else fine
    task = job([*[f"row {n}" for n in range(38)], "p", "q"], model="openai:house", max_cost_usd=100, on_partial="fail")
    with pytest.raises(RowsFailed):
        await task.run()

    task.config = task.config.model_copy(update={"max_cost_usd": limit, "on_partial": "succeed"})
    manifest = await task.retry()

    assert manifest.counts["succeeded"] == good


async def test_what_is_asked_again_is_estimated_by_the_answers_so_far(job, provider):
    """Forty answers of five tokens: those to come are expected to be no longer, and not of all the room that they have."""
    priced(provider, lambda body, n: failing() if body["prompt"] in "pq" and n == 1 else OK)
    rows = [f"row {n}" for n in range(38)]
    task = job([*rows, "p", "q"], model="openai:house", max_tokens=1, max_cost_usd=21, retry_rows=1)
    task.config = task.config.model_copy(update={"max_tokens": 5})  # $20 at most, and as much in the end

    manifest = await task.run()

    assert (manifest.counts["succeeded"], manifest.cost.usd) == (40, 21)


async def test_answers_that_were_cut_off_are_estimated_with_all_the_room_they_get(job, provider):
    """They ask for more than any answer so far has used."""
    cut = Reply(key="", status="succeeded", output="lo", finish_reason="max_tokens", usage=Usage(output_tokens=10))
    priced(provider, lambda body, _n: cut if body["prompt"] == "z" else OK)
    task = job([*[f"row {n}" for n in range(39)], "z"], **MOST, max_cost_usd=40, retry_rows=1)
    manifest = await task.run()
    assert manifest.cost.usd == 39 * ANSWER + 2


@pytest.mark.parametrize("then", [None, 3])
async def test_a_batch_that_may_have_been_bought_is_looked_for_whatever_the_limit_says(job, provider, then):
    """A lowered limit makes nobody forget what the provider has."""
    priced(provider, lambda _b, _n: OK)
    provider.bomb = Bomb()
    task = job(**MOST, max_cost_usd=3)
    provider.submit_faults = [(Killed("died"), "after")]
    with pytest.raises(Killed):
        await task.run()
    task.config = task.config.model_copy(update={"max_cost_usd": then})

    manifest = await task.retry()

    assert manifest.counts["succeeded"] == 3
    assert set(provider.bought.values()) == {1}


@pytest.mark.parametrize("own", [{"house": {"input": 1, "output": 1}}, {}])
async def test_a_model_without_a_price_cannot_be_held_to_a_limit(job, provider, own):
    """Neither the task's nor the one that a row names."""
    priced(provider)
    provider.account = provider.account.model_copy(update={"options": {"prices": own}})
    rows = [{"prompt": "a", "request_params": {"model": "nobody-lists-me"}}]

    with pytest.raises(UsageError, match=r"max_cost_usd=9 cannot be held"):
        await job(rows, **MOST, max_cost_usd=9).run()

    assert not provider.bought


async def test_a_limit_below_what_waits_at_the_provider_refuses_nothing_that_was_bought(job, provider):
    """It lands, although not one of the rows has an answer yet."""
    priced(provider, lambda _b, _n: OK)
    task = job(["a", "b", "c"], **MOST, max_cost_usd=3)
    await task.start()

    task.config = task.config.model_copy(update={"max_cost_usd": 0.2})
    manifest = await task.retry()

    assert (manifest.counts["succeeded"], provider.bought) == (3, {"a": 1, "b": 1, "c": 1})


async def test_answers_without_a_price_end_what_a_limit_can_hold(job, provider):
    """The rows named a model that has one; the answers do not say it. Nothing is asked again, and the error says what to set."""
    priced(provider)
    rows = [{"prompt": prompt, "request_params": {"model": "house"}} for prompt in "ab"]
    task = job(rows, model="openai:nobody-lists-me", max_tokens=10, max_cost_usd=9, retry_rows=1)

    with pytest.raises(OverBudget, match=r"^What 'nobody-lists-me' has answered so far has no known price.*'prices'"):
        await task.run()

    assert provider.bought == {"a": 1, "b": 1}


def test_what_goes_in_is_never_expected_to_be_less_than_was_counted():
    """Answers that used less do not lower it."""
    sums = LandedRows(nonce="n", requests=60, asked=60, answers=40, longest=7, usage=Usage(input_tokens=0))

    assert learned_from(sums, None, []) == Learned(longest=7, growth=1.0)


async def test_rows_that_used_nothing_cost_nothing_whatever_model_their_task_names(job, provider):
    """They name a model of their own, which has a price; the task's has none, and its rows expired before they ran."""
    priced(provider, lambda _b, _n: Reply(key="", status="succeeded", output="x", model="house"))
    rows = [{"prompt": "a", "request_params": {"model": "house"}}]
    task = job(rows, model="openai:nobody-lists-me", max_tokens=10, max_cost_usd=3, retry_rows=1)
    suspended = await task.start()
    provider.batches["batch-0"].status = "expired"

    again = await task.resume(suspended)
    await task.wait(again)
    manifest = await task.resume(again)

    assert (manifest.counts["succeeded"], manifest.cost.usd) == (1, ANSWER)


@pytest.mark.sweep
async def test_a_job_killed_anywhere_never_costs_more_than_its_limit(tmp_path, clock, provider, monkeypatch, sweep):
    """Three rows in two batches, one of them asked again over two attempts until the limit; the third buys nothing."""

    def make(root, bomb, patch):
        here = priced(type(provider)(clock, bomb, max_requests=2))
        bombed_storage(bomb, patch)
        return Job(root, here, clock, list("abc"), **MOST, max_cost_usd=3, retry_rows=1, on_partial="fail")

    async def until_it_is_over(task, attempts=3):
        for _ in range(attempts):
            with pytest.raises(RowsFailed) as error:
                await task.retry()
        assert paid(task.provider) == 2.5
        return str(error.value)

    async for task, bomb in killed_jobs(sweep, make, until_it_is_over, tmp_path, monkeypatch):
        said = await until_it_is_over(task)

        assert task.provider.bought == {"a": 1, "b": 3, "c": 1}, bomb.where
        assert "max_cost_usd=3" in said, bomb.where
