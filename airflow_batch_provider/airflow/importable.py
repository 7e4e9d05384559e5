"""Whether the triggerer will be able to import a stage class, asked while the DAG is parsed."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.loading import IMPORTABLE, load_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_batch_provider.stages import AsyncBatchStage

# Airflow gives DAG files module names that start so, which exist in the process that parses them only.
_DAG_FILE = "unusual_prefix_"


def stage_path(stage: type[AsyncBatchStage[Any, Any]] | str) -> str:
    """Return `module.Class` of a stage that workers and triggerers can import.

    Raises:
        UsageError: it is not a stage, or they cannot; says why.
    """
    path = stage if isinstance(stage, str) else _path_of(stage)
    found = type(load_stage(path))
    if not isinstance(stage, str) and found is not stage:
        raise UsageError(f"{path!r} is another class than the stage that was given. {IMPORTABLE}")
    _refuse_dags_folder(path, found.__module__)
    return path


def _path_of(stage: Any) -> str:
    if not isinstance(stage, type):
        raise UsageError(f"stage={stage!r} is not a class. Give the stage class itself, or its path 'module.Class'.")
    path = f"{stage.__module__}.{stage.__qualname__}"
    if "<locals>" in path or "." in stage.__qualname__:
        raise UsageError(f"Stage {path!r} is defined inside a function or class. {IMPORTABLE}")
    if stage.__module__ == "__main__" or stage.__module__.startswith(_DAG_FILE):
        raise UsageError(f"Stage {stage.__qualname__!r} is defined in a DAG file or script. {IMPORTABLE}")
    return path


def _refuse_dags_folder(path: str, module: str) -> None:
    """Modules beside the DAG files are importable for the parser and the worker, but not for the triggerer."""
    file = getattr(import_module(module), "__file__", None)
    if file is None:
        return
    root = Path(file).resolve().parents[len(module.split(".")) - (0 if Path(file).name == "__init__.py" else 1)]
    if root in _everywhere():
        return
    for folder in _dag_folders():
        if root == folder or folder in root.parents:
            raise UsageError(f"Stage {path!r} lies in the DAGs folder {str(folder)!r}. {IMPORTABLE}")


def _everywhere() -> set[Path]:
    """Folders that every Airflow process has on its path."""
    folders = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), conf.get("core", "plugins_folder", fallback="")]
    return {Path(folder).resolve() for folder in folders if folder}


def _dag_folders() -> Iterator[Path]:
    yield Path(conf.get("core", "dags_folder")).resolve()
    if storage := conf.get("dag_processor", "dag_bundle_storage_path", fallback=""):
        yield Path(storage).resolve()
    for bundle in json.loads(conf.get("dag_processor", "dag_bundle_config_list", fallback="[]") or "[]"):
        if path := bundle.get("kwargs", {}).get("path"):
            yield Path(path).resolve()
