"""Row data on its way through an operator: seen by Airflow's dependency graph, never by Jinja or the rendered fields."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_batch_provider.models import BatchRequest

if TYPE_CHECKING:
    from collections.abc import Mapping


class OpaqueInput:
    """A user's `requests` or `input`, opaque to Airflow's templating and shown to people as one short phrase.

    Args:
        value: rows, or an XComArg of rows, or lists and dicts with XComArgs inside.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._sources = sorted({operator.task_id for operator, _ in XComArg.iter_xcom_references(value)})

    def __str__(self) -> str:
        """Return the phrase for the UI; no row of it."""
        if self._sources:
            return f"output of {', '.join(self._sources)}"
        if isinstance(self._value, str | bytes) or not isinstance(self._value, Sized):
            return f"a {type(self._value).__name__}" if self._value is not None else "nothing"
        return f"{len(self._value)} rows"

    __repr__ = __str__

    @property
    def is_none(self) -> bool:
        """True when nothing was given."""
        return self._value is None

    def connect(self, operator: Any) -> None:
        """Make the tasks whose output is used upstream of the operator."""
        if self._sources:
            XComArg.apply_upstream_relationship(operator, self._value)

    def value(self, context: Mapping[str, Any]) -> Any:
        """The rows, with every XComArg replaced by the output that it stands for."""
        if not self._sources:
            return self._value
        _allow_requests()
        return _resolve(self._value, context)


def _allow_requests() -> None:
    """Let Airflow read `BatchRequest`s of upstream tasks; before 3.3 its allow list has to name the class."""
    from airflow.sdk import serde  # noqa: PLC0415 — when a task runs, not when its DAG is parsed

    if hasattr(serde, "allow_class"):
        serde.allow_class(BatchRequest)


def _resolve(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, XComArg):
        return value.resolve(context)
    if isinstance(value, list | tuple):
        return [_resolve(item, context) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, context) for key, item in value.items()}
    return value


def is_late(value: Any) -> bool:
    """True when a value is only known when the task runs: an XComArg or a template, however deep inside."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, dict):
        return any(is_late(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(is_late(item) for item in value)
    return isinstance(value, XComArg)
