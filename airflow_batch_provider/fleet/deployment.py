"""Everything that one Airflow keeps below one storage root: the stage storages of its tasks, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote

from airflow_batch_provider.budgets import NO_LIMITS, BudgetLimits
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.folders import task_of_folders
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
        budgets: what it may spend.
    """

    storage: Directory
    budgets: BudgetLimits = NO_LIMITS

    @cached_property
    def registry(self) -> Registry:
        """Return the registry of its open batches."""
        return Registry(self.storage.sub(REGISTRY), self.budgets)

    def files(self, entry: Entry) -> BatchFiles:
        """Return the files of a registered batch.

        Raises:
            UsageError: the entry names no place below this root.
        """
        *folders, name = entry.claim.split("/")[-3:]
        files = BatchFiles.at(self.ledger(entry).sub("/".join(folders)), name)
        if folders[:1] != [WAVES] or files is None:
            raise _points_elsewhere(entry)
        return files

    def ledger(self, entry: Entry) -> Directory:
        """Return the directory of the ledger that claimed a batch: stage storage, or one submission of a client in it.

        Raises:
            UsageError: the entry names no place below this root.
        """
        place = _place(entry)
        return self.storage.sub("/".join([*place.folders, *place.submission]))


@dataclass(frozen=True)
class _Place:
    """Where a claim is kept.

    Attributes:
        folders: of the task's stage storage, below the storage root.
        submission: folders of a client's submission below those; empty for the task's own ledger.
    """

    task: TaskKey
    folders: tuple[str, ...]
    submission: tuple[str, ...] = ()


class Claimed(Protocol):
    """What tells whose a batch is: an entry of the registry, or a record of what it cost."""

    @property
    def tag(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def claim(self) -> str: ...


def segments(entry: Entry) -> list[str]:
    """Return the folders, below the storage root, of the task that claimed a batch: percent-encoded ids.

    Raises:
        UsageError: the claim's address and the label do not name the same task.
    """
    return [*_place(entry).folders]


def task_of(entry: Claimed) -> TaskKey:
    """Return the task instance that claimed a batch.

    Raises:
        UsageError: as `segments`.
    """
    return _place(entry).task


def _place(entry: Claimed) -> _Place:
    above = entry.claim.split("/")[:-3]
    if found := _task_place(entry, above):
        return found
    found, submission = _task_place(entry, above[:-2]), above[-2:]
    if found is None or submission[:1] != [SUBMISSIONS] or {"", ".", ".."} & {*submission}:
        raise _points_elsewhere(entry)
    return replace(found, submission=tuple(submission))


def _points_elsewhere(entry: Claimed) -> UsageError:
    return UsageError(
        f"The registry says that batch {entry.tag!r} of {entry.label!r} is claimed in {entry.claim!r}, which is not the "
        f"file of a claim. Delete the entry {entry.tag!r} below {REGISTRY}; look for the batch by its tag in the "
        "provider's console."
    )


def _task_place(entry: Claimed, folders: list[str]) -> _Place | None:
    """Return the place that the last folders spell, None when they do not spell the entry's label."""
    for count in (3, 4):
        found = folders[-count:]
        task = task_of_folders(found, entry.label) if len(found) == count else None
        if task is not None:
            return _Place(task, tuple(found))
    return None


def task_in(folders: list[str]) -> TaskKey:
    """Return the task instance whose stage storage these folders are."""
    dag_id, run_id, task_id, *mapped = map(unquote, folders)
    return TaskKey(dag_id, run_id, task_id, int(mapped[0]) if mapped else -1)
