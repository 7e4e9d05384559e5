"""Small values that are kept as one JSON file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from airflow_batch_provider.exceptions import Unresolved
from airflow_batch_provider.models import FrozenModel

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

RecordT = TypeVar("RecordT", bound=FrozenModel)


def load(directory: Directory, name: str, of: type[RecordT]) -> RecordT | None:
    """A record, None when its file is not there.

    Raises:
        Unresolved: the file is there and cannot be read; what was bought is then unknown.
    """
    data = directory.read(name)
    if data is None:
        return None
    try:
        return of.model_validate_json(data)
    except ValidationError as error:
        raise Unresolved(
            f"{directory.uri(name)} is damaged ({error.error_count()} problems), so it is unknown what was bought. "
            "Restore the file, or look at the provider's console before deleting the directory to start over."
        ) from error


def save(directory: Directory, name: str, record: FrozenModel) -> None:
    """Put a record in place, whole."""
    directory.write(name, record.model_dump_json().encode())
