"""Test stages of your own without Airflow, in milliseconds: days of waiting pass on a virtual clock.

    from datetime import timedelta

    from airflow_batch_provider.client import BatchHandle
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.stages import AsyncBatchStage, CompletionCheck, Suspended, SuspendedState
    from airflow_batch_provider.testing import run_stage

    class Translations(AsyncBatchStage):
        id, name, dependencies = "translations", "Translate", ("texts",)

        async def execute(self, ctx):
            handle = await ctx.batch("openai:gpt-5").submit(ctx.require("texts"))
            return Suspended(state=SuspendedState(batch_id=handle.id, submitted_at=ctx.now()))

        async def check_completion(self, state, ctx):
            status = await ctx.batch("openai:gpt-5").get_status(state.batch_id)
            return CompletionCheck.ready({"batch": state.batch_id}) if status.ended else CompletionCheck.not_ready()

    class FakeBatches:
        polls = 0

        async def submit(self, requests):
            return BatchHandle(id="b-1", status="pending", provider="openai", batch_ids=("b-1",))

        async def get_status(self, batch_id):
            self.polls += 1
            return BatchStatus(batch_id=batch_id, status="completed" if self.polls == 3 else "processing")

    def test_a_translation_is_polled_until_it_is_done():
        result = run_stage(Translations, outputs={"texts": ["Guten Tag"]}, client=FakeBatches())

        assert result.output == {"batch": "b-1"}
        assert result.waited == timedelta(minutes=15)

The stage lives as in Airflow: each run has a fresh instance of its class; configuration, state, events and outputs pass
through JSON; the deadline counts. Public are the names in `__all__`.
"""

from __future__ import annotations

from airflow_batch_provider.testing.run import run_stage
from airflow_batch_provider.testing.task import SimulatedTask, StageResult
from airflow_batch_provider.testing.time import VirtualClock

__all__ = ["SimulatedTask", "StageResult", "VirtualClock", "run_stage"]
