"""Our errors as Airflow's: another try cannot help, or may."""

from __future__ import annotations

import pytest

from airflow_batch_provider.airflow.exceptions import AirflowException, AirflowFailException, as_airflow_errors
from airflow_batch_provider.exceptions import (
    DiskFull,
    NotFound,
    Overdue,
    Overtaken,
    Paused,
    Rejected,
    Unavailable,
    Unresolved,
    UsageError,
)


@pytest.mark.parametrize("error", [UsageError, Rejected, Paused, Unresolved, Overtaken])
def test_an_error_that_stays_fails_the_task_at_once(error):
    """A zombie's retry would only disturb its successor."""
    with pytest.raises(AirflowFailException, match="why"), as_airflow_errors():
        raise error("why")


@pytest.mark.parametrize("error", [Unavailable, NotFound, Overdue, DiskFull])
def test_an_error_that_may_pass_is_tried_again(error):
    """As often as the task has retries."""
    with pytest.raises(AirflowException, match="why") as caught, as_airflow_errors():
        raise error("why")
    assert not isinstance(caught.value, AirflowFailException)


def test_an_error_of_many_lines_ends_as_one():
    """The UI scrolls to the last line, which must say what happened."""
    with pytest.raises(AirflowException) as caught, as_airflow_errors():
        raise Unavailable("the provider\n  wrote\r\n\nmuch")
    assert str(caught.value) == "the provider wrote much"
