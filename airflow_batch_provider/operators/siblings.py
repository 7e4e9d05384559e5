"""Mapped tasks that would write the same result file, and so replace each other's rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.config import names_file

if TYPE_CHECKING:
    from airflow.sdk import Context

# In a template: differs among the instances of a mapped task.
_TELLS_TASK = re.compile(r"\bmap_index\b|\btask\.")


def check_own_file(
    task: Any, given: str | None, rendered: str | None, context: Context, *, is_folder: bool = False
) -> None:
    """Refuse one of several instances of a mapped task that write the same result file, or folder of part files.

    Args:
        task: the task as the DAG has it, mapped or not.
        given: its `result_path` before it was rendered.
        rendered: and after.
        is_folder: True when the path is a folder that gets part files.

    Raises:
        UsageError: another instance has this file as well.
    """
    ti: Any = context["ti"]
    is_mapped = isinstance(task, MappedOperator) and ti.map_index is not None and ti.map_index >= 0
    if not is_mapped or given is None or _TELLS_TASK.search(given) or not (is_folder or names_file(str(rendered))):
        return
    if "result_path" in task.partial_kwargs or _instances(task, given, context) > 1:
        raise UsageError(
            f"Several instances of the mapped task {task.task_id!r} have one result {'folder' if is_folder else 'file'}, "
            f"{rendered!r}: each would replace the rows of the others. Add {{{{ ti.map_index }}}} to result_path"
            f"{'.' if is_folder else ', or give a folder.'}"
        )


def _instances(task: MappedOperator, path: str, context: Context) -> int:
    """Return how many instances `expand` or `expand_kwargs` gives this path."""
    value: Any = task._get_specified_expand_input().value  # noqa: SLF001 — Airflow has no public way to the siblings
    if not isinstance(value, Mapping):  # expand_kwargs
        return sum(_resolved(one, context).get("result_path") == path for one in _resolved(value, context))
    others = [_resolved(given, context) for name, given in value.items() if name != "result_path"]
    times = max((len(other) for other in others if isinstance(other, Sized)), default=1)
    paths: list[Any] = list(_resolved(value.get("result_path", ()), context))
    return paths.count(path) * times


def _resolved(value: Any, context: Context) -> Any:
    """Return what a value stands for; a sequence that Airflow reads lazily is read at once."""
    found = value.resolve(context) if isinstance(value, XComArg) else value
    return found[:] if isinstance(found, Sequence) and not isinstance(found, list | tuple | str) else found
