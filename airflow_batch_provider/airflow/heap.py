"""A worker's memory: what lay in it before its task began, and how much Arrow takes of it."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """Let the collector look only at what is made within the block.

    Airflow and the DAG file are some hundred thousand objects that stay as they are. The first import of an SDK or of the
    prices makes Python look through all of them, which takes longer than all else that a small task does (0.2 of 0.4 CPU
    seconds, measured 2026-11). What somebody else has set aside, such as an executor before it forks, stays so.
    """
    stays = is_kept_by_others()
    gc.freeze()
    try:
        yield
    finally:
        if not stays:
            gc.unfreeze()


@cache
def is_kept_by_others() -> bool:
    """Tell whether somebody had set objects aside before us; asked once in a process, for Python counts them all (25 ms)."""
    return gc.get_freeze_count() > 0


@contextmanager
def arrow_takes_little() -> Iterator[None]:
    """Let Arrow take its memory from the C library, if it is imported within the block and the deployment chose nothing.

    pyarrow's own choice (mimalloc, 26.0) keeps 6 MB where we have 1 MB of it at once, measured 2026-11. Arrow asks the
    environment, once, while it is loaded (https://arrow.apache.org/docs/cpp/env_vars.html). After the block the choice is out
    of the environment, for whatever the worker starts later.
    """
    if _ARROW_POOL in os.environ:
        yield
        return
    os.environ[_ARROW_POOL] = "system"
    try:
        yield
    finally:
        os.environ.pop(_ARROW_POOL, None)
