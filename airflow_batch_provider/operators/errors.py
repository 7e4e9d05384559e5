"""Our errors as Airflow's, by the one thing that Airflow asks of them: is another try of any use?"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import (
    BatchError,
    Overtaken,
    Paused,
    Rejected,
    RowsFailed,
    Unresolved,
    UsageError,
)
from airflow_batch_provider.hooks.airflow_errors import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOR_GOOD = (UsageError, Rejected, Paused, Overtaken, Unresolved)


@contextmanager
def as_airflow_errors() -> Iterator[None]:
    """Raise `AirflowFailException` for what cannot get better, `AirflowException` for what may; the message stays."""
    try:
        yield
    except BatchError as error:
        for_good = isinstance(error, _FOR_GOOD) or (isinstance(error, RowsFailed) and not error.retryable)
        raise (AirflowFailException if for_good else AirflowException)(str(error)) from error
