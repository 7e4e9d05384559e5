"""Everything that one Airflow keeps below one storage root: the stage storages of its tasks, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.folders import task_of_folders
from airflow_batch_provider.ledger.claim_log import ClaimLog
from airflow_batch_provider.ledger.records import ROWS, Claim, Receipt
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.records import load
from airflow_batch_provider.registry import Entry, Registry

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

# Beside the DAGs' folders; no DAG id may hold an equals sign.
REGISTRY = "=registry"

_CLAIM, _RECEIPT = ".claim.json", ".receipt.json"
_FOLDERS = ("waves", "submissions")


TaskState = Literal["waiting", "over", "gone", "unknown"]
"""What Airflow thinks of a task instance: it will look at its batches again, it ended, there is none (any more), or
Airflow does not say."""

AskAirflow = Callable[[TaskKey], TaskState]


@dataclass(frozen=True)
class Slot:
    """The files of one batch in its task's stage storage; those of another tag there are not its own.

    Attributes:
        tag: of the batch.
        root: stage storage of the task.
        name: what the names of the batch's files begin with.
    """

    tag: str
    root: Directory
    directory: Directory
    name: str

    @property
    def receipt_name(self) -> str:
        """File of the receipt."""
        return self.name + _RECEIPT

    @cached_property
    def claim(self) -> Claim | None:
        """The claim, None when it was withdrawn or replaced."""
        claim = ClaimLog(self.directory, self.name).last()
        return claim if claim and claim.tag == self.tag else None

    @cached_property
    def receipt(self) -> Receipt | None:
        """The receipt, None when nobody wrote one."""
        receipt = load(self.directory, self.receipt_name, Receipt)
        return receipt if receipt and receipt.tag == self.tag else None

    @cached_property
    def landed(self) -> bool:
        """True when the rows are here."""
        rows = (name for name in self.directory.names() if name.startswith(self.name) and name.endswith(ROWS))
        return self.claim is not None and any(rows)

    def withdraw(self) -> None:
        """Say that the batch was never bought."""
        if self.claim is not None:
            ClaimLog(self.directory, self.name).withdraw(self.claim)

    def keep(self, receipt: Receipt) -> bool:
        """Write the receipt; False when there is one already."""
        return self.directory.create(self.receipt_name, receipt.model_dump_json().encode())


@dataclass(frozen=True)
class Deployment:
    """One storage root.

    Attributes:
        storage: what `storage_path` names.
    """

    storage: Directory

    @cached_property
    def registry(self) -> Registry:
        """What its tasks have at the providers."""
        return Registry(self.storage.sub(REGISTRY))

    def slot(self, entry: Entry) -> Slot:
        """Where the files of a registered batch are.

        Raises:
            UsageError: the entry names no place below this root.
        """
        *_, folder, number, file = ["", "", "", *entry.claim.split("/")]
        if folder not in _FOLDERS or not file.endswith(_CLAIM):
            raise UsageError(
                f"The registry says that batch {entry.tag!r} is claimed in {entry.claim!r}, which is no claim."
            )
        root = self.storage.sub("/".join(segments(entry)))
        return Slot(entry.tag, root, root.sub(f"{folder}/{number}"), file.removesuffix(_CLAIM))


def segments(entry: Entry) -> list[str]:
    """The folders, below the storage root, of the task that claimed a batch: percent-encoded ids.

    Raises:
        UsageError: the claim's address and the label do not name the same task.
    """
    return _place(entry)[0]


def task_of(entry: Entry) -> TaskKey:
    """The task instance that claimed a batch.

    Raises:
        UsageError: as `segments`.
    """
    return _place(entry)[1]


def _place(entry: Entry) -> tuple[list[str], TaskKey]:
    above = entry.claim.split("/")[:-3]
    for count in (3, 4):
        found = above[-count:]
        task = task_of_folders(found, entry.label) if len(found) == count else None
        if task is not None:
            return found, task
    raise UsageError(f"The registry says that batch {entry.tag!r} of {entry.label!r} is claimed in {entry.claim!r}.")


def task_in(folders: list[str]) -> TaskKey:
    """The task instance whose stage storage these folders are."""
    dag_id, run_id, task_id, *mapped = map(unquote, folders)
    return TaskKey(dag_id, run_id, task_id, int(mapped[0]) if mapped else -1)
