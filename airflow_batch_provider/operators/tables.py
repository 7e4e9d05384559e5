"""A function that gives the source of an operator when its task runs, seen by people as one short phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SourceFunction:
    """A user's function as `source`; Airflow neither calls nor renders it.

    Args:
        function: called on the worker, once for each try, with those of the task's context that it names.
        name: of the function in messages; its own by default.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        self._function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def __str__(self) -> str:
        """Return the phrase for the UI."""
        return f"what {self.name}() returns"

    __repr__ = __str__

    def value(self, context: Mapping[str, Any]) -> Any:
        """Call the function."""
        try:
            from airflow.sdk.bases.decorator import determine_kwargs  # noqa: PLC0415 — where Airflow has it since 3.2
        except ImportError:
            from airflow.utils.operator_helpers import (  # type: ignore[attr-defined]  # noqa: PLC0415
                determine_kwargs,
            )
        return self._function(**determine_kwargs(self._function, (), context))
