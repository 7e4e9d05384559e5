"""Arguments of the client, refused before anything is paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.tables.given import given_rows

if TYPE_CHECKING:
    from collections.abc import Iterable


def checked_output_type(given: Any) -> OutputType | None:
    """Return the type that answers must be of, None where none is given."""
    try:
        return None if given is None else OutputType.of(given)
    except ValueError as error:
        raise UsageError(f"{error}.") from None


def check_sizes(batch_size: int | None, retry_rows: int, canary: int, *, is_stored: bool) -> None:
    """Refuse sizes that no submit can have, and a canary whose rest no later submit could buy."""
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size={batch_size!r} leaves no room for a request. Give 1 or more, or None.")
    if retry_rows < 0:
        raise UsageError(f"retry_rows={retry_rows!r} is not a number of repetitions. Give 0 or more.")
    if canary < 0:
        raise UsageError(f"canary={canary!r} is not a number of rows. Give 0, which buys all at once, or more.")
    if canary and not is_stored:
        raise UsageError(
            "canary needs the storage of a task, in which the next submit finds what became of it. Buy through ctx.batch of a "
            "stage, or in a script submit the first rows by themselves."
        )


def listed(requests: Iterable[Any]) -> list[Any]:
    """Return the requests as a list; a single one would be taken apart into its letters or fields, a frame into its names."""
    if isinstance(requests, str | bytes | dict | BatchRequest):
        raise UsageError(f"submit takes a list of requests, not one {type(requests).__name__}. Put it into a list.")
    return list(given_rows(requests))
