"""Small values that are kept as one JSON file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from pydantic import ValidationError

from airflow_batch_provider import __version__
from airflow_batch_provider.exceptions import Unresolved, UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import LAYOUT

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

RecordT = TypeVar("RecordT", bound=FrozenModel)


class _Written(msgspec.Struct):
    layout: int = 0
    package: str = "0.1.0-dev"


def load(directory: Directory, name: str, of: type[RecordT]) -> RecordT | None:
    """Return a record, None when its file is not there.

    Raises:
        UsageError: the record has another file layout than this version of the package reads.
        Unresolved: the file is there and cannot be read; what was bought is then unknown.
    """
    data = directory.read(name)
    if data is None:
        return None
    try:
        return of.model_validate_json(data)
    except ValidationError as error:
        if "layout" in of.model_fields:
            _check_layout(directory.uri(name), data)
        raise Unresolved(
            f"{directory.uri(name)} is damaged ({error.error_count()} problems), so it is unknown what was bought. "
            "Restore the file, or look at the provider's console before deleting the directory to start over."
        ) from error


def save(directory: Directory, name: str, record: FrozenModel) -> None:
    """Put a record in place, whole."""
    directory.write(name, dump(record))


def create(directory: Directory, name: str, record: FrozenModel) -> bool:
    """Put a record in place only if there is none; False when another worker was first."""
    return directory.create(name, dump(record))


def dump(record: FrozenModel) -> bytes:
    """Return a record as the bytes of its file."""
    return record.model_dump_json().encode()


def _check_layout(uri: str, data: bytes) -> None:
    """Refuse a file of another layout; a file that is not even JSON is damaged, which the caller says."""
    try:
        written = msgspec.json.decode(data, type=_Written)
    except msgspec.MsgspecError:
        return
    if written.layout != LAYOUT:
        raise UsageError(
            f"{uri} has file layout {written.layout}, written by airflow-batch-provider {written.package}; this is "
            f"{__version__}, which reads layout {LAYOUT}. Use airflow-batch-provider {written.package} for the tasks that "
            f"began with it, or another storage_path."
        )
