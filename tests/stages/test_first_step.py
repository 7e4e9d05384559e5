"""A coroutine whose first step is taken at once behaves as it would if it were awaited."""

from __future__ import annotations

import asyncio

import pytest

from airflow_batch_provider.stages.first_step import FirstStep


async def test_one_that_waits_for_nothing_is_over_at_once():
    """Without a turn of the event loop."""

    async def answer():
        return 3

    step = FirstStep(answer())
    assert step.is_over
    assert await step == 3


async def test_one_that_waits_goes_on_when_it_is_awaited():
    """Through any number of waits, of any kind."""

    async def answer():
        await asyncio.sleep(0)
        return await asyncio.gather(asyncio.to_thread(int, "3"), asyncio.sleep(0, 4))

    step = FirstStep(answer())
    assert not step.is_over
    assert await step == [3, 4]


async def test_errors_come_through():
    """At once, or later."""

    async def wrong(*, waits):
        if waits:
            await asyncio.sleep(0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        FirstStep(wrong(waits=False))
    with pytest.raises(ValueError, match="wrong"):
        await FirstStep(wrong(waits=True))


async def test_it_sees_its_cancellation_and_its_limits_of_time():
    """The stage's own, and those of whoever waits for it."""
    seen = []

    async def patient():
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("its own limit")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    step = FirstStep(patient())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await step
    assert seen == ["its own limit", "cancelled"]
