"""Everything that one Airflow keeps below one storage root: the stage storages of its tasks, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.layout import REGISTRY, SUBMISSIONS, WAVES
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.registry import Entry, Registry

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

TaskState = Literal["waiting", "over", "gone", "unknown"]
"""The state of a task instance by Airflow: it will take care of its batches, it ended, there is none (any more), or Airflow
does not say."""

AskAirflow = Callable[[TaskKey], TaskState]


@dataclass(frozen=True)
class Deployment:
    """One storage root.

    Attributes:
        storage: the directory that `storage_path` names.
    """

    storage: Directory

    @cached_property
    def registry(self) -> Registry:
        """Return the registry of its open batches."""
        return Registry(self.storage.sub(REGISTRY))

    def files(self, entry: Entry) -> BatchFiles:
        """Return the files of a registered batch.

        Raises:
            UsageError: the entry names no place below this root.
        """
        *_, folder, number, name = ["", "", "", *entry.claim.split("/")]
        files = BatchFiles.at(self.root(entry).sub(f"{folder}/{number}"), name)
        if folder not in (WAVES, SUBMISSIONS) or files is None:
            raise UsageError(
                f"The registry says that batch {entry.tag!r} is claimed in {entry.claim!r}, which is not a claim."
            )
        return files

    def root(self, entry: Entry) -> Directory:
        """Return the stage storage of the task that claimed a batch.

        Raises:
            UsageError: the entry names no place below this root.
        """
        return self.storage.sub("/".join(segments(entry)))


def segments(entry: Entry) -> list[str]:
    """Return the folders, below the storage root, of the task that claimed a batch: percent-encoded ids.

    Raises:
        UsageError: the claim's address and the label do not name the same task.
    """
    above = entry.claim.split("/")[:-3]
    for count in (3, 4):
        found = above[-count:]
        if "/".join(map(unquote, found)) == entry.label and not {"", ".", ".."} & {*found}:
            return found
    raise UsageError(f"The registry says that batch {entry.tag!r} of {entry.label!r} is claimed in {entry.claim!r}.")


def task_of(entry: Entry) -> TaskKey:
    """Return the task instance that claimed a batch.

    Raises:
        UsageError: as `segments`.
    """
    return task_in(segments(entry))


def task_in(folders: list[str]) -> TaskKey:
    """Return the task instance whose stage storage these folders are."""
    dag_id, run_id, task_id, *mapped = map(unquote, folders)
    return TaskKey(dag_id, run_id, task_id, int(mapped[0]) if mapped else -1)
