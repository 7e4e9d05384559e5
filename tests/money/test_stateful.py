"""Any order of crashes, clears, zombies, faults and jumps of the clock: each row is paid once, none is lost, and it ends.

Hypothesis writes the plots: the same ones in every run. For many new ones:
`MONEY_EXAMPLES=20000 python -m pytest --timeout 0 tests/money/test_stateful.py`.

Left out, because the ledger does not promise it: a create that is on its way while another worker takes its claim over
(whoever finds out cancels), and a provider that shows a batch later than `LIST_LAG`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from killable_task import FORM, LIFE
from simulated_deployment import Airflow, SharedClock, Task, check_finished, is_waste
from unruly_provider import STRANGER, Unruly, Untagged

from airflow_batch_provider.exceptions import BatchError, Paused, Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.ledger import claims

# A worker that was killed closes nothing.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CREATE_FAULTS = {
    "lost before": lambda: Unavailable("cut"),
    "lost after": lambda: (Unavailable("cut"), "after"),
    "429": lambda: Unavailable("slow down", retry_after=5.0, ambiguous=False),
    "429 for long": lambda: Unavailable("slow down", retry_after=900.0, ambiguous=False),
    "refused": lambda: Rejected("no"),
    "no credit": lambda: Paused("pay"),
}
CALL_FAULTS = {
    "503": lambda: Unavailable("later"),
    "429": lambda: Unavailable("later", retry_after=900.0, ambiguous=False),
}
JUMPS = [timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=20), timedelta(hours=11), timedelta(days=3)]

tasks = st.sampled_from(["one", "two"])
moments = st.integers(0, 40)


class Money(RuleBasedStateMachine):
    """Two tasks of a deployment, at most two workers each, at a provider that keeps tags."""

    provider = Unruly

    @initialize(
        rows=st.integers(1, 5),
        in_flight=st.sampled_from([1, 2, 10]),
        retry_rows=st.integers(0, 2),
        ratio=st.sampled_from([0.0, 1.0]),
        on_timeout=st.sampled_from(["fail", "salvage", "leave"]),
        settling=st.sampled_from([0, 1, 10]),
    )
    def deploy(self, rows, in_flight, retry_rows, ratio, on_timeout, settling):
        self.home = tempfile.mkdtemp(prefix="money-")
        provider = self.provider(SharedClock(), max_requests=2, settling=timedelta(minutes=settling))
        self.airflow = Airflow(self.home, provider)
        config = {
            "model": "m",
            "output_type": FORM,
            "max_in_flight": in_flight,
            "retry_rows": retry_rows,
            "min_success_ratio": ratio,
            "on_timeout": on_timeout,
        }
        self.airflow.tasks = {name: Task(name, rows, config) for name in ("one", "two")}

    def may_begin(self, task):
        """A task has one zombie at most."""
        return len(task.alive) < 2

    # what tasks do

    @rule(name=tasks, moments=moments)
    def begin(self, name, moments):
        """A first try, a retry or a clear, which goes some way and stands."""
        task = self.airflow.tasks[name]
        if self.may_begin(task):
            self.airflow.begin(task)
            self.airflow.step(task.worker, moments)

    @rule(name=tasks)
    def run_to_the_end_of_the_run(self, name):
        task = self.airflow.tasks[name]
        if task.worker is None and self.may_begin(task) and task.state != "deferred":
            self.airflow.begin(task)
        if task.worker is not None:
            self.airflow.step(task.worker)

    @rule(name=tasks, moments=moments)
    def begin_and_die(self, name, moments):
        task = self.airflow.tasks[name]
        if self.may_begin(task):
            self.airflow.begin(task)
            worker = task.worker
            self.airflow.step(worker, moments)
            self.airflow.kill(worker)

    @precondition(lambda self: self.airflow.workers_alive)
    @rule(data=st.data(), moments=moments)
    def go_on(self, data, moments):
        """A worker that stood wakes up."""
        self.airflow.step(data.draw(st.sampled_from(self.airflow.workers_alive)), moments)

    @precondition(lambda self: self.airflow.workers_alive)
    @rule(data=st.data())
    def die(self, data):
        self.airflow.kill(data.draw(st.sampled_from(self.airflow.workers_alive)))

    @rule(name=tasks, moments=moments)
    def poll(self, name, moments):
        task = self.airflow.tasks[name]
        if task.state == "deferred" and len(task.alive) < 2 and self.airflow.poll(task):
            self.airflow.step(task.worker, moments)

    @rule(name=tasks)
    def mark_failed(self, name):
        if self.airflow.tasks[name].state == "deferred":
            self.airflow.mark_failed(self.airflow.tasks[name])

    @rule(name=tasks)
    def change_requests(self, name):
        """Only between attempts: a task that runs has the requests it was given."""
        task = self.airflow.tasks[name]
        if task.state not in ("running", "deferred") and task.attempt:
            task.version += 1

    # what happens around them

    @rule(by=st.sampled_from(JUMPS))
    def time_passes(self, by):
        self.airflow.clock.advance(by.total_seconds())

    @rule(ahead=st.sampled_from([0, -3600, -130, 130, 3600]))
    def clocks_are_wrong(self, ahead):
        """On the machine that gets the next workers."""
        self.airflow.ahead = ahead

    @rule(fault=st.sampled_from(list(CREATE_FAULTS)), lag=st.sampled_from([0, 30]))
    def create_fails(self, fault, lag):
        self.airflow.provider.submit_faults.append(CREATE_FAULTS[fault]())
        self.airflow.provider.lag = timedelta(seconds=lag)

    @rule(
        call=st.sampled_from(["find", "status", "result", "cancel"]),
        fault=st.sampled_from(list(CALL_FAULTS)),
        skip=st.integers(0, 2),
    )
    def call_fails(self, call, fault, skip):
        getattr(self.airflow.provider, f"{call}_faults").extend([*[None] * skip, CALL_FAULTS[fault]()])

    @property
    def live(self):
        return [batch for batch in self.airflow.provider.batches.values() if batch.is_live]

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        word=st.sampled_from(["completed", "completed", "expired", "cancelled"]),
        extra=st.integers(0, 2),
    )
    def batch_ends(self, data, word, extra):
        batch = data.draw(st.sampled_from(self.live))
        fates = st.sampled_from(["good", "good", "passing", "refused", "unfit", "missing"])
        if batch.buyer is not None:
            batch.fates = [data.draw(fates) for _ in batch.keys]
        self.airflow.provider.end(batch, word, extra=extra)

    @precondition(lambda self: self.live)
    @rule()
    def all_batches_end_well(self):
        for batch in self.live:
            self.airflow.provider.end(batch, "completed")

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def queue_was_full(self, data):
        self.airflow.provider.fail(data.draw(st.sampled_from(self.live)))

    @rule(requests=st.integers(1, 2))
    def a_stranger_buys(self, requests):
        self.airflow.provider.a_stranger_buys(requests)

    @rule(cancel_orphans=st.booleans())
    def reconcile(self, cancel_orphans):
        self.airflow.reconcile(cancel_orphans=cancel_orphans)

    @rule(name=tasks)
    def a_person_decides(self, name):
        self.airflow.decide(self.airflow.tasks[name])

    # what holds at any time

    @invariant()
    def books_balance(self):
        self.airflow.note_receipts()
        self.airflow.provider.pass_time()
        kept = [batch for batch in self.airflow.provider.ours if not is_waste(self.airflow, batch)]
        self.check_no_row_is_bought_twice_in_a_wave(kept)
        self.check_no_good_row_is_bought_again(kept)
        self.check_nobody_elses_batch_is_touched()
        self.check_whoever_was_overtaken_cancelled()

    def check_no_row_is_bought_twice_in_a_wave(self, kept):
        paid = Counter(
            (prompt, batch.wave) for batch in kept for prompt in (batch.prompts if batch.is_live else batch.billed)
        )
        assert [row for row, times in paid.items() if times > 1] == []

    def check_no_good_row_is_bought_again(self, kept):
        for number, batch in enumerate(kept):
            for later in kept[number + 1 :]:
                assert not batch.good & set(later.prompts), f"{batch.tag} has good answers that {later.tag} asks again"

    def check_nobody_elses_batch_is_touched(self):
        strange = [batch for name, batch in self.airflow.provider.batches.items() if name.startswith(STRANGER)]
        assert all(batch.settles_at is None for batch in strange)

    def check_whoever_was_overtaken_cancelled(self):
        wasted = [batch for batch in self.airflow.provider.ours if is_waste(self.airflow, batch)]
        went_home = [batch for batch in wasted if batch.buyer.done and not batch.buyer.killed]
        assert [batch.batch_id for batch in went_home if batch.status == "processing"] == []

    @invariant()
    def ends_are_as_promised(self):
        for task in self.airflow.tasks.values():
            while task.ends:
                end = task.ends.pop()
                assert not isinstance(end, Exception) or isinstance(end, BatchError), repr(end)
                if task.state == "success":
                    check_finished(self.airflow, task)

    # the end

    def teardown(self):
        if not hasattr(self, "airflow"):
            return
        try:
            self.all_ends_well()
        finally:
            self.airflow.close()
            shutil.rmtree(self.home, ignore_errors=True)

    def all_ends_well(self):
        """Without further faults every task finishes, with the help of a person where one was called."""
        self.airflow.provider.forget_faults()
        for worker in self.airflow.workers_alive:
            self.airflow.step(worker)
        self.books_balance()
        for task in self.airflow.tasks.values():
            self.finish(task)
        self.books_balance()

    def finish(self, task):
        for _ in range(100):
            self.airflow.clock.advance(20 * 60)
            for batch in self.live:
                self.airflow.provider.end(batch, "completed")
            if task.state == "deferred":
                self.airflow.poll(task)
            else:
                self.airflow.begin(task)
            if task.worker is not None:
                self.airflow.step(task.worker)
            if self.is_over(task):
                self.clear_once_more(task)
                return
        raise AssertionError(f"{task.name} never ends: {task.ends[-3:]}")

    def clear_once_more(self, task):
        """What succeeded buys nothing when it is cleared."""
        if task.state == "success":
            bought, manifest = len(self.airflow.provider.batches), task.manifest
            self.airflow.begin(task)
            self.airflow.step(task.worker)
            assert (len(self.airflow.provider.batches), task.manifest) == (bought, manifest)

    def is_over(self, task):
        self.books_balance()
        if task.state == "success":
            check_finished(self.airflow, task)
            return True
        if task.state == "failed":
            end = task.ends[-1]
            assert isinstance(end, BatchError), repr(end)
            if isinstance(end, Unresolved):
                self.airflow.decide(task)
            elif isinstance(end, UsageError):
                task.version -= 1  # the person gives the old requests back
            return not getattr(end, "retryable", True)
        return False


class MoneyWithoutTags(Money):
    """The same at a provider that keeps no tags."""

    provider = Untagged


@pytest.fixture(autouse=True)
def last_checks(monkeypatch):
    """Remember at which claim each worker checked last, so that the books can tell who was overtaken since."""
    check = claims.ClaimHandle.check

    def remembered(handle):
        LIFE.get().handle = handle
        check(handle)

    monkeypatch.setattr(claims.ClaimHandle, "check", remembered)


def plots(sweep):
    """The same few in every run; `MONEY_EXAMPLES` asks for so many new ones."""
    many = os.environ.get("MONEY_EXAMPLES")
    return settings(
        max_examples=int(many or (150 if sweep.whole else 10)),
        stateful_step_count=40,
        derandomize=many is None,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.sweep
@pytest.mark.parametrize("machine", [Money, MoneyWithoutTags])
def test_money_is_safe_whatever_happens_in_whatever_order(machine, sweep):
    """No row is in two batches at once, no good row is bought again, nothing is lost, and every task ends."""
    run_state_machine_as_test(machine, settings=plots(sweep))
