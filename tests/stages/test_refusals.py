"""What a stage makes by hand after it has paid: refused in one sentence, and what was bought is kept."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fakes import START, FakeClock, FakeHub, FakeProvider
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import BatchError, StageFailed, UsageError
from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.stages.polling import with_bought
from airflow_batch_provider.stages.values import OLDEST_SUBMIT, WORST_SKEW
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.testing import SimulatedTask, run_stage

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STATE = SuspendedState(batch_id="b", submitted_at=START)
LOOP: list[Any] = []
LOOP.append(LOOP)


def state(**fields):
    return SuspendedState(**{"batch_id": "b", "submitted_at": START, **fields})


def suspended(**fields):
    return Suspended(**{"state": STATE, **fields})


def poll(**fields):
    return PollConfig(**{"interval": MINUTE, "max_wait": HOUR, **fields})


WRONG = [
    (state, {"batch_id": None}, "batch_id of SuspendedState is None: "),
    (state, {"batch_id": ""}, "batch_id of SuspendedState is a str: "),
    (state, {"batch_id": 5.5}, "batch_id of SuspendedState is 5.5, a float: "),
    (state, {"batch_id": True}, "batch_id of SuspendedState is True, a bool: "),
    (state, {"batch_id": "\ud800"}, "batch_id of SuspendedState is a str: "),
    (state, {"batch_id": "x" * 257}, "at most 256 characters"),
    (state, {"submitted_at": "soon"}, "submitted_at of SuspendedState is a str: "),
    (state, {"submitted_at": None}, "submitted_at of SuspendedState is None: "),
    (state, {"submitted_at": float("nan")}, "submitted_at of SuspendedState is nan, a float: "),
    (state, {"submitted_at": float("inf")}, "submitted_at of SuspendedState is inf, a float: "),
    (state, {"submitted_at": 10**5000}, "submitted_at of SuspendedState is an int: "),
    (state, {"submitted_at": date(2026, 1, 1)}, "submitted_at of SuspendedState is a date: "),
    (state, {"submitted_at": datetime(2026, 1, 1)}, "2026-01-01 00:00:00, a datetime: it has no timezone"),  # noqa: DTZ001
    (state, {"submitted_at": "2026-01-01T00:00:00"}, "timezone"),
    (state, {"metadata": "private"}, "metadata of SuspendedState is a str: "),
    (state, {"metadata": [("private", 1)]}, "metadata of SuspendedState is a list: "),
    (state, {"metadata": {1: "private"}}, "metadata.1."),
    (state, {"metadata": {"private": print}}, "metadata of SuspendedState is a dict: it holds what is not JSON: "),
    (state, {"metadata": {"a": LOOP}}, "it holds what is not JSON: Circular reference"),
    (state, {"metadata": {"n": 10**5000}}, "it holds what is not JSON: "),
    (state, {"metadata": {"\ud800": 1}}, "it holds what is not JSON: "),
    (state, {"api_key": "private"}, "SuspendedState knows no field 'api_key'. Drop it"),
    (suspended, {"batch_ids": "abc"}, "batch_ids of Suspended is a str: "),
    (suspended, {"batch_ids": None}, "batch_ids of Suspended is None: "),
    (suspended, {"batch_ids": ["a", None]}, "batch_ids.1 of Suspended is None: "),
    (suspended, {"metrics": [1]}, "metrics of Suspended is a list: "),
    (suspended, {"metrics": {"rows": "private"}}, "metrics.rows of Suspended is a str: "),
    (suspended, {"poll": 5}, "PollConfig is 5, an int: "),
    (suspended, {"poll": {"interval": MINUTE}}, "PollConfig has no max_wait. Give a timedelta"),
    (suspended, {"state": "private"}, "SuspendedState is a str: "),
    (suspended, {"state": None}, "SuspendedState is None: "),
    (suspended, {"state": CompletionCheck.not_ready()}, "SuspendedState is a CompletionCheck: "),
    (suspended, {"provider": 5}, "provider of Suspended is 5, an int: "),
    (suspended, {"model": "x" * 201}, "model of Suspended is a str: "),
    (suspended, {"status": "private"}, "Suspended knows no field 'status'. Drop it"),
    (suspended, {"private\n" * 50: 1}, "Suspended knows no field 'private private "),
    (poll, {"interval": "often"}, "interval of PollConfig is a str: "),
    (poll, {"interval": timedelta(0)}, "interval of PollConfig is 0:00:00, a timedelta: "),
    (poll, {"interval": 2 * HOUR}, "interval 2:00:00 is longer than max_wait 1:00:00. Give a PollConfig"),
    (poll, {"max_wait": None}, "max_wait of PollConfig is None: "),
    (poll, {"first_poll": float("nan")}, "first_poll of PollConfig is nan, a float: "),
]


@pytest.mark.parametrize(("make", "fields", "said"), WRONG)
def test_a_value_that_does_not_fit_is_refused_by_its_field_its_kind_and_the_remedy(make, fields, said):
    """In one line without what a prompt, an answer or a key may be in, and with no error of a library behind it."""
    with pytest.raises(UsageError) as caught:
        make(**fields)

    told = str(caught.value)
    assert said in told
    assert "Give " in told or "Drop it" in told
    assert "\n" not in told
    assert len(told) < 500
    assert "private" not in told or "knows no field 'private" in told
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(
    make=st.sampled_from([state, suspended, poll]),
    name=st.sampled_from(
        ["batch_id", "submitted_at", "metadata", "state", "poll", "metrics", "batch_ids", "provider", "interval"]
    )
    | st.text(),
    value=anything,
)
def test_whatever_is_given_fits_or_is_refused_in_words_of_ours(make, name, value):
    """Of any type, under any name."""
    try:
        make(**{name: value})
    except BatchError as error:
        assert "\n" not in str(error)  # noqa: PT017 — most of what is drawn does not fit


def test_a_number_or_a_uuid_is_an_id_too():
    """As keys of rows are; the batch is bought, and what is meant is clear."""
    assert state(batch_id=5).batch_id == "5"
    assert state(batch_id=UUID(int=1)).batch_id == "00000000-0000-0000-0000-000000000001"
    assert suspended(batch_ids=[5, "b"]).batch_ids == ("5", "b")
    assert suspended(metrics=None).metrics == {}


# in a task


@pytest.fixture
def task(tmp_path):
    """A stage that buys a batch, then makes what it is told to; each call is another attempt."""
    clock = FakeClock()
    provider = FakeProvider(clock)
    provider.polls_until_done = 0
    task_clock = Clock(clock.now, clock.sleep)

    def attempt(then, check=None):
        class Buys(AsyncBatchStage):
            id = name = "buys"

            async def execute(self, ctx):
                batch = ctx.batch("openai:m", "c")
                if ctx.resume_state is not None:
                    return [row.output for row in await batch.get_results(ctx.resume_state.batch_id)]
                handle = await batch.submit(["a"])
                return then(handle, ctx.now())

            async def check_completion(self, state, ctx):
                if check is not None:
                    return check()
                ended = (await ctx.batch("openai:m", "c").get_status(state.batch_id)).ended
                return CompletionCheck.ready() if ended else CompletionCheck.not_ready()

        return SimulatedTask(
            Buys, storage=str(tmp_path), clock=task_clock, hub_in_use=FakeHub(provider, task_clock), conn_id="c"
        )

    attempt.provider = provider
    return attempt


def right(handle, now):
    return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=now), poll="quick")


def guides(**state):
    """The guide's dict, with other fields in its state."""
    return lambda handle, now: {
        "suspended": True,
        "state": {"batchId": handle.id, "submittedAt": now.isoformat(), **state},
        "pollConfig": {"pollInterval": 60_000, "maxWaitTime": 3_600_000},
    }


LATER = {
    "a wrong type": (guides(batchId=["x"]), "batch_id of SuspendedState is a list"),
    "no id": (guides(batchId=None), "batch_id of SuspendedState is None"),
    "a key that is unknown": (guides(webhook="x"), "SuspendedState knows no field 'webhook'"),
    "a key that is unknown beside the state": (
        lambda handle, now: guides()(handle, now) | {"webhook": 1},
        "Suspended knows no field 'webhook'",
    ),
    "no time": (guides(submittedAt="?"), "submitted_at of SuspendedState is a str"),
    "a list of ids in a text": (
        lambda handle, now: Suspended(state=right(handle, now).state, batch_ids="abc"),
        "batch_ids of Suspended is a str",
    ),
    "metadata that is not a dict": (
        lambda handle, now: SuspendedState(batch_id=handle.id, submitted_at=now, metadata=["a"]),
        "metadata of SuspendedState is a list",
    ),
    "a copy with other fields": (
        lambda handle, now: right(handle, now).model_copy(update={"batch_ids": "abc"}),
        "batch_ids of Suspended is a str",
    ),
    "a copied state": (
        lambda handle, now: right(handle, now).state.model_copy(update={"metadata": {1: 2}}),
        "metadata.1",
    ),
    "an output that is not JSON": (lambda handle, now: {"rows": print}, "What the stage gives is not JSON"),
    "the result of the other method": (lambda handle, now: CompletionCheck.not_ready(), "returned a CompletionCheck"),
    "a time far ahead": (
        lambda handle, now: SuspendedState(batch_id=handle.id, submitted_at=now + 400 * DAY),
        "400 days in the future",
    ),
    "a time long ago": (
        lambda handle, now: SuspendedState(batch_id=handle.id, submitted_at=now - 400 * DAY),
        "400 days in the past",
    ),
    "seconds since 1970 that were milliseconds": (
        lambda handle, now: SuspendedState(batch_id=handle.id, submitted_at=now.timestamp() / 1000),
        "days in the past, and the deadline counts from it. Give ctx.now()",
    ),
}


@pytest.mark.parametrize(("then", "said"), LATER.values(), ids=list(LATER))
async def test_what_is_refused_after_the_purchase_loses_nothing(task, then, said):
    """One sentence says what is wrong and that the batch is kept; the corrected stage goes on with it."""
    with pytest.raises(UsageError) as caught:
        await task(then).start()

    told = str(caught.value)
    assert said in told
    assert told.endswith(
        "What ctx.batch bought is kept ('batch-0'): a clear of the task goes on with it, and the same requests are not bought "
        "again."
    )
    assert "\n" not in told
    assert (await task(right).run()).output == ["echo: a"]
    assert len(task.provider.batches) == 1
    assert task.provider.batches["batch-0"].status == "completed"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: CompletionCheck.ready(metrics=[1]), "metrics is a list"),
        (lambda: CompletionCheck.not_ready(next_check_in=-1), "next_check_in=-1 is not after now"),
        (lambda: CompletionCheck.ready({"rows": print}), "not JSON"),
        (lambda: {"ready": True, "outputs": 1}, "returned a dict of ready, outputs"),
        (lambda: CompletionCheck.failed("I gave up"), "I gave up"),
    ],
)
async def test_what_is_refused_of_a_check_loses_nothing_either(task, check, said):
    """The stage fails for good, and says that a clear goes on with the batch."""
    with pytest.raises(StageFailed, match=said) as caught:
        await task(right, check).run()

    assert "What ctx.batch bought is kept ('batch-0')" in str(caught.value)
    assert (await task(right).run()).output == ["echo: a"]
    assert len(task.provider.batches) == 1


async def test_a_refusal_is_told_also_where_nobody_can_say_what_was_bought(task, monkeypatch):
    """Storage that is away must not hide what is wrong with the stage."""

    def away(self, *args):
        raise OSError("storage is away")

    def then(handle, now):
        monkeypatch.setattr(Directory, "names", away)
        return {"suspended": True}

    with pytest.raises(UsageError, match=r"Suspended has no state\. Give SuspendedState\(.*\)\.$"):
        await task(then).start()


async def test_a_stage_that_bought_nothing_here_is_told_nothing_of_batches(tmp_path):
    """It bought by a client of its own, or not at all."""

    class Bare(AsyncBatchStage):
        id = name = "bare"

        async def execute(self, ctx):
            return {"suspended": True}

    with pytest.raises(UsageError) as caught:
        await SimulatedTask(Bare, storage=str(UPath(tmp_path))).start()
    assert "bought" not in str(caught.value)


@pytest.mark.parametrize("offset", [timedelta(0), HOUR, -HOUR, WORST_SKEW, -OLDEST_SUBMIT])
def test_a_submission_by_another_clock_is_taken(offset):
    """The provider's clock, or that of a worker in another time zone."""

    class Late(AsyncBatchStage):
        id = name = "late"

        async def execute(self, ctx):
            return Suspended(state=SuspendedState(batch_id="b", submitted_at=ctx.now() + offset))

        async def check_completion(self, state, ctx):
            return CompletionCheck.ready(1)

    assert run_stage(Late).output == 1


def test_a_metric_that_is_not_a_number_ends_nothing():
    """What only tells people how it went is shown as nothing: databases refuse NaN, after the purchase."""

    class Measures(AsyncBatchStage):
        id = name = "measures"

        async def execute(self, ctx):
            state = SuspendedState(batch_id="b", submitted_at=ctx.now())
            return Suspended(state=state, metrics={"rows": 1, "ratio": float("nan")})

        async def check_completion(self, state, ctx):
            return CompletionCheck.ready(1, metrics={"rate": float("inf")}, embeddings={"mean": float("nan")})

    result = run_stage(Measures)
    assert result.output == 1
    assert result.metrics == {"rows": 1, "ratio": None, "rate": None}


def test_a_state_of_half_characters_comes_back():
    """Texts of providers may hold them."""

    class Odd(AsyncBatchStage):
        id = name = "odd"

        async def execute(self, ctx):
            return Suspended(state=state(submitted_at=ctx.now(), metadata={"a": "\ud800"}))

        async def check_completion(self, state, ctx):
            return CompletionCheck.ready(state.metadata["a"] == "\ud800")

    assert run_stage(Odd).output is True


@pytest.mark.parametrize(("reason", "told"), [("no", "no. What"), ("no.", "no. What"), ("why?", "why? What")])
def test_a_reason_of_a_stage_is_a_sentence_of_its_own(reason, told):
    """What became of the batch follows it, whether or not it ends with a stop."""
    assert with_bought(reason, ("batch-0",)).startswith(told)
