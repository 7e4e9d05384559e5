"""Sweeps over every moment of a job: sampled by habit, whole with `--whole` (`make rest` and `make test-all`, CI)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from fakes import Bomb, Killed

from airflow_batch_provider.exceptions import RowsFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

SAMPLE = 8
"""Moments of one sweep that a sample keeps, about."""


@dataclass(frozen=True)
class Sweep:
    """Which of the moments of a job a test tries.

    Attributes:
        whole: try every one.
        shift: of the sample, another one each day, so that a week of samples sees more than one run.
    """

    whole: bool
    shift: int = 0

    def of(self, moments: Sequence, sample: int = SAMPLE) -> Sequence:
        """Return every moment, or every n-th so that about `sample` are left; the first and last are always there."""
        step = 1 if self.whole else max(1, len(moments) // sample)
        inner = moments[1 + self.shift % step : -1 : step]
        return moments if step == 1 else [moments[0], *inner, moments[-1]]


async def until_done(task, *, fails: bool):
    """Attempts until one succeeds; where it `fails`, some may end because too few rows have a good answer."""
    for _ in range(3):
        try:
            return await task.retry()
        except RowsFailed:
            assert fails
    raise AssertionError("never done")


async def killed_jobs(
    sweep: Sweep, make: Callable, drive: Callable[..., Awaitable], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple]:
    """Yield a job that was killed, and its bomb, for each dangerous moment of the sweep.

    Args:
        make: folder, bomb and monkeypatch → a new job, every dangerous moment of which ticks the bomb.
        drive: takes a job to its end.
    """
    with monkeypatch.context() as patch:
        counting = Bomb()
        await drive(make(folder / "count", counting, patch))
    for at in sweep.of(range(counting.moment)):
        with monkeypatch.context() as patch:
            bomb = Bomb(at)
            job = make(folder / str(at), bomb, patch)
            with pytest.raises(Killed):
                await drive(job)
            yield job, bomb
