"""What has landed is told once: tokens and money that are counted twice are worse than none."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes import Bomb, FakeClock, FakeProvider, Job, Killed, bombed_storage, failing

from airflow_batch_provider.models import Reply
from airflow_batch_provider.signals import Signals
from airflow_batch_provider.storage import Directory

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Heard(Signals):
    """An observer that keeps what it is told; it outlives the processes that tell it."""

    def __init__(self):
        self.batches = []
        self.bought_batches = []

    def traceparent(self):
        return TRACE

    def bought(self, batch):
        self.bought_batches.append(batch)

    def landed(self, batch):
        self.batches.append(batch)


def observed(job, heard):
    job.signals = heard
    return job


def three_rows(root, bomb, heard):
    """Two batches, and a third for the one row that fails at first."""
    clock = FakeClock()
    ok = Reply(key="", status="succeeded", output="fine")
    provider = FakeProvider(
        clock, bomb, answer=lambda body, n: failing() if body["prompt"] == "b" and n == 1 else ok, max_requests=2
    )
    return observed(Job(root, provider, clock, ["a", "b", "c"], retry_rows=1), heard)


async def test_each_batch_is_told_with_its_rows_tokens_and_trace(tmp_path):
    """The sums over all that is told are those of the manifest."""
    heard = Heard()
    manifest = await three_rows(tmp_path, Bomb(), heard).run()

    assert [(one.wave, dict(one.rows)) for one in heard.batches] == [
        (0, {"failed": 1, "succeeded": 1}),
        (0, {"succeeded": 1}),
        (1, {"succeeded": 1}),
    ]
    assert sum(one.usage.input_tokens for one in heard.batches) == manifest.usage.input_tokens
    assert [one.batch_id for one in heard.batches] == list(manifest.batches)
    assert {(one.provider, one.model, one.kind, one.traceparent) for one in heard.batches} == {
        ("openai", "m", "generate", TRACE)
    }
    assert all(one.landed_at > one.bought_at for one in heard.batches)
    assert [one.requests for one in heard.bought_batches] == [2, 1, 1]


@pytest.mark.sweep
async def test_killed_anywhere_a_batch_is_told_once(tmp_path, monkeypatch, sweep):
    """Only a process that dies right between keeping its sums and telling tells nothing of what it has just counted."""
    with monkeypatch.context() as patch:
        bomb = Bomb()
        bombed_storage(bomb, patch)
        await three_rows(tmp_path / "count", bomb, Heard()).run()
        total = bomb.moment

    for at in sweep.of(range(total)):
        with monkeypatch.context() as patch:
            bomb, heard = Bomb(at), Heard()
            bombed_storage(bomb, patch)
            task = three_rows(tmp_path / str(at), bomb, heard)
            with pytest.raises(Killed):
                await task.run()
            await task.retry()

        times = Counter(one.batch_id for one in heard.batches)
        assert max(times.values()) == 1, bomb.where
        is_between = "landed.json" in bomb.where and bomb.where.endswith("after")
        assert len(times) == 3 or is_between, bomb.where


async def test_sums_that_cannot_be_kept_are_told_when_they_can(tmp_path, monkeypatch):
    """A storage that fails for a while delays the numbers, and does not double them."""
    heard = Heard()
    task = three_rows(tmp_path, Bomb(), heard)
    write, faults = Directory.write, []

    def failing_write(self, name, data):
        if name == "landed.json" and len(faults) < 4:
            faults.append(name)
            raise OSError("the storage fails now")
        write(self, name, data)

    monkeypatch.setattr(Directory, "write", failing_write)
    manifest = await task.run()

    assert len(faults) == 4
    assert sorted(one.batch_id for one in heard.batches) == sorted(manifest.batches)


async def test_a_second_attempt_tells_only_what_it_lands(tmp_path):
    """The first attempt's batches were told by it."""
    heard = Heard()
    clock = FakeClock()
    provider = FakeProvider(
        clock, answer=lambda _body, n: failing() if n == 1 else Reply(key="", status="succeeded", output="x")
    )
    task = observed(Job(tmp_path, provider, clock, ["a"], on_partial="fail"), heard)
    with pytest.raises(Exception, match="All batch requests failed"):
        await task.run()
    first = list(heard.batches)
    await task.retry()

    assert len(first) == 1
    assert len(heard.batches) == 2
    assert heard.batches[1].batch_id != first[0].batch_id


async def test_the_batches_of_a_stages_own_client_are_told(tmp_path):
    """As those of the built-in stages."""
    from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, Suspended, SuspendedState

    class Own(AsyncBatchStage):
        id, name = "own", "Own"

        async def execute(self, ctx):
            client = ctx.batch("openai:m")
            if ctx.resume_state is None:
                handle = await client.submit(["a", "b"])
                return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=ctx.now()))
            return [row.output for row in await client.get_results(ctx.resume_state.batch_id)]

        async def check_completion(self, state, ctx):
            status = await ctx.batch("openai:m").get_status(state.batch_id)
            return CompletionCheck.ready() if status.ended else CompletionCheck.not_ready()

    heard, clock = Heard(), FakeClock()
    job = observed(Job(tmp_path, FakeProvider(clock), clock, stage=Own()), heard)
    job.config = {}
    run = job.stage_run()
    run.location = run.location.model_copy(update={"conn_id": "c"})
    suspension = await run.start({}, None)
    assert (await run.until_event(suspension))["status"] == "ready"
    assert (await run.resume(suspension)).output == ["echo: a", "echo: b"]

    assert [dict(one.rows) for one in heard.batches] == [{"succeeded": 2}]
    assert heard.bought_batches[0].model == "m"
