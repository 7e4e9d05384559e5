"""What `execute` and `check_completion` may return, and what is refused with a sentence; polled as Airflow polls."""

from __future__ import annotations

import dataclasses
import json
import logging
import urllib.error
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp
import botocore.exceptions
import httpx
import pytest
import requests
import urllib3
from pydantic import BaseModel

from airflow_batch_provider.client import BatchHandle
from airflow_batch_provider.exceptions import DiskFull, Overdue, StageFailed, UsageError
from airflow_batch_provider.stages import (
    PRESETS,
    AsyncBatchStage,
    CompletionCheck,
    PollConfig,
    Suspended,
    SuspendedState,
)
from airflow_batch_provider.stages.faults import is_passing
from airflow_batch_provider.stages.loading import check_stage
from airflow_batch_provider.testing import run_stage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Told(AsyncBatchStage[Any, Any]):
    """Returns what the test says."""

    id = name = "told"
    suspended: Any = None
    checks: ClassVar[list[Any]] = []

    async def execute(self, ctx):
        if ctx.resume_state is not None:
            return {"state": ctx.resume_state.model_dump(mode="json")}
        return self.suspended or Suspended(state=SuspendedState(batch_id="b", submitted_at=ctx.now()), poll="quick")

    async def check_completion(self, state, ctx):
        found = self.checks.pop(0) if len(self.checks) > 1 else self.checks[0]
        if isinstance(found, Exception):
            raise found
        return found


def told(suspended=None, *checks):
    return type("Told", (Told,), {"suspended": suspended, "checks": list(checks) or [CompletionCheck.ready()]})


GUIDES = {
    "suspended": True,
    "state": {
        "batchId": "batch_1",
        "submittedAt": NOW.isoformat(),
        "pollInterval": 60_000,
        "maxWaitTime": 3_600_000,
        "metadata": {"customIds": ["a"]},
    },
    "pollConfig": {"pollInterval": 60_000, "maxWaitTime": 3_600_000, "nextPollAt": (NOW + 7 * SECOND).isoformat()},
    "customMetrics": {"requests": 1},
}


def snake(value):
    names = {"batchId": "batch_id", "submittedAt": "submitted_at", "pollInterval": "poll_interval"}
    names |= {"maxWaitTime": "max_wait_time", "pollConfig": "poll_config", "nextPollAt": "next_poll_at"}
    names |= {"customMetrics": "custom_metrics"}
    return {names.get(k, k): snake(v) if isinstance(v, dict) else v for k, v in value.items()}


@pytest.mark.parametrize("returned", [GUIDES, snake(GUIDES)], ids=["camelCase", "snake_case"])
def test_the_guides_suspension_is_a_suspension(returned):
    """The batch is bought: a dict that says `suspended` is never taken for an output."""
    result = run_stage(told(returned))

    (suspension,) = result.suspensions
    assert suspension.state.batch_id == "batch_1"
    assert suspension.state.metadata == {"customIds": ["a"]}
    assert suspension.poll == PollConfig(interval=MINUTE, max_wait=HOUR, first_poll=7 * SECOND)
    assert result.metrics == {"requests": 1}


def test_the_first_poll_counts_from_the_submission_of_whatever_state_it_stands_beside():
    """A state of ours beside the guide's `pollConfig`, and a moment that is a time already."""
    poll = GUIDES["pollConfig"] | {"nextPollAt": NOW + 7 * SECOND}
    returned = {"suspended": True, "state": SuspendedState(batch_id="b", submitted_at=NOW), "pollConfig": poll}

    assert run_stage(told(returned)).suspensions[0].poll.first_poll == 7 * SECOND


def test_a_first_poll_beside_no_state_is_told_as_a_lack_of_state():
    """Not as a bug of this package."""
    returned = {name: value for name, value in GUIDES.items() if name != "state"}
    with pytest.raises(UsageError, match=r"Suspended has no state\. Give SuspendedState"):
        run_stage(told(returned))


def test_the_guides_times_may_be_times_already():
    """Milliseconds are for numbers only."""
    poll = PollConfig.model_validate({"pollInterval": MINUTE, "maxWaitTime": HOUR})
    assert poll == PollConfig(interval=MINUTE, max_wait=HOUR)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"answer": "private", "n": 1}, r"returned a dict of answer, n\."),
        ({}, r"returned a dict of nothing\."),
        (dict.fromkeys("abcdefghijk"), r"returned a dict of a, b, c, d, e, f, g, h, i, j\."),
        (None, r"returned None\."),
        ("private", r"returned a str\."),
        (["private"], r"returned a list\."),
    ],
)
def test_a_check_of_another_shape_is_refused_by_its_kind_without_its_values(returned, said):
    """An answer may stand in it."""
    with pytest.raises(StageFailed, match=said) as caught:
        run_stage(told(None, returned))
    assert "private" not in str(caught.value)


def test_the_guides_state_alone_says_the_times_too():
    """`state.pollInterval` and `state.maxWaitTime`, when there is no `pollConfig`."""
    returned = {name: value for name, value in GUIDES.items() if name != "pollConfig"}

    assert run_stage(told(returned)).suspensions[0].poll == PollConfig(interval=MINUTE, max_wait=HOUR)


def test_a_state_alone_is_a_suspension():
    """With the long preset."""
    result = run_stage(told(SuspendedState(batch_id="b", submitted_at=NOW)))

    assert result.suspensions[0].poll == PRESETS["long"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"suspended": True}, "What execute of stage 'told' returned is not a suspension: Suspended has no state"),
        (GUIDES | {"suspended": "yes", "state": {}}, "is not a suspension: SuspendedState has no batch_id"),
        ({"suspended": True, "state": {"batchId": "b"}}, "SuspendedState has no submitted_at"),
        (GUIDES | {"state": GUIDES["state"] | {"apiKey": "sk-x"}}, "knows no field 'api_key'. Drop it"),
        (CompletionCheck.not_ready(), "execute of stage 'told' returned a CompletionCheck"),
    ],
)
def test_a_suspension_that_lacks_something_is_refused_with_a_sentence(returned, said):
    """Without its values, and never as an output."""
    with pytest.raises(UsageError, match=said) as caught:
        run_stage(told(returned))
    assert "sk-x" not in str(caught.value)


def test_a_time_without_zone_is_refused_with_the_remedy():
    """The deadline would count from another hour."""
    with pytest.raises(UsageError, match=r"has no timezone\. Give ctx\.now\(\)"):
        SuspendedState(batch_id="b", submitted_at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_preset_of_an_unknown_name_is_told_the_known_ones():
    """In the suspension as in the operator."""
    with pytest.raises(UsageError, match="Use one of quick, medium, long"):
        Suspended(state=SuspendedState(batch_id="b", submitted_at=NOW), poll="slow")


@pytest.mark.parametrize("size", [0, 8_000, 100_000, 2_000_000])
def test_a_state_of_any_size_comes_back_and_the_trigger_stays_small(size):
    """What is bought is never refused for what the stage wants to remember of it."""
    state = SuspendedState(batch_id="b", submitted_at=NOW, metadata={"custom_ids": ["x" * size]})

    result = run_stage(
        told(Suspended(state=state, metrics={"n": 1}), CompletionCheck.not_ready(), CompletionCheck.ready())
    )

    assert result.output["state"]["metadata"] == {"custom_ids": ["x" * size]}
    assert len(str(result.suspensions[0].kwargs())) < 9_000


def test_the_check_is_given_the_whole_state_too():
    """A trigger that was given a pointer reads it from stage storage."""

    class Curious(Told):
        async def check_completion(self, state, ctx):
            return CompletionCheck.ready(len(state.metadata["ids"][0]))

    state = SuspendedState(batch_id="b", submitted_at=NOW, metadata={"ids": ["x" * 100_000]})
    Curious.suspended = Suspended(state=state)

    assert run_stage(Curious).output == 100_000


@pytest.mark.parametrize("pause", [2, 2.0, timedelta(seconds=2), {"ready": False, "nextCheckIn": 2000}])
def test_a_number_is_seconds_and_the_guides_is_milliseconds(pause):
    """Two seconds, however they are written."""
    check = pause if isinstance(pause, dict) else CompletionCheck.not_ready(next_check_in=pause)

    assert run_stage(told(None, check, CompletionCheck.ready())).waited == 17 * SECOND


@pytest.mark.parametrize("pause", [0, -1, timedelta(0), -MINUTE, 60_000, "60", True, float("nan"), float("inf"), 1e300])
def test_a_pause_that_is_not_a_time_after_now_is_refused(pause):
    """It would poll a hundred thousand times in a second, or never."""
    with pytest.raises(UsageError, match="next_check_in"):
        CompletionCheck.not_ready(next_check_in=pause)


@pytest.mark.parametrize("pause", [float("nan"), float("inf"), 1e300, True, "5", -5])
def test_a_pause_of_the_guide_that_is_not_a_time_after_now_is_refused(pause):
    """As milliseconds, too."""
    with pytest.raises(StageFailed, match="next_check_in"):
        run_stage(told(None, {"ready": False, "nextCheckIn": pause}))


def test_a_pause_of_less_than_a_second_is_a_second():
    """A stage that asks for milliseconds would fill the triggerer's loop alone."""
    hasty = [CompletionCheck.not_ready(next_check_in=0.001)] * 3

    assert run_stage(told(None, *hasty, CompletionCheck.ready())).waited == 18 * SECOND


@dataclasses.dataclass
class Label:
    """A result of the user's."""

    name: str
    when: datetime


class Answer(BaseModel):
    """Another one."""

    labels: list[Label]


LABEL = {"name": "a", "when": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Label("a", NOW), LABEL),
        ([Answer(labels=[Label("a", NOW)])], [{"labels": [LABEL]}]),
        ({"when": NOW, "cost": Decimal("1.10")}, {"when": "2026-01-01T00:00:00Z", "cost": "1.10"}),
        ({"a"}, ["a"]),
        ((1, None), [1, None]),
    ],
)
def test_what_pydantic_writes_as_json_is_an_output_from_the_check_and_from_execute(output, expected):
    """In one shape; the batch was paid when it turned out."""
    resumes = type("Resumes", (told(),), {"output": None})

    async def execute(self, ctx):
        return await Told.execute(self, ctx) if ctx.resume_state is None else output

    resumes.execute = execute

    assert run_stage(told(None, CompletionCheck.ready(output))).output == expected
    assert run_stage(resumes).output == expected


@pytest.mark.parametrize("output", [object(), ValueError("x"), {"a": print}, b"\xff"])
def test_an_output_that_is_not_json_is_refused_with_a_sentence(output):
    """Not with an error of a library."""
    with pytest.raises(StageFailed, match=r"not JSON: .* Give dicts, lists or pydantic models"):
        run_stage(told(None, CompletionCheck.ready(output)))


@pytest.mark.parametrize("metadata", [{"a": b"\xff"}, {"a": print}])
def test_a_state_that_is_not_json_is_refused_with_a_sentence(metadata):
    """It could not come back."""
    with pytest.raises(UsageError, match=r"it holds what is not JSON: .* Give dicts"):
        SuspendedState(batch_id="b", submitted_at=NOW, metadata=metadata)


def test_what_the_guide_leaves_undefined_is_nothing():
    """`None` in Python, where TypeScript leaves it out."""
    state = {"batchId": "b", "submittedAt": NOW.isoformat(), "metadata": None}
    returned = {"suspended": True, "state": state, "customMetrics": None, "pollConfig": None}

    assert run_stage(told(returned, {"ready": True, "output": 1, "metrics": None, "error": None})).output == 1


@pytest.mark.parametrize("metrics", [[1], "x", 5, {1}])
def test_metrics_that_are_not_a_dict_are_refused_with_a_sentence(metrics):
    """They failed the worker that came back, at each attempt."""
    for check in (lambda: CompletionCheck.ready(1, metrics=metrics), lambda: {"ready": True, "metrics": metrics}):

        class Measures(told()):
            async def check_completion(self, state, ctx, check=check):
                return check()

        with pytest.raises(StageFailed, match=r"metrics is a .*, not a dict"):
            run_stage(Measures)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("", "The stage gave no reason."),
        (None, "The stage gave no reason."),
        (ValueError("bad"), "ValueError: bad"),
        ({"message": "bad"}, "bad"),
        (429, "429"),
    ],
)
def test_whatever_a_stage_fails_with_is_told(error, said):
    """A text, nothing, an exception, what a provider sent."""
    with pytest.raises(StageFailed, match=said):
        run_stage(told(None, CompletionCheck.failed(error)))
    if error:
        with pytest.raises(StageFailed, match=said):
            run_stage(told(None, {"ready": False, "error": error}))


def test_an_empty_error_of_the_guide_is_none():
    """As in TypeScript."""
    assert run_stage(told(None, {"ready": True, "output": 1, "error": ""})).output == 1


@pytest.mark.parametrize("ready", ["no", 1, None])
def test_a_check_that_is_ready_in_other_words_is_refused(ready):
    """The text "no" is true."""
    with pytest.raises(UsageError, match="not True or False"):
        CompletionCheck(is_ready=ready)


def test_a_ready_dict_of_the_guide_is_a_check():
    """`{ready: true, output, metrics}`."""
    result = run_stage(told(None, {"ready": True, "output": {"n": 1}, "metrics": {"rows": 2}}))

    assert (result.output, result.metrics) == ({"n": 1}, {"rows": 2})


def test_an_error_of_the_guide_fails_the_stage():
    """`{ready: false, error}`."""
    with pytest.raises(StageFailed, match="All failed"):
        run_stage(told(None, {"ready": False, "error": "All failed"}))


@pytest.mark.parametrize(
    "returned", [None, True, "ready", {}, {"status": "completed"}, {"ready": "yes"}, {"ready": True, "x": 1}]
)
def test_a_check_that_is_none_is_refused_with_a_sentence(returned):
    """It says what to return instead, without a value that may be an answer."""
    with pytest.raises(
        StageFailed, match=r"check_completion of stage 'told' returned .* Return CompletionCheck\.ready"
    ):
        run_stage(told(None, returned))


def test_metrics_of_the_suspension_are_not_lost_to_those_of_the_check():
    """Both are shown; of equal names the check's."""
    shown = []

    class Watched(Told):
        checks: ClassVar = [CompletionCheck.ready(1, metrics={"rows": 2}, embeddings={"dimensions": 8})]
        suspended = Suspended(state=SuspendedState(batch_id="b", submitted_at=NOW), metrics={"requests": 3, "rows": 0})

    result = run_stage(Watched)
    shown.append(result.metrics)

    assert shown == [{"requests": 3, "rows": 2}]
    assert result.suspensions[0].metrics == {"requests": 3, "rows": 0}


class TransportError(Exception):
    """As httpx and httpx2 name their base."""


class ReadTimeout(TransportError):
    pass


class HTTPStatusError(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.response = type("Response", (), {"status_code": status})()


def named(name, **fields):
    """An error as a library that is not installed here names it."""
    error = type(name, (Exception,), {})(name)
    for field, value in fields.items():
        setattr(error, field, value)
    return error


class RpcCode(Enum):
    """As `grpc.StatusCode`."""

    INVALID_ARGUMENT = (3, "invalid argument")
    UNAVAILABLE = (14, "unavailable")


REQUEST = httpx.Request("GET", "http://localhost")


@pytest.mark.parametrize(
    "fault",
    [
        OSError("no route"),
        DiskFull("no room"),
        TimeoutError(),
        ConnectionResetError(),
        ReadTimeout(),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.HTTPStatusError("busy", request=REQUEST, response=httpx.Response(503)),
        HTTPStatusError(429),
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://s3"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="https://s3"),
        botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"),
        botocore.exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientResponseError(SimpleNamespace(real_url="http://localhost"), (), status=502),
        requests.HTTPError(response=SimpleNamespace(status_code=503)),
        urllib3.exceptions.MaxRetryError(None, "/"),
        urllib.error.HTTPError("http://localhost", 503, "busy", None, None),
        named("AutoReconnect"),  # pymongo
        named("ServiceRequestError"),  # azure-core
        named("HttpError", code=503),  # gcsfs
        named("AioRpcError", code=lambda: RpcCode.UNAVAILABLE),  # grpc
        ExceptionGroup("two calls", [TimeoutError(), ExceptionGroup("one", [httpx.ConnectError("refused")])]),
    ],
    ids=repr,
)
def test_a_passing_fault_of_a_stages_own_client_is_polled_through(fault):
    """The guide's rule: only what cannot pass ends a paid task."""
    assert run_stage(told(None, fault, CompletionCheck.ready(1))).output == 1


def test_a_fault_that_stays_ends_at_the_deadline():
    """And not before."""
    with pytest.raises(Overdue):
        run_stage(told(None, httpx.ConnectError("refused")))


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("x"),
        ValueError("x"),
        HTTPStatusError(400),
        HTTPStatusError(404),
        botocore.exceptions.ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject"),
        botocore.exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject"),
        botocore.exceptions.ClientError({}, "PutObject"),
        requests.HTTPError(response=SimpleNamespace(status_code=401)),
        urllib.error.HTTPError("http://localhost", 404, "gone", None, None),
        named("HttpError", code=404),
        named("HttpError", code=99),
        named("HttpError", code=600),
        botocore.exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": "503"}}, "PutObject"),
        named("AioRpcError", code=lambda: RpcCode.INVALID_ARGUMENT),
        ExceptionGroup("two calls", [TimeoutError(), KeyError("k")]),
    ],
    ids=repr,
)
def test_a_bug_of_the_stage_does_not_pass(fault):
    """Polling again until the deadline would not help."""
    assert not is_passing(fault)
    with pytest.raises(StageFailed, match="in check_completion"):
        run_stage(told(None, fault))


class FakeBatches:
    def __init__(self, *running):
        self.running = running

    async def submit(self, _requests):
        return BatchHandle(id="batch-1", status="pending", provider="openai", batch_ids=("batch-1",))

    async def cancel_all(self):
        return self.running


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (("batch-1",), r"Batch timeout after 600 s: 'batch-1' was cancelled\."),
        (("batch-1", "batch-2"), r"'batch-1', 'batch-2' were cancelled\."),
        ((), r"nothing was cancelled, because this task has no running batch of ctx\.batch\."),
    ],
)
def test_a_stage_without_a_cancel_says_what_was_cancelled(running, said):
    """And claims nothing that did not happen."""
    with pytest.raises(Overdue, match=said):
        run_stage(told(None, CompletionCheck.not_ready()), client=FakeBatches(*running))


class Fits(BaseModel):
    n: int


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": ""}, "has id=''"),
        ({"id": 7}, "has id=7"),
        ({"name": None}, "has name=None"),
        ({"output_schema": dict}, "output_schema of stage 'told' is <class 'dict'>"),
        ({"input_schema": "none"}, "input_schema of stage 'told' is 'none'"),
        ({"dependencies": "extract"}, r"dependencies of stage 'told' are 'extract'\. Give a tuple"),
        ({"execute": lambda _self, _ctx: None}, "execute of stage 'told' is not a coroutine"),
        ({"check_completion": lambda _self, _state, _ctx: None}, "check_completion of stage 'told' is not a coroutine"),
        ({"cancel": lambda _self, _state, _ctx: None}, "cancel of stage 'told' is not a coroutine"),
    ],
)
def test_what_can_be_known_of_a_class_is_checked_before_anything_is_paid(changes, said):
    """While the DAG is parsed, and in `run_stage`."""
    stage = type("Told", (Told,), changes)

    with pytest.raises(UsageError, match=said):
        check_stage(stage)
    with pytest.raises(UsageError, match=said):
        run_stage(stage)


def test_the_guides_wrapped_output_is_the_output():
    """`return { output: cached }`, where the schema knows no field of that name."""

    class Wrapped(Told):
        output_schema = Fits

        async def execute(self, ctx):
            return {"output": {"n": 1}}

    assert run_stage(Wrapped).output == {"n": 1}


def test_whole_numbers_that_look_like_milliseconds_are_refused_with_a_hint():
    """The quick preset of the guide, 15000, would be four hours; floats of a file pass."""
    for name in ("interval", "first_poll"):
        times = {"interval": MINUTE, "max_wait": timedelta(days=7), name: 15_000}
        with pytest.raises(UsageError, match=r"For milliseconds write timedelta\(seconds=15\)"):
            PollConfig(**times)
    assert PollConfig.model_validate({"interval": 21600.0, "max_wait": 86400.0}).interval == 6 * HOUR


def test_progress_of_any_values_is_shown_and_ends_nothing():
    """Each record is written into Airflow's database, as JSON."""

    class Shows(told()):
        async def check_completion(self, state, ctx):
            await ctx.log(logging.WARNING, ValueError("slow"), {"status": 429})
            await ctx.progress(float("nan"), ValueError("slow"), at=NOW, cost=Decimal("1.5"), raw=b"\xff", odd=print)
            return CompletionCheck.ready(1)

    (shown,) = run_stage(Shows).progress

    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert (shown["progress"], shown["message"], shown["cost"]) == (None, "slow", "1.5")


async def test_the_log_takes_a_mapping_and_the_word_warning(caplog):
    """As the guide's `log(level, message, metadata)`."""

    class Talking(Told):
        async def execute(self, ctx):
            await ctx.log("WARNING", "2 requests failed", {"failed_ids": ["a"]}, more=1)
            return 1

    run_stage(Talking)

    assert ("airflow_batch_provider.stages", 30, "2 requests failed failed_ids=['a'] more=1") in caplog.record_tuples
