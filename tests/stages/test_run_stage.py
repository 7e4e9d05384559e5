"""`run_stage` and `SimulatedTask`: custom stages run as Airflow runs them, in no time and without Airflow."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from driving import KEY, PATHS
from edge_stages import Dependent, Obedient
from guide_stages import BatchProcess
from pydantic import BaseModel, SecretStr

from airflow_batch_provider.client import BatchHandle
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.exceptions import Overdue, StageFailed, Unavailable, UsageError
from airflow_batch_provider.models import Account, BatchRow, BatchStatus
from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.stages.polling import READY
from airflow_batch_provider.testing import SimulatedTask, StageResult, run_stage

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class FakeBatches:
    """What a user writes instead of a provider: done at the third poll."""

    def __init__(self, status="completed"):
        self.asked = []
        self.cancelled = []
        self._statuses = iter(["pending", "processing", status])

    async def submit(self, requests, **_options):
        self.asked = requests
        return BatchHandle(id="batch-1", status="pending", provider="anthropic", batch_ids=("batch-1",))

    async def get_status(self, batch_id):
        return BatchStatus(batch_id=batch_id, status=next(self._statuses, "processing"))

    async def get_results(self, _batch_id, _metadata=None):
        ids = [request["custom_id"] for request in self.asked]
        return [BatchRow(custom_id=key, index=n, status="succeeded", output="fine") for n, key in enumerate(ids)]

    async def record_results(self, _batch_id, _rows):
        return True

    async def cancel(self, batch_id):
        self.cancelled.append(batch_id)


UPSTREAM = {"data-extraction": {"items": ["one", "two"]}}


def test_a_stage_runs_to_its_end_on_virtual_time():
    """The guide's stage line by line: submit, three polls a minute apart, the output of the check."""
    client = FakeBatches()

    result = run_stage(BatchProcess, outputs=UPSTREAM, client=client)

    assert [item["result"] for item in result.output["items"]] == ["fine", "fine"]
    assert [request["custom_id"] for request in client.asked] == ["item-0", "item-1"]
    assert [check.is_ready for check in result.checks] == [False, False, True]
    assert result.waited == 3 * MINUTE
    assert [suspension.state.batch_id for suspension in result.suspensions] == ["batch-1"]
    assert result.metrics["requests"] == result.metrics["success_count"] == 2


def test_a_batch_that_does_not_end_is_cancelled_at_the_deadline():
    """`Overdue`, after an hour that takes no time."""
    client = FakeBatches(status="processing")

    with pytest.raises(Overdue, match="Batch timeout after 3600 s: the stage's own cancel was called"):
        run_stage(BatchProcess, outputs=UPSTREAM, client=client)

    assert client.cancelled == ["batch-1"]


def test_a_failed_check_raises_what_the_stage_said():
    """As Airflow fails the task."""
    with pytest.raises(StageFailed, match=r"^Batch batch-1 failed$"):
        run_stage(BatchProcess, outputs=UPSTREAM, client=FakeBatches(status="failed"))


def test_a_stage_without_its_upstream_task_is_refused():
    """With the line of code that would be missing in the DAG."""
    with pytest.raises(UsageError, match=r"Add extraction >> task\."):
        run_stage(Dependent)


def test_input_outputs_progress_and_polls_are_as_in_airflow():
    """The input arrives at the resume too, a task in a group by its own name, the task's poll instead of the stage's."""
    poll = PollConfig(interval=HOUR, max_wait=2 * HOUR)

    result = run_stage(Obedient, config={"mode": "resume"}, input={"n": 1}, poll=poll)
    grouped = run_stage(Dependent, config={"mode": "resume", "needs": "extraction"}, outputs={"group.extraction": [7]})

    assert result == StageResult(
        output={"said": "done", "runs": 2, "heard": {"n": 1}},
        suspensions=result.suspensions,
        checks=(CompletionCheck.ready(),),
        waited=HOUR,
        metrics={"rows": 3.0},
        progress=({"progress": 100, "message": "done"},),
    )
    assert grouped.output["heard"] == [7]


class When(BaseModel):
    at: datetime


class Suspending(AsyncBatchStage[Any, Any]):
    """Suspends once, with this state."""

    id = name = "suspending"
    metadata: ClassVar[dict[str, Any]] = {}

    async def execute(self, ctx):
        if ctx.resume_state is not None:
            return {"found": ctx.resume_state.metadata, "kept": getattr(self, "kept", None)}
        self.kept = "in the instance"
        return Suspended(state=SuspendedState(batch_id="b", submitted_at=ctx.now(), metadata=self.metadata))

    async def check_completion(self, state, ctx):
        return CompletionCheck.ready()


def test_what_a_stage_keeps_in_itself_is_gone_at_the_next_run():
    """Each run is another process in Airflow."""
    assert run_stage(Suspending).output == {"found": {}, "kept": None}


def test_what_changes_on_its_way_through_json_changes_in_a_test(monkeypatch):
    """A tuple comes back as a list, as it does from Airflow's database."""
    monkeypatch.setattr(Suspending, "metadata", {"ids": ("a", "b")})

    assert run_stage(Suspending).output["found"] == {"ids": ["a", "b"]}


def test_the_config_of_a_resumed_run_is_the_saved_one():
    """In the shape of its schema."""

    class Timed(Suspending):
        config_schema = When

        async def execute(self, ctx):
            returned = await super().execute(ctx)
            return returned if isinstance(returned, Suspended) else ctx.config

    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert run_stage(Timed, config=When(at=moment)).output == {"at": "2026-01-01T00:00:00Z"}


def test_passing_faults_are_polled_through():
    """As the triggerer does; the fault is not a check."""

    class Shaky(Suspending):
        faults: ClassVar[list[Exception]] = [Unavailable("503"), OSError("no route")]

        async def check_completion(self, state, ctx):
            if self.faults:
                raise self.faults.pop(0)
            return CompletionCheck.ready()

    result = run_stage(Shaky, poll=PollConfig(interval=MINUTE, max_wait=HOUR))

    assert len(result.checks) == 1
    assert result.waited == 4 * MINUTE


def test_a_stage_that_asks_a_connection_nobody_gave_is_told(tmp_path):
    """No network is reached by accident."""
    with pytest.raises(UsageError, match=r"No connection for model .*Give conn_id"):
        run_stage(BatchProcess, outputs=UPSTREAM)
    with pytest.raises(UsageError, match=r"no account for connection 'mine'\. Give accounts= or client="):
        run_stage(BatchProcess, outputs=UPSTREAM, conn_id="mine")


def test_a_stage_over_the_emulator_takes_its_account(tmp_path):
    """The same stage against the provider's protocol; files stay where the test wants them."""
    with EmulatorServer(Settings(progress=Progress(by="polls", pending=0, running=1, finalizing=0))) as server:
        url = server.url + PATHS["anthropic"]
        account = Account(provider="anthropic", api_key=SecretStr(KEY), base_url=url)
        result = run_stage(BatchProcess, outputs=UPSTREAM, accounts={"mine": account}, storage=tmp_path)

    assert [item["success"] for item in result.output["items"]] == [True, True]
    assert (tmp_path / "dag/run/task/config.json").exists()


async def test_run_stage_works_inside_a_running_loop():
    """In an async test, too."""
    assert run_stage(Obedient, config={"mode": "twice"}).output["runs"] == 3


async def test_a_simulated_task_goes_step_by_step(tmp_path):
    """So a test can look between the steps, and lose a worker between two of them."""
    task = SimulatedTask(Obedient, storage=str(tmp_path), config={"mode": "resume"})

    suspension = await task.start()
    assert await task.wait(suspension) == READY
    again = SimulatedTask(Obedient, storage=str(tmp_path))  # another worker takes over
    finished = await again.proceed(READY)

    assert suspension.batch_ids == ["batch-1"]
    assert finished.output["said"] == "done"


def test_the_example_of_the_docstring_passes():
    """It is what people copy."""
    import textwrap

    from airflow_batch_provider import testing

    example = testing.__doc__.split("\n\n", 1)[1].rsplit("\n\nThe stage lives", 1)[0]
    names = {"__name__": "example"}
    exec(compile(textwrap.dedent(example), "testing.py", "exec"), names)

    names["test_a_translation_is_polled_until_it_is_done"]()


def test_a_day_of_polling_takes_no_time():
    """Milliseconds, whatever the deadline."""
    loops = 0

    class Endless(Suspending):
        async def check_completion(self, state, ctx):
            nonlocal loops
            loops += 1
            return CompletionCheck.not_ready()

    with pytest.raises(Overdue):
        asyncio.run(asyncio.wait_for(asyncio.to_thread(run_stage, Endless), 20))
    assert loops == 288
