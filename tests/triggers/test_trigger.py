"""The trigger: it polls, waits and tells; it never submits, never blocks, and only cancels what nobody owns."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, SetXCom, TaskStatesResult
from blockbuster import blockbuster_ctx
from botocore.exceptions import ClientError
from edge_stages import Done, Scripted
from upath import UPath

from airflow_batch_provider.airflow import shared_hub
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import Denied, NotFound, Unavailable, UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.stages import CompletionCheck, PollConfig, SuspendedState, TaskKey
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.suspension import StageLocation, Suspension
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.triggers import stage as trigger_module
from airflow_batch_provider.triggers.stage import AsyncBatchTrigger

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class VirtualTime:
    """A clock that is moved on by sleeping."""

    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class Supervisor:
    """Airflow's side of a trigger: answers what the task's state is, and keeps the XComs."""

    def __init__(self, state: str = "deferred") -> None:
        self.state = state
        self.xcoms: list[SetXCom] = []
        self.broken = False

    async def asend(self, message):
        if self.broken:
            raise ConnectionResetError("the supervisor is gone")
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={message.run_ids[0]: {message.task_ids[0]: self.state}})
        self.xcoms.append(message)
        return None


@pytest.fixture
def supervisor(monkeypatch):
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def trigger(tmp_path, time, supervisor):
    Scripted.script = deque([CompletionCheck.ready()])
    Scripted.cancelled = []
    return made(tmp_path, time)


def suspension(tmp_path, **changes) -> Suspension:
    location = {
        "stage": changes.pop("stage", "edge_stages.Scripted"),
        "task": changes.pop("task", TaskKey("dag", "run", "task")),
        "storage": tmp_path.as_uri(),
        "conn_id": "anthropic_default",
    }
    fields = {
        "location": StageLocation(**location),
        "state": SuspendedState(batch_id="batch-1", submitted_at=START),
        "poll": PollConfig(interval=timedelta(minutes=1), max_wait=24 * HOUR),
        "suspended_at": START,
        "token": "t",
    }
    return Suspension(**(fields | changes))


def made(tmp_path, time, **changes) -> AsyncBatchTrigger:
    waited = suspension(tmp_path, **changes)
    StageFiles(waited.location.directory(UPath)).save_config(None)
    trigger = AsyncBatchTrigger(**waited.kwargs())
    trigger._clock = Clock(now=lambda: time.now, sleep=time.sleep)
    trigger._jitter = lambda: 0.0
    return trigger


async def fired(trigger) -> dict:
    with blockbuster_ctx():
        events = [event.payload async for event in trigger.run()]
    await trigger.cleanup()
    assert len(events) == 1
    return events[0]


async def test_a_day_of_polling_ends_with_one_event(trigger, time):
    """The stage is polled each minute until it is ready."""
    polls = 24 * 60 - 1
    Scripted.script = deque([CompletionCheck.not_ready()] * polls + [CompletionCheck.ready()])
    assert await fired(trigger) == {"status": "ready", "error": None}
    assert time.now == START + timedelta(minutes=polls + 1)


async def test_a_quick_event_is_held_until_the_scheduler_has_heard_of_the_deferral(tmp_path, time, supervisor):
    """Airflow would take the resumed task for one that ended; where there is no Airflow, nobody waits."""
    Scripted.script = deque([CompletionCheck.ready(), CompletionCheck.ready()])
    poll = PollConfig(interval=timedelta(minutes=1), max_wait=24 * HOUR, first_poll=timedelta(0))
    in_airflow, alone = made(tmp_path, time, poll=poll), made(tmp_path, time, poll=poll)
    in_airflow.task_instance = SimpleNamespace(task_id="task")

    await fired(alone)
    assert time.now == START
    time.now = START + timedelta(seconds=3)  # the triggerer took the trigger up
    await fired(in_airflow)
    assert time.now == START + timedelta(seconds=20)


@pytest.mark.parametrize("late", [timedelta(seconds=20), HOUR])
async def test_a_later_event_is_not_held(tmp_path, time, supervisor, late):
    """By then the scheduler knows; a triggerer that took over does not wait again."""
    Scripted.script = deque([CompletionCheck.ready()])
    poll = PollConfig(interval=timedelta(minutes=1), max_wait=24 * HOUR, first_poll=timedelta(0))
    trigger = made(tmp_path, time, poll=poll)
    trigger.task_instance = SimpleNamespace(task_id="task")
    time.now = START + late
    await fired(trigger)
    assert time.now == START + late


async def test_a_worker_whose_clock_is_ahead_holds_no_event_longer(tmp_path, time, supervisor):
    """Clocks of two machines differ."""
    Scripted.script = deque([CompletionCheck.ready()])
    poll = PollConfig(interval=timedelta(minutes=1), max_wait=24 * HOUR, first_poll=timedelta(0))
    trigger = made(tmp_path, time, poll=poll, suspended_at=START + HOUR)
    trigger.task_instance = SimpleNamespace(task_id="task")
    time.now = START + HOUR - timedelta(minutes=5)
    await fired(trigger)
    assert sum(time.slept[-1:]) == 20


async def test_the_first_poll_counts_from_the_suspension(tmp_path, time, trigger):
    """A triggerer that restarts does not wait for the first poll once more."""
    poll = PollConfig(interval=HOUR, max_wait=24 * HOUR, first_poll=timedelta(minutes=10))
    time.now = START + timedelta(minutes=7)
    await fired(made(tmp_path, time, poll=poll))
    assert time.slept == [180.0]


async def test_a_stage_may_ask_for_another_pause(trigger, time):
    """`next_check_in` wins over the interval, once."""
    Scripted.script = deque([CompletionCheck.not_ready(next_check_in=timedelta(seconds=7)), CompletionCheck.ready()])
    await fired(trigger)
    assert time.slept == [60.0, 7.0]


async def test_polls_spread(trigger, time):
    """Triggers that started together do not poll together for ever."""
    trigger._jitter = lambda: 1.0
    Scripted.script = deque([CompletionCheck.not_ready(), CompletionCheck.ready()])
    await fired(trigger)
    assert time.slept == [60.0, pytest.approx(66.0)]


async def test_the_deadline_counts_from_the_submission(tmp_path, time, trigger):
    """Whatever was restarted meanwhile, time is up at the same moment; that moment gets a last poll."""
    Scripted.script = deque([CompletionCheck.not_ready()])
    time.now = START + 23 * HOUR + timedelta(minutes=59, seconds=30)
    late = made(tmp_path, time, suspended_at=time.now)
    assert await fired(late) == {"status": "timeout", "error": None}
    assert time.now == START + 24 * HOUR


async def test_a_batch_that_ends_at_the_deadline_is_not_lost(tmp_path, time, trigger):
    """The last poll may still say ready."""
    time.now = START + 30 * HOUR
    assert (await fired(made(tmp_path, time)))["status"] == "ready"


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [Unavailable("529 overloaded"), NotFound("404"), OSError("disk"), TimeoutError()])
async def test_passing_faults_are_waited_out(trigger, fault, times, caplog):
    """However many there are in a row, they are one line in the log and no harm."""
    Scripted.script = deque([fault] * times + [CompletionCheck.ready()])
    assert (await fired(trigger))["status"] == "ready"
    assert len([record for record in caplog.records if "Polling again" in record.message]) == 1


async def test_faults_make_pauses_longer(trigger, time):
    """The pause doubles up to a quarter of an hour, and is never shorter than the provider asked."""
    patient = Unavailable("429", retry_after=3000.0)
    Scripted.script = deque([Unavailable("503")] * 6 + [patient, CompletionCheck.ready()])
    await fired(trigger)
    assert time.slept == [60.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 3000.0]


async def test_faults_after_a_good_poll_are_told_and_waited_out_again(trigger, time, caplog):
    """Hours may lie between them."""
    fault = Unavailable("503")
    Scripted.script = deque([fault, fault, CompletionCheck.not_ready(), fault, CompletionCheck.ready()])
    await fired(trigger)
    assert time.slept == [60.0, 60.0, 120.0, 60.0, 60.0]
    assert len([record for record in caplog.records if "Polling again" in record.message]) == 2


async def test_a_fault_until_the_deadline_is_told(trigger):
    """When time is up, the worker hears what stood in the way."""
    Scripted.script = deque([Unavailable("503 all day")])
    assert await fired(trigger) == {"status": "timeout", "error": "Unavailable: 503 all day"}


async def test_an_unknown_batch_is_a_fact_after_ten_minutes(trigger, time):
    """A 404 just after create is `not visible yet`; later the id is wrong."""
    Scripted.script = deque([NotFound("no such batch")])
    assert await fired(trigger) == {"status": "failed", "error": "no such batch"}
    assert timedelta(minutes=10) < time.now - START < timedelta(minutes=30)


async def test_a_refused_key_ends_the_wait_and_cancels_nothing(trigger, time):
    """The batch may be fine: it runs on, for another attempt of the task under a good key."""
    Scripted.script = deque([Denied("401: bad key.")])
    assert await fired(trigger) == {
        "status": "failed",
        "error": "401: bad key. What was bought runs on at the provider. Correct the connection; a retry, or a clear of the "
        "task, goes on with it and buys nothing again.",
        "retryable": True,
    }
    assert time.slept == [60.0]
    assert Scripted.cancelled == []


async def test_an_error_in_a_stage_ends_the_task(trigger):
    """A bug of the user's does not leave the task waiting for ever; the message is bounded."""
    Scripted.script = deque([KeyError("x" * 5000)])
    event = await fired(trigger)
    assert event["status"] == "failed"
    assert event["error"].startswith("KeyError in check_completion of 'edge_stages.Scripted'")
    assert len(json.dumps(event)) < 2048


@pytest.mark.parametrize("code", [None, 0, 3, "enough"])
async def test_a_stage_that_ends_the_process_ends_its_own_task_only(trigger, code):
    """`sys.exit` in a check would end the triggerer with all that wait in it."""
    Scripted.script = deque([SystemExit(code)])
    assert await fired(trigger) == {
        "status": "failed",
        "error": f"check_completion of stage 'scripted' called sys.exit({code!r}). Return CompletionCheck.failed(reason) "
        "instead.",
    }


async def test_a_check_that_never_returns_ends_with_the_deadline(tmp_path, time, supervisor, monkeypatch):
    """Its client may have no time-out at all."""
    monkeypatch.setattr("airflow_batch_provider.stages.polled_wait.CHECK_GRACE", timedelta(seconds=0.05))
    Scripted.script = deque([600.0])
    trigger = made(tmp_path, time, poll=PollConfig(interval=timedelta(minutes=1), max_wait=HOUR))
    time.now += HOUR

    assert await asyncio.wait_for(fired(trigger), 30) == {
        "status": "timeout",
        "error": "TimeoutError: check_completion of stage 'scripted' never returned.",
    }


async def test_a_time_out_of_the_stages_own_client_is_polled_through(trigger):
    """It is not the deadline."""
    Scripted.script = deque([TimeoutError("read timed out"), CompletionCheck.ready()])
    assert (await fired(trigger))["status"] == "ready"


async def test_a_failed_check_fails_the_task(trigger):
    """The stage's own words arrive."""
    Scripted.script = deque([CompletionCheck.failed("All batch requests failed")])
    assert await fired(trigger) == {"status": "failed", "error": "All batch requests failed"}


async def test_an_output_goes_to_storage_not_into_the_event(trigger, tmp_path):
    """Airflow logs events and keeps them in a row; an output of any size waits in stage storage."""
    Scripted.script = deque([CompletionCheck.ready(Done(said="y" * 100_000), metrics={"rows": 1.0})])
    assert await fired(trigger) == {"status": "ready", "error": None}
    files = StageFiles(trigger.suspension.location.directory(UPath))
    assert files.output("t")["output"]["said"] == "y" * 100_000
    assert files.output("another wait") == {}


@pytest.mark.parametrize(
    "more", [{"metrics": {"rows": 1.0}}, {"embeddings": {"dim": 2}}, {"embeddings": Done(said="2 vectors")}]
)
async def test_what_a_check_measured_is_kept_also_without_an_output(trigger, more):
    """The worker resumes the stage, and shows it."""
    Scripted.script = deque([CompletionCheck.ready(**more)])
    await fired(trigger)
    shown = {"said": "2 vectors", "runs": 0, "heard": None}
    kept = {name: shown if isinstance(value, Done) else value for name, value in more.items()}
    output = StageFiles(trigger.suspension.location.directory(UPath)).output("t")
    assert output == {"token": "t", "metrics": {}, "embeddings": None} | kept


async def test_a_check_that_only_says_ready_leaves_no_file(trigger):
    """Nothing is written that nobody reads."""
    await fired(trigger)
    location = trigger.suspension.location
    assert location.directory(UPath).names() == ["config.json"]
    assert location.conn_id == "anthropic_default"


async def test_an_output_that_does_not_fit_fails_the_task(trigger):
    """The schema is checked before anything is kept; the value itself is not shown."""
    Scripted.script = deque([CompletionCheck.ready({"words": "secret answer"})])
    event = await fired(trigger)
    assert event["status"] == "failed"
    assert "does not fit Done: said: Field required" in event["error"]
    assert "secret answer" not in event["error"]


async def test_a_stage_that_cannot_be_imported_fails_with_the_remedy(tmp_path, time, supervisor):
    """A trigger that only raised would be logged where nobody looks."""
    event = await fired(made(tmp_path, time, stage="no_such_module.Stage"))
    assert event["status"] == "failed"
    assert "plugins folder" in event["error"]


async def test_a_storage_that_is_away_is_waited_for(trigger, monkeypatch, time, caplog):
    """The triggerer may start before its disk is mounted; one line in the log, no lost trigger."""
    faults = [OSError("no route"), OSError("no route")]
    config = StageFiles.config

    def flaky(self, stage):
        if faults:
            raise faults.pop()
        return config(self, stage)

    monkeypatch.setattr(StageFiles, "config", flaky)
    assert (await fired(trigger))["status"] == "ready"
    assert time.slept == [60.0, 60.0, 0.0]
    assert len([record for record in caplog.records if "cannot be read: no route" in record.message]) == 1


async def test_a_storage_that_stays_away_until_the_deadline_is_told_by_the_trigger(trigger, monkeypatch):
    """Airflow's own timeout would say nothing of it."""

    def away(_self, _stage):
        raise OSError("no route")

    monkeypatch.setattr(StageFiles, "config", away)
    event = await fired(trigger)
    assert event["status"] == "timeout"
    assert event["error"] == "Stage storage cannot be read: no route"


@pytest.mark.parametrize("fault", [ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"), Unavailable("503")])
async def test_a_storage_that_is_busy_is_waited_for_whatever_its_client_calls_that(trigger, monkeypatch, time, fault):
    """The errors of object stores have no common class."""
    faults = [fault]
    read = Directory.read

    def flaky(self, name):
        if faults:
            raise faults.pop()
        return read(self, name)

    monkeypatch.setattr(Directory, "read", flaky)
    assert (await fired(trigger))["status"] == "ready"
    assert time.slept == [60.0, 0.0]


async def test_a_disk_that_is_not_mounted_yet_is_waited_for(trigger, monkeypatch, time, caplog):
    """Its folder is there and empty, which is not a reason to give a paid batch up."""
    away = [None, None]
    read = Directory.read
    monkeypatch.setattr(Directory, "read", lambda self, name: away.pop() if away else read(self, name))

    assert (await fired(trigger))["status"] == "ready"

    assert time.slept == [60.0, 60.0, 0.0]
    assert [record.message for record in caplog.records if "mounted" in record.message] == [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ]


async def test_progress_is_shown_on_change_and_once_a_minute(trigger, supervisor):
    """People see movement; Airflow's database is not written at each poll."""
    same, other = {"succeeded": 1}, {"succeeded": 2}
    Scripted.script = deque([same, same, other, other, CompletionCheck.ready()])
    await fired(trigger)
    assert [(xcom.key, xcom.value) for xcom in supervisor.xcoms] == [
        ("batch_progress", same),
        ("batch_progress", other),
    ]


async def test_a_record_that_only_grew_older_is_not_shown_again(trigger, supervisor, caplog):
    """When it was seen and how fast it goes changes at each poll; the log has the pace."""
    caplog.set_level("INFO")
    polls = [{"message": "1 of 2.", "seen_at": n, "pace": f"{n} an hour."} for n in range(3)]
    Scripted.script = deque([*polls, {"message": "2 of 2."}, CompletionCheck.ready()])

    await fired(trigger)

    assert [xcom.value["message"] for xcom in supervisor.xcoms] == ["1 of 2.", "2 of 2."]
    assert "1 of 2. 0 an hour." in caplog.messages


async def test_quick_polls_do_not_show_each_change(tmp_path, time, supervisor):
    """A change within a minute of the last record waits for the next poll."""
    poll = PollConfig(interval=timedelta(seconds=20), max_wait=HOUR)
    Scripted.script = deque([{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, CompletionCheck.ready()])
    await fired(made(tmp_path, time, poll=poll))
    assert [xcom.value["n"] for xcom in supervisor.xcoms] == [1, 4]


async def test_the_last_record_is_shown_when_the_wait_is_over(tmp_path, time, supervisor):
    """A task that is done does not look as if a third of it were."""
    poll = PollConfig(interval=timedelta(seconds=20), max_wait=HOUR)
    Scripted.script = deque([{"n": 1}, {"n": 2}, {"n": 3}, CompletionCheck.ready()])
    await fired(made(tmp_path, time, poll=poll))
    assert [xcom.value["n"] for xcom in supervisor.xcoms] == [1, 3]


async def test_progress_that_airflow_refuses_is_not_a_harm(trigger, supervisor):
    """Nothing depends on the record."""
    supervisor.broken = True
    Scripted.script = deque([{"n": 1}, CompletionCheck.ready()])
    assert (await fired(trigger))["status"] == "ready"


def test_the_arguments_are_small_plain_json_and_build_the_same_trigger(trigger, tmp_path):
    """Airflow keeps them in its database in plain text: ids and times only."""
    from airflow.sdk.module_loading import import_string
    from airflow.sdk.serde import deserialize, serialize

    classpath, kwargs = trigger.serialize()
    again = import_string(classpath)(**deserialize(serialize(kwargs)))
    assert again.serialize() == (classpath, kwargs)
    assert len(json.dumps(kwargs)) < 1024


def test_a_large_state_stays_in_storage_and_the_arguments_point_to_it(tmp_path):
    """Its batch is paid: what the stage wants to remember is never refused."""
    state = SuspendedState(batch_id="b", submitted_at=START, metadata={"custom_ids": ["p" * 9000]})
    whole = suspension(tmp_path, state=state)
    files = StageFiles(Directory(UPath(tmp_path / "storage")))
    files.save_suspension(whole)
    kwargs = whole.kwargs()
    assert len(json.dumps(kwargs)) < 1024
    bare = Suspension.model_validate(kwargs)
    assert (bare.state.batch_id, bare.state.metadata, bare.deadline) == ("b", {}, whole.deadline)
    later = bare.model_copy(update={"lost": 1, "suspended_at": START + timedelta(hours=1)})
    assert files.whole(later) == whole.model_copy(update={"lost": 1, "suspended_at": later.suspended_at})
    files.save_suspension(whole.model_copy(update={"token": "later"}))
    with pytest.raises(UsageError, match="holds a later wait of dag/run/task"):
        files.whole(bare)


@pytest.mark.parametrize(
    ("state", "cancels"),
    [
        ("failed", True),
        ("success", True),
        ("skipped", True),
        ("upstream_failed", True),
        ("removed", True),
        ("deferred", False),
        ("scheduled", False),
        ("queued", False),
        ("running", False),
        ("up_for_retry", False),
        ("restarting", False),
    ],
)
async def test_a_kill_cancels_only_what_nobody_owns(trigger, supervisor, state, cancels):
    """A cleared task and a trigger that moved to another triggerer are `killed` as well: their batch goes on."""
    supervisor.state = state
    await trigger.on_kill()
    await trigger.cleanup()
    assert Scripted.cancelled == (["batch-1"] if cancels else [])


async def test_a_kill_whose_task_state_is_unknown_cancels_nothing(trigger, supervisor):
    """A batch that goes on costs less than one that is bought twice."""
    supervisor.broken = True
    await trigger.on_kill()
    assert Scripted.cancelled == []


async def test_a_kill_of_a_mapped_task_looks_at_its_own_index(tmp_path, time, supervisor, trigger):
    """Airflow names the states of mapped tasks `task_index`."""
    mapped = made(tmp_path, time, task=TaskKey("dag", "run", "task", 3))

    async def asend(message):
        assert message.map_index == 3
        return TaskStatesResult(task_states={"run": {"task_3": "failed", "task": "deferred"}})

    supervisor.asend = asend
    await mapped.on_kill()
    await mapped.cleanup()
    assert Scripted.cancelled == ["batch-1"]


async def test_a_kill_cancels_once_and_never_after_the_event(trigger, supervisor):
    """Airflow calls `on_kill` of a trigger whose event it has taken, too."""
    supervisor.state = "failed"
    await trigger.on_kill()
    await trigger.on_kill()
    assert Scripted.cancelled == ["batch-1"]
    await fired(trigger)
    trigger._killed = False
    await trigger.on_kill()
    assert Scripted.cancelled == ["batch-1"]


async def test_a_kill_is_not_cut_off_by_airflows_next_cancellation(trigger, supervisor, monkeypatch):
    """Airflow repeats its cancellation each second, also while `on_kill` talks to the provider."""
    supervisor.state = "failed"
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_self, state, _ctx):
        started.set()
        await go_on.wait()
        Scripted.cancelled.append(state.batch_id)

    monkeypatch.setattr(Scripted, "cancel", slow)
    kill = asyncio.create_task(trigger.on_kill())
    await started.wait()
    kill.cancel()
    with pytest.raises(asyncio.CancelledError):
        await kill
    await trigger.cleanup()
    go_on.set()
    await asyncio.gather(*trigger_module._KILLS)
    assert Scripted.cancelled == ["batch-1"]
    assert asyncio.get_running_loop() not in shared_hub._SHARED


async def test_a_kill_tells_what_was_cancelled(trigger, supervisor, monkeypatch, caplog):
    """By name, so that a person can see it at the provider."""
    caplog.set_level("INFO")
    supervisor.state = "failed"

    async def cancelled(_self, _state, _ctx):
        return ("batch-1", "batch-2")

    monkeypatch.setattr(Scripted, "cancel", cancelled)
    await trigger.on_kill()
    assert "is 'failed': 'batch-1', 'batch-2' were cancelled." in caplog.text


async def test_a_kill_that_the_provider_refuses_is_told(trigger, supervisor, monkeypatch, caplog):
    """A person can still stop the batch."""
    supervisor.state = "failed"

    async def refused(_self, _state, _ctx):
        raise Denied("401")

    monkeypatch.setattr(Scripted, "cancel", refused)
    await trigger.on_kill()
    assert "What batch-1 waits for" not in caplog.text
    assert "'batch-1'; do it at the provider" in caplog.text


@pytest.mark.parametrize("tells_kills", [True, False])
@pytest.mark.parametrize("state", ["failed", "success", "deferred", "queued", "scheduled", "up_for_retry", None])
async def test_before_airflow_3_3_a_cancelled_run_asks_for_itself(
    trigger, supervisor, time, monkeypatch, tells_kills, state
):
    """Without `on_kill` in Airflow, the cancelled `run` looks at the task's state; with it, only `on_kill` does."""
    monkeypatch.setattr(trigger_module, "_TELLS_KILLS", tells_kills)
    supervisor.state = state
    started = asyncio.Event()

    async def forever(_seconds):
        started.set()
        await asyncio.Event().wait()

    time.sleep = forever
    trigger._clock = Clock(now=lambda: time.now, sleep=forever)
    run = asyncio.create_task(anext(trigger.run()))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await trigger.cleanup()
    over = state in ("failed", "success")
    assert Scripted.cancelled == (["batch-1"] if over and not tells_kills else [])


async def test_triggers_of_a_process_share_one_hub(monkeypatch):
    """One client per connection, closed when the last trigger is gone."""
    closed = []

    async def close(self):
        closed.append(self)

    monkeypatch.setattr(Hub, "aclose", close)
    async with shared_hub.SharedHub(Clock()) as hub:
        async with shared_hub.SharedHub(Clock()) as same:
            assert same is hub
        assert closed == []
    assert closed == [hub]
    async with shared_hub.SharedHub(Clock()) as another:
        assert another is not hub


async def test_a_run_leaves_no_hub_behind(trigger):
    """`dag.test` calls no `cleanup`."""
    async for _event in trigger.run():
        pass
    assert asyncio.get_running_loop() not in shared_hub._SHARED


def test_the_trigger_module_imports_no_sdk():
    """The triggerer imports it on its event loop, which all triggers share."""
    import subprocess
    import sys

    code = (
        "import sys, airflow_batch_provider.triggers.stage;"
        "heavy = ('anthropic', 'openai', 'google.genai', 'pyarrow', 'pandas', 'genai_prices');"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_no_id_breaks_out_of_its_directory(tmp_path):
    """Ids become one path segment each, whatever is in them."""
    evil = suspension(tmp_path, task=TaskKey("..", "manual__2026-01-01T00:00:00+00:00", "a/../b", 2))
    root = UPath(str(evil.location.directory(UPath)))
    assert root.path == f"{tmp_path}/%2E%2E/manual__2026-01-01T00%3A00%3A00%2B00%3A00/a%2F..%2Fb/2"
