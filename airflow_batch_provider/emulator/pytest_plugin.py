"""The pytest fixtures that ship with the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.emulator.server import EmulatorServer
    from airflow_batch_provider.emulator.settings import Settings


@pytest.fixture
def batch_emulator_settings() -> Settings:
    """Override this to change the emulator of a test; by default a batch is done at the third poll."""
    from airflow_batch_provider.emulator.settings import Progress, Settings  # noqa: PLC0415

    return Settings(progress=Progress(by="polls", pending=1, running=1, finalizing=0, settle=0))


@pytest.fixture
def batch_emulator(batch_emulator_settings: Settings) -> Iterator[EmulatorServer]:
    """Serve the three batch APIs on a free port of this machine, with a clock that stands still until it is advanced."""
    from airflow_batch_provider.emulator.clock import Clock  # noqa: PLC0415
    from airflow_batch_provider.emulator.server import EmulatorServer  # noqa: PLC0415

    with EmulatorServer(batch_emulator_settings, Clock.virtual()) as server:
        yield server
