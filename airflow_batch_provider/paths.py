"""Where things are: addresses opened as Airflow opens them, and the folders of a task instance."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import TaskKey

if TYPE_CHECKING:
    from upath.extensions import ProxyUPath

# The extra that brings the filesystem of a scheme.
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}
# Most filesystems take no longer name (ext4, XFS, APFS); bytes.
_LONGEST_NAME = 255
# Stands before the digest of a shortened name; no percent-encoded id holds an equals sign.
_SHORTENED = "="


def open_path(uri: str) -> ProxyUPath:
    """A path as Airflow opens it (`s3://conn_id@bucket/key` uses that connection), with its filesystem made.

    Filesystems may run a loop of their own while they are made (amazon provider 9.39, `fs/s3.py`: `asyncio.run`), so
    where a loop runs already they are made in a thread. Airflow keeps each for later paths of its scheme and connection.

    Raises:
        UsageError: there is no such filesystem here; names the extra to install.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = False
    else:
        loop = True
    if not loop:
        return _opened(uri)
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        return pool.submit(copy_context().run, _opened, uri).result()


def _opened(uri: str) -> ProxyUPath:
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 — seconds of import that a DAG file must not pay

    try:
        path: ProxyUPath = ObjectStoragePath(uri)
        path.fs  # noqa: B018 — makes it
    except (ImportError, ValueError) as error:
        raise UsageError(f"{uri!r} cannot be opened: {error}. {_remedy(uri)}") from error
    return path


def _remedy(uri: str) -> str:
    extra = _EXTRAS.get(uri.partition("://")[0])
    if extra is None:
        return "Check its scheme: file, s3, gs and abfs are known, others need a provider that registers them."
    return f"Install its filesystem with: pip install 'airflow-batch-provider[{extra}]'."


def task_folders(task: TaskKey) -> tuple[str, ...]:
    """The folders, below the storage root, of a task instance: `dag/run/task[/map_index]`.

    No id can break out of them: they are percent-encoded, and never `.` or `..`. A name that would be too long for a
    disk ends with a digest of the whole, which keeps two of them apart.
    """
    names = [task.dag_id, task.run_id, task.task_id, *([str(task.map_index)] if task.map_index >= 0 else [])]
    return tuple(map(_folder, names))


def task_of_folders(folders: list[str], label: str) -> TaskKey | None:
    """The task instance of these folders, None when it is not the one that the label names (`str` of its key)."""
    names = [*map(unquote, folders)]
    if any(map(is_shortened, folders)):
        names = label.split("/")
        if [*map(_folder, names)] != folders:
            return None
    if "/".join(names) != label or {"", ".", ".."} & {*folders}:
        return None
    dag_id, run_id, task_id, *mapped = names
    if mapped and not mapped[0].isdecimal():
        return None
    return TaskKey(dag_id, run_id, task_id, int(mapped[0]) if mapped else -1)


def is_shortened(folder: str) -> bool:
    """True when a folder's name does not tell the whole id."""
    return _SHORTENED in folder


def _folder(name: str) -> str:
    quoted = quote(name, safe="")
    if set(quoted) == {"."}:
        return quoted.replace(".", "%2E")
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return quoted[: _LONGEST_NAME - len(digest) - 1] + _SHORTENED + digest
