"""The folders of a task instance below the storage root, and the task instance of folders."""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from airflow_batch_provider.models import TaskKey

# Most filesystems take no longer name (ext4, XFS, APFS); bytes.
_LONGEST_NAME = 255
# Stands before the digest of a shortened name; no percent-encoded id holds an equals sign.
_SHORTENED = "="


def task_folders(task: TaskKey) -> tuple[str, ...]:
    """Return the folders, below the storage root, of a task instance: `dag/run/task[/map_index]`.

    No id can break out of them: they are percent-encoded, and never `.` or `..`. A name that would be too long for a
    disk ends with a digest of the whole, which keeps two of them apart.
    """
    names = [task.dag_id, task.run_id, task.task_id, *([str(task.map_index)] if task.map_index >= 0 else [])]
    return tuple(map(folder_name, names))


def task_of_folders(folders: list[str], label: str) -> TaskKey | None:
    """Return the task instance of these folders, None when it is not the one that the label names (`str` of its key)."""
    names = [*map(unquote, folders)]
    if any(map(is_shortened, folders)):
        names = label.split("/")
        if [*map(folder_name, names)] != folders:
            return None
    if "/".join(names) != label or {"", ".", ".."} & {*folders}:
        return None
    dag_id, run_id, task_id, *mapped = names
    if mapped and not mapped[0].isdecimal():
        return None
    return TaskKey(dag_id, run_id, task_id, int(mapped[0]) if mapped else -1)


def is_shortened(folder: str) -> bool:
    """Return whether a folder's name does not tell the whole id."""
    return _SHORTENED in folder


def folder_name(name: str) -> str:
    """Return the name of an id's folder; see `task_folders`."""
    quoted = quote(name, safe="")
    if set(quoted) == {"."}:
        return quoted.replace(".", "%2E")
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return quoted[: _LONGEST_NAME - len(digest) - 1] + _SHORTENED + digest
