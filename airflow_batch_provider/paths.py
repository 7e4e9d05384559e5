"""Addresses, opened as Airflow opens them and never inside an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from upath.extensions import ProxyUPath

# The extra that brings the filesystem of a scheme.
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "azure"),
}


def open_path(uri: str) -> ProxyUPath:
    """Return a path as Airflow opens it (`s3://conn_id@bucket/key` uses that connection), with its filesystem made.

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
        return open_path_here(uri)
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        return pool.submit(copy_context().run, open_path_here, uri).result()


def open_path_here(uri: str) -> ProxyUPath:
    """Do as `open_path`, in the calling thread, whatever runs there.

    Raises:
        UsageError: as `open_path`.
    """
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 — seconds of import that a DAG file must not pay

    try:
        path: ProxyUPath = ObjectStoragePath(uri)
        if path.protocol in ("", "file"):
            _attach_disks()
        path.fs  # noqa: B018 — makes it
    except (ImportError, ValueError) as error:
        raise UsageError(f"{uri!r} cannot be opened: {error}. {_remedy(uri)}") from error
    return path


def _attach_disks() -> None:
    """Attach the filesystem that Airflow would find for disks.

    It would import those of all installed providers to find it: 0.1 to 0.3 CPU seconds for amazon's (measured, 2026-11).
    """
    from airflow.sdk.io import attach  # noqa: PLC0415 — as above
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 — as above

    attach("file", fs=LocalFileSystem())


def _remedy(uri: str) -> str:
    extra = _EXTRAS.get(uri.partition("://")[0])
    if extra is None:
        return "Check its scheme: file, s3, gs and abfs are known, others need a provider that registers them."
    return f"Install its filesystem with: pip install 'airflow-batch-provider[{extra}]'."
