"""Budgets of a DAG run, and of a connection in a month, bound what all tasks together buy; by the provider's own books."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from fakes import START, FakeHub, FakeProvider, Job, Killed, bombed_storage, failing
from pydantic import SecretStr
from sweeps import killed_jobs
from upath import UPath

from airflow_batch_provider import budgets, loop
from airflow_batch_provider.budgets import BudgetBook, BudgetLimits
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import OverBudget, Rejected, RowsFailed
from airflow_batch_provider.ledger import Waiting
from airflow_batch_provider.models import Account, Reply, TaskKey, Usage
from airflow_batch_provider.registry import Entry, Registry
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import LOCK_COME_BACK, LOCK_PAUSE, RESERVED_OLD

# A model whose output costs ten cents a token and whose input is free. An answer of the fake provider has five tokens.
PRICES = {"house": {"input": 0, "output": 100_000}}
ANSWER = 0.5
MOST = {"model": "openai:house", "max_tokens": 10}  # one dollar for a row
OK = Reply(key="", status="succeeded", output="fine")
LONG = Reply(key="", status="succeeded", output="x", usage=Usage(output_tokens=20))  # two dollars
MONTH, DECEMBER = "month/2026-11/c", "month/2026-12/c"


def priced(provider, answer=lambda _b, _n: OK):
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options={"prices": PRICES})
    provider.answer = answer
    return provider


def paid(provider):
    """Dollars by the provider's own books."""
    return ANSWER * sum(provider.bought.values())


def limits(month=None, run=None):
    return BudgetLimits(month={"*": month} if month is not None else {}, run={"*": run} if run is not None else {})


@pytest.fixture
def world(tmp_path, provider, clock):
    """Makes tasks of one deployment: `world("t1", ["a"], month=3)`."""
    priced(provider)

    def make(name="task", requests=("a", "b", "c"), *, run="run", month=None, run_budget=None, **config):
        task = Job(tmp_path / run / name, provider, clock, list(requests), **MOST | config)
        directory = Directory(UPath(tmp_path / "registry"))
        task.registry = Registry(directory, limits(month, run_budget), TaskKey("dag", run, name))
        return task

    return make


def use(task, folder=MONTH):
    """Dollars spent and reserved."""
    names = [path.name for path in UPath(task.registry.budgets._directory.root / folder).glob("*")]
    found = budgets.BudgetUse.of(names)
    return float(found.all_spent), float(found.all_reserved)


async def test_under_a_budget_one_batch_is_submitted_at_a_time(world, provider):
    """So the one that it has no room for tells how many rows are withheld, and none behind it is bought."""
    provider.max_requests = 1
    manifest = await world(month=9).run()

    assert manifest.counts["succeeded"] == 3
    assert provider.most_uploading == 1


async def test_a_plan_that_may_cost_more_than_is_left_is_refused_before_anything_is_bought(world, provider):
    """The sentence tells the sums, where the budget is set, and the remedy; nothing of it stays on any book."""
    await world("first", ["a"], month=3).run()

    with pytest.raises(OverBudget) as error:
        await world("second", month=3).run()

    assert str(error.value) == (
        "The first wave may cost up to $3.00, and of the budget of $3.00 for connection 'c' in 2026-11 ([batch_provider] "
        "monthly_budgets) $0.50 are spent and $0.00 reserved for open batches. Raise it, or wait until open batches have "
        "landed and cost less than they might; then clear the task to buy what is left."
    )
    assert provider.bought == {"a": 1}
    assert use(world()) == (0.5, 0)


async def test_what_has_landed_counts_as_what_it_cost_and_what_is_open_as_the_most_it_may(world):
    """A dollar for each row, until it is known that it was half a dollar."""
    task = world(month=3)

    suspended = await task.start()
    assert use(task) == (0, 3)

    await task.wait(suspended)
    await task.resume(suspended)
    assert use(task) == use(task, "run/dag/run") == (1.5, 0)


async def test_a_budget_of_a_run_is_shared_by_its_tasks_and_not_by_other_runs(world, provider):
    """Two tasks of a run have two dollars together; the next run has its own."""
    await world("one", ["a"], run_budget=1).run()
    with pytest.raises(
        OverBudget, match=r"the budget of \$1\.00 for run 'run' of DAG 'dag' \(\[batch_provider\] run_budgets\)"
    ):
        await world("two", ["b"], run_budget=1).run()

    await world("two", ["b"], run="next", run_budget=1).run()

    assert provider.bought == {"a": 1, "b": 1}


def until_december(clock):
    async def wait():
        clock.advance(timedelta(days=1).total_seconds())

    return wait


async def test_a_month_begins_with_nothing_spent(world, clock):
    """A batch counts for the month in which it was submitted, also when it lands in the next one."""
    task = world("one", ["a"], month=1)
    suspended = await task.start()
    clock.advance(timedelta(days=9).total_seconds())  # December
    await task.wait(suspended)
    await task.resume(suspended)

    await world("two", ["b"], month=1).run()

    assert use(task) == use(task, DECEMBER) == (0.5, 0)


async def test_a_batch_that_is_submitted_while_the_month_ends_counts_for_the_month_that_let_it_in(
    world, provider, clock
):
    """So that the new month's budget is whole for those that it lets in, and neither month ever costs more than its own."""
    task = world("one", ["a"], month=1)
    clock.advance(timedelta(days=7).total_seconds())
    provider.while_creating = [until_december(clock)]
    suspended = await task.start()
    assert (use(task), use(task, DECEMBER)) == ((0, 1), (0, 0))
    await world("two", ["b"], month=1).run()

    await task.wait(suspended)
    await task.resume(suspended)

    assert (use(task), use(task, DECEMBER)) == ((0.5, 0), (0.5, 0))
    assert [spent.submitted_at.month for spent in task.registry.spending.since()] == [11, 12]


async def test_a_canary_in_realtime_whose_month_ends_during_its_calls_counts_for_the_month_that_let_it_in(
    world, provider, clock
):
    """Its calls cost a dollar, at twice the price of a batch; the rest is bought, and counts, in December."""
    task = world("one", ["a", "b"], month=3, canary=1, canary_realtime=True)
    clock.advance(timedelta(days=7).total_seconds())
    provider.while_asking = [until_december(clock)]

    suspended = await task.start()
    assert (use(task), use(task, DECEMBER)) == ((1, 0), (0, 1))
    await task.wait(suspended)
    await task.resume(suspended)

    assert (use(task), use(task, DECEMBER)) == ((1, 0), (0.5, 0))


async def test_a_batch_is_counted_in_its_month_by_every_worker_that_lands_it(world, provider, clock):
    """The receipt keeps the month, for the entry of the registry is gone when a zombie lands the same batch again."""
    task = world("one", ["a"], month=1)
    clock.advance(timedelta(days=7).total_seconds())
    provider.while_creating = [until_december(clock)]
    suspended = await task.start()
    await task.wait(suspended)
    await task.resume(suspended)
    assert task.registry.tags() == []

    waves = task.directory.sub("waves/0")
    (rows,) = (name for name in waves.names() if name.endswith(".rows.jsonl"))
    waves.delete(rows)
    task.directory.delete("manifest.json")
    await task.retry()

    assert (use(task), use(task, DECEMBER)) == ((0.5, 0), (0, 0))


@pytest.mark.parametrize("fault", [Killed("before the create"), (Killed("after it"), "after")], ids=["before", "after"])
async def test_a_purchase_that_a_killed_worker_began_last_month_counts_for_the_month_that_let_it_in(
    world, provider, clock, fault
):
    """Died before the create: it is bought in December and needs room there; after it: it was bought in November, and found."""
    task = world("one", ["a"], month=1)
    clock.advance(timedelta(days=7).total_seconds())
    provider.submit_faults = [fault]
    with pytest.raises(Killed):
        await task.run()
    await until_december(clock)()

    await task.retry()

    is_old = isinstance(fault, tuple)
    assert (use(task), use(task, DECEMBER)) == (((0.5, 0), (0, 0)) if is_old else ((0, 0), (0.5, 0)))
    assert provider.bought == {"a": 1}


def test_the_book_tells_of_every_budget_that_counts_something_from_the_month_that_is_asked_for(tmp_path):
    """Those of runs first, and of months that month's own as well."""
    book = BudgetBook(Directory(UPath(tmp_path)), limits(month=3, run=2), TaskKey("dag", "run", "task"))
    for moment in (START, START + timedelta(days=31)):
        for budget in book.that_limit("c", moment):
            book.reserve([budget.file("tag", Decimal(1))])

    assert [budget.folder for budget in book.all()] == ["run/dag/run", MONTH, DECEMBER]
    assert [budget.folder for budget in book.all("2026-11")] == ["run/dag/run", MONTH, DECEMBER]
    assert [budget.folder for budget in book.all("2026-12")] == ["run/dag/run", DECEMBER]


async def test_a_budget_that_is_set_later_knows_what_was_spent_before(world):
    """What landed is counted whether or not there was a limit."""
    await world("one", ["a"]).run()

    with pytest.raises(OverBudget, match=r"\$0\.50 are spent"):
        await world("two", ["b"], month=1).run()


async def test_batches_for_which_no_room_is_left_are_withheld_and_bought_later(world, provider):
    """Six rows were estimated at $6 and cost $2 each: when $6 are spent no batch is bought, and rows say why."""
    priced(provider, lambda _b, _n: LONG)
    provider.max_requests = 1
    task = world("task", "abcdef", month=6.5, max_in_flight=1, on_partial="succeed")

    manifest = await task.run()

    assert sum(provider.bought.values()) == 3
    assert [(row["status"], (row["error"] or {}).get("code")) for row in task.rows(manifest)[2:]] == [
        ("succeeded", None),
        *[("missing", "not_bought")] * 3,
    ]
    assert "a budget of its DAG run or connection" in task.rows(manifest)[-1]["error"]["message"]
    assert manifest.withheld.startswith(
        "3 rows were not bought: The next batch may cost up to $1.00, and of the budget"
    )
    assert use(task) == (6, 0)

    task.registry = world("task", month=20).registry
    assert (await task.retry()).withheld is None
    assert provider.bought == dict.fromkeys("abcdef", 1)


async def test_a_wave_waits_for_what_is_open_before_it_gives_up(world, provider):
    """Two dollars for four batches of up to one: each is bought as the ones before have cost less than they might."""
    provider.max_requests = 1
    task = world("task", "abc", month=2, max_in_flight=1)
    task.registry.budgets._limits = limits(3)
    suspended = await task.start()  # the plan had room
    task.registry.budgets._limits = limits(2)
    while isinstance(suspended, Suspended):
        await task.wait(suspended)
        suspended = await task.resume(suspended)

    assert provider.bought == {"a": 1, "b": 1, "c": 1}
    assert suspended.withheld is None


async def test_a_task_that_could_buy_nothing_at_all_is_refused(world, provider, monkeypatch):
    """Another one has bought between plan and purchase: this one has no results to write."""
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    await world("one", ["a"], month=1).run()
    task = world("two", ["b"], month=1)

    with pytest.raises(OverBudget, match=r"1 row was not bought: The next batch may cost up to \$1"):
        await task.run()

    assert provider.bought == {"a": 1}
    assert task.registry.tags() == []
    assert not task.directory.exists("clock.json")


@pytest.mark.parametrize("own", [{"house": {"input": 1, "output": 1}}, {}])
async def test_a_model_without_a_price_is_refused_where_a_budget_holds(world, provider, own):
    """As with max_cost_usd: neither the task's model nor the one that a row names."""
    provider.account = provider.account.model_copy(update={"options": {"prices": own}})
    rows = [{"prompt": "a", "request_params": {"model": "nobody-lists-me"}}]

    with pytest.raises(
        OverBudget, match=r"The budget of \$9\.00 for connection 'c' in 2026-11 .* cannot be held\. No price"
    ):
        await world("task", rows, month=9).run()

    assert not provider.bought


async def test_a_batch_that_may_have_been_bought_is_looked_for_whatever_the_budget_says(world, provider):
    """A budget that was lowered to nothing makes nobody forget what the provider has."""
    task = world(month=3)
    provider.submit_faults = [(Killed("died"), "after")]
    with pytest.raises(Killed):
        await task.run()

    task.registry = world(month=0).registry
    manifest = await task.retry()

    assert manifest.counts["succeeded"] == 3
    assert provider.bought == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("fault", ["refused", "failed"])
async def test_what_was_not_bought_counts_no_more(world, provider, fault):
    """A batch that the provider refused, and one that failed before anything of it ran."""
    task = world(month=3)
    if fault == "refused":
        provider.submit_faults = [Rejected("no such model")]
        with pytest.raises(Rejected):
            await task.run()
    else:
        suspended = await task.start()
        provider.batches["batch-0"].status = "failed"
        provider.batches["batch-0"].retryable = True
        await task.resume(suspended)

    assert use(task) == (0, 0)


@pytest.mark.parametrize("status", ["expired", "cancelled"])
async def test_a_batch_that_ended_early_counts_what_it_cost(world, provider, status):
    """Rows without a result are not billed, and no longer reserved."""
    task = world(month=3)
    suspended = await task.start()
    provider.batches["batch-0"].status = status
    with pytest.raises(RowsFailed):
        await task.resume(suspended)

    assert use(task) == (0, 0)


# two tasks at the same time


def interleaved(monkeypatch, then):
    """Let something happen between the first reservation and the sum that is read after it."""
    reserve, did = budgets.BudgetBook.reserve, []

    def reserved(self, names):
        reserve(self, names)
        if not did:
            did.append(True)
            then()

    monkeypatch.setattr(budgets.BudgetBook, "reserve", reserved)


async def test_of_two_tasks_that_ask_at_the_same_time_one_buys_and_the_other_is_refused(world, provider, monkeypatch):
    """Both have reserved before either reads the sum. Never both buy, and never both give up."""
    first, second = world("one", ["a"], month=1.2), world("two", ["b"], month=1.2)
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    waits = []
    interleaved(monkeypatch, lambda: waits.append(loop.run(second.start())))

    await first.run()

    assert provider.bought == {"a": 1}
    waiting = Waiting.model_validate(waits[0].state.metadata)
    assert waiting.must_wait  # it comes back
    assert waiting.resume_at - waiting.seen_at == LOCK_COME_BACK
    with pytest.raises(OverBudget, match=r"\$0\.50 are spent"):
        await second.resume(waits[0])


async def test_one_that_gave_way_buys_when_the_other_cost_less_than_it_might(world, provider, monkeypatch):
    """Nobody is refused for an amount that was only reserved."""
    first, second = world("one", ["a"], month=1.5), world("two", ["b"], month=1.5)
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    waits = []
    interleaved(monkeypatch, lambda: waits.append(loop.run(second.start())))
    await first.run()

    await second.resume(waits[0])

    assert provider.bought == {"a": 1, "b": 1}


async def test_the_one_that_reserved_first_waits_for_the_other_and_buys_once_it_gives_its_amount_back(
    world, clock, monkeypatch
):
    """It need not come back later; the other one does."""
    task, other = world("one", ["a"], month=1.2), world("two", ["b"], month=1.2)
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    asking, slept = [], []

    def also_asks():
        asking.append(_asks(other))

    async def gives_up(_self, seconds):
        slept.append(seconds)
        other.registry.withdraw(asking[0].tag)

    interleaved(monkeypatch, also_asks)
    monkeypatch.setattr(type(clock), "sleep", gives_up)
    await task.start()

    assert task.provider.bought == {"a": 1}
    assert slept == [LOCK_PAUSE.total_seconds()]


def _asks(task):
    """An open claim of a task that reserved a dollar a moment later, and has not bought yet."""
    budget = task.registry.budgets.that_limit("c", task.clock.now())[0]
    tag = "ffffffffffff-0-00000"
    name = budget.file(tag, Decimal(1))
    entry = Entry(
        tag=tag,
        provider="openai",
        account="a",
        label="dag/run/two",
        claim="file:///claim",
        requests=1,
        claimed_at=task.clock.now(),
        reserved=(name,),
        reserved_at=task.clock.now(),
    )
    task.registry.enter(entry)
    task.registry.budgets.reserve((name,))
    return entry


async def test_what_a_batch_reserved_that_the_registry_has_no_more_is_not_waited_for(world, clock, monkeypatch):
    """Nobody is left who could give it back."""
    task, other = world("one", ["a"], month=1.2), world("two", ["b"], month=1.2)
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    other.registry.leave(_asks(other).tag)

    with pytest.raises(OverBudget, match=r"\$1\.00 reserved"):
        await task.start()

    assert clock.time == START


async def test_what_a_dead_worker_reserved_counts_once_it_is_old(world, provider, monkeypatch):
    """Its batch may have been bought. Until then others come back, after that they get an answer."""
    first, second = world("one", ["a"], month=1.2), world("two", ["b"], month=1.2)
    monkeypatch.setattr("airflow_batch_provider.ledger.ledger.check_plan", lambda _context, _expected: None)
    provider.submit_faults = [(Killed("died"), "after")]
    with pytest.raises(Killed):
        await first.run()

    suspended = await second.start()
    assert isinstance(suspended, Suspended)

    (entry,) = first.registry.entries()
    (file,) = entry.reserved
    path = first.registry.budgets._directory.root / file
    old = path.stat().st_mtime - RESERVED_OLD.total_seconds()
    os.utime(path.path, (old, old))
    with pytest.raises(OverBudget, match=r"\$0\.00 are spent and \$1\.00 reserved"):
        await second.resume(suspended)
    assert provider.bought == {"a": 1}


def test_many_tasks_at_once_never_buy_more_than_the_budget(tmp_path):
    """Eight real threads and files, and room for five: those who gave way come back until all have an answer."""
    room = Decimal(5)

    def worker(number):
        clock = Clock(lambda: START, lambda seconds: asyncio.sleep(seconds / 1000))
        here = priced(FakeProvider(clock))
        task = Job(tmp_path / str(number), here, clock, ["a"], hub=FakeHub(here, clock), **MOST)
        task.registry = Registry(Directory(UPath(tmp_path / "registry")), limits(room), TaskKey("d", "r", str(number)))
        for _ in range(100):
            try:
                asyncio.run(task.start())
            except OverBudget:
                return here
            if here.batches:
                return here
            task.attempt += 1
        raise AssertionError("never an answer")

    with ThreadPoolExecutor(8) as pool:
        bought = sum(len(here.batches) for here in pool.map(worker, range(8)))

    assert bought == room


# the worker dies


@pytest.mark.sweep
async def test_a_job_killed_anywhere_never_costs_more_than_its_budget_and_is_counted_once(
    tmp_path, clock, provider, monkeypatch, sweep
):
    """Three rows in two batches, one of them asked again over two attempts until the budget; the third buys nothing."""

    def make(root, bomb, patch):
        answer = lambda body, _n: failing() if body["prompt"] == "b" else OK  # noqa: E731
        here = priced(type(provider)(clock, bomb, max_requests=2), answer)
        bombed_storage(bomb, patch)
        registry = Registry(Directory(UPath(root / "r")), limits(3, 100), TaskKey("dag", "run", "task"))
        return Job(root / "s", here, clock, list("abc"), **MOST, registry=registry, retry_rows=1, on_partial="fail")

    async def until_it_is_over(task, attempts=3):
        said = ""
        for _ in range(attempts):
            with pytest.raises(RowsFailed) as error:
                await task.retry()
            said = str(error.value)
        return said

    async for task, bomb in killed_jobs(sweep, make, until_it_is_over, tmp_path, monkeypatch):
        said = await until_it_is_over(task)

        assert task.provider.bought == {"a": 1, "b": 3, "c": 1}, bomb.where
        assert "monthly_budgets" in said, bomb.where
        assert use(task) == use(task, "run/dag/run") == (paid(task.provider), 0) == (2.5, 0), bomb.where


@pytest.mark.sweep
async def test_a_batch_that_failed_as_a_whole_counts_no_more_wherever_the_worker_dies(
    tmp_path, clock, provider, monkeypatch, sweep
):
    """It is bought once more, within the budget that it had for itself."""

    def make(root, bomb, patch):
        here = priced(type(provider)(clock, bomb))
        bombed_storage(bomb, patch)
        registry = Registry(Directory(UPath(root / "r")), limits(1), TaskKey("dag", "run", "task"))
        return Job(root / "s", here, clock, ["a"], **MOST, registry=registry)

    async def through_a_failure(task):
        if not task.provider.batches:
            await task.start()
        first = next(iter(task.provider.batches.values()))
        first.status, first.retryable = "failed", True
        await task.retry()

    async for task, bomb in killed_jobs(sweep, make, through_a_failure, tmp_path, monkeypatch):
        await through_a_failure(task)

        assert use(task) == use(task, "run/dag/run") == (0.5, 0), bomb.where


async def test_two_budgets_hold_at_once(world, provider):
    """The smaller one refuses."""
    with pytest.raises(OverBudget, match="run_budgets"):
        await world(month=100, run_budget=1).run()
    with pytest.raises(OverBudget, match="monthly_budgets"):
        await world(month=1, run_budget=100).run()
    assert not provider.bought


async def test_where_no_budget_is_set_a_model_needs_no_price(world, provider):
    """Nothing is reserved, and what it cost is not counted, for nobody knows it."""
    task = world(model="openai:nobody-lists-me")

    await task.run()

    assert sum(provider.bought.values()) == 3
    assert use(task) == (0, 0)
