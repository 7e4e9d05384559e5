"""Stage classes by their path, as a triggerer finds them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.base import AsyncBatchStage

IMPORTABLE = (
    "Put the class into an installed package, a folder on PYTHONPATH or Airflow's plugins folder: workers and triggerers "
    "import it, and a triggerer does not see the DAGs folder."
)


def load_stage(path: str) -> AsyncBatchStage[Any, Any]:
    """Return an instance of the stage class `module.Class`; imports its module.

    Raises:
        UsageError: there is no such stage.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UsageError(f"Stage {path!r} cannot be imported here: {error}. {IMPORTABLE}") from error
    if not (isinstance(found, type) and issubclass(found, AsyncBatchStage)):
        raise UsageError(f"{path!r} is not a subclass of AsyncBatchStage.")
    return found()
