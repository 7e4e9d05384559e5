"""What several tests of a deployment ask for."""

from __future__ import annotations

import pytest
from world import World


@pytest.fixture
def world(tmp_path, clock, provider):
    provider.polls_until_done = 1000
    return World(tmp_path / "batches", clock, provider)
