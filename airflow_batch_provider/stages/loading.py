"""Stage classes by their path, as a triggerer finds them."""

from __future__ import annotations

from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from pydantic import BaseModel

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
    check_stage(found)
    return found()


def check_stage(stage: type[AsyncBatchStage[Any, Any]]) -> None:
    """Refuse a class that could only fail later, when something may have been paid.

    Raises:
        UsageError: id or name are missing, a schema is not a pydantic model, dependencies are not a tuple of ids, or a
            method is not a coroutine.
    """
    for name in ("id", "name"):
        told = getattr(stage, name, None)
        if not isinstance(told, str) or not told:
            raise UsageError(f"Stage {stage.__qualname__} has {name}={told!r}. Give it a text: {name} = 'my-stage'.")
    for name in ("input_schema", "config_schema", "output_schema"):
        schema = getattr(stage, name)
        if schema is not None and not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            raise UsageError(f"{name} of stage {stage.id!r} is {schema!r}. Give a pydantic model class, or None.")
    needed = stage.dependencies
    if isinstance(needed, str) or not all(isinstance(one, str) for one in needed):
        raise UsageError(f"dependencies of stage {stage.id!r} are {needed!r}. Give a tuple of task ids: ('extract',).")
    for name in ("execute", "check_completion", "cancel", "overdue"):
        if not iscoroutinefunction(getattr(stage, name)):
            raise UsageError(f"{name} of stage {stage.id!r} is not a coroutine. Write async def {name}(self, …).")
