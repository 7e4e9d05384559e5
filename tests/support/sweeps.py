"""Sweeps over every moment of a job: sampled by habit, whole with `--whole` (`make test-all`, CI)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE = 12
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
