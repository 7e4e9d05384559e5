"""Airflow's exceptions, and ours as Airflow's."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import (
    BatchError,
    Denied,
    Overtaken,
    Paused,
    Rejected,
    RowsFailed,
    StageFailed,
    Unresolved,
    UsageError,
)

# The SDK keeps them since Airflow 3.2, the core did in 3.1.
try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )
except ImportError:
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined]  # checked against the newest Airflow
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "as_airflow_errors",
]

log = logging.getLogger(__name__)

_FINAL = (UsageError, Rejected, Paused, Overtaken, Unresolved, StageFailed)


@contextmanager
def as_airflow_errors() -> Iterator[None]:
    """Raise `AirflowFailException` for what cannot get better, `AirflowException` for what may; the message stays.

    Airflow prints the traceback of the exception, and the UI scrolls to its end. Our messages say everything,
    so Airflow's exception is raised without the chain behind it, and its message is the last line of the log.
    """
    try:
        yield
    except BatchError as error:
        log.debug("Reported to Airflow as one line", exc_info=True)
        raise as_airflow_error(error) from None


def as_airflow_error(error: BatchError) -> AirflowException:
    """Return Airflow's exception for one of ours, by what Airflow asks of it: is another try of any use?

    Its message is one line, however many the provider wrote.
    """
    # A key may be corrected between two tries, and each try reads its connection again.
    final = isinstance(error, _FINAL) and not isinstance(error, Denied)
    final = final or (isinstance(error, RowsFailed) and not error.retryable)
    return (AirflowFailException if final else AirflowException)(" ".join(str(error).split()))
