"""How often and how long to poll."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages import PollConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": timedelta(0), "max_wait": timedelta(hours=1)},
        {"interval": timedelta(minutes=1), "max_wait": timedelta(0)},
        {"interval": timedelta(hours=2), "max_wait": timedelta(hours=1)},
        {"interval": timedelta(minutes=1), "max_wait": timedelta(days=15)},
    ],
)
def test_a_poll_out_of_range_is_refused(wrong):
    """Polling never, or for ever, helps nobody."""
    with pytest.raises(UsageError):
        PollConfig(**wrong)


def test_an_unknown_preset_names_the_known_ones():
    """`quick`, `medium`, `long`."""
    with pytest.raises(UsageError, match="quick, medium, long"):
        PollConfig.of("slow")
