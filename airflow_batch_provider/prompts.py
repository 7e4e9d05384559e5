"""Prompts from the columns of a row."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import LONGEST_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

_TWICE = 'Write braces that are not a column twice: {{"label": 1}} asks for {"label": 1}.'


class PromptTemplate:
    """Text with `{column}` places; `{{` and `}}` are braces. Only plain column names: a template is not code.

    Raises:
        UsageError: the template has other places than plain names, or none at all.
    """

    def __init__(self, template: str) -> None:
        try:
            pieces = [(text, name) for text, name, spec, conv in Formatter().parse(template) if not (spec or conv)]
            whole = len(pieces) == len(list(Formatter().parse(template)))
        except ValueError as error:
            raise UsageError(f"prompt={template!r} is not a template: {error}. {_TWICE}") from None
        self.columns = [name for _, name in pieces if name is not None]
        self._filler = "".join(text.replace("%", "%%") + ("" if name is None else "%s") for text, name in pieces)
        if not whole or any(not name or not set(name).isdisjoint(".[]!{\"'\n") for name in self.columns):
            raise UsageError(f"prompt={template!r} may only hold plain column names such as {{text}}. {_TWICE}")
        if not self.columns:
            raise UsageError(f"prompt={template!r} names no column, so every row would ask the same. Add {{column}}.")

    def fill(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """The prompt of each row.

        Raises:
            KeyError: a row lacks a column.
            ValueError, RecursionError: a cell cannot be a text.
        """
        return [self._filler % cells for cells in zip(*(texts(rows, name) for name in self.columns), strict=True)]


def texts(rows: Sequence[dict[str, Any]], column: str) -> list[str]:
    """Return the cells of a column as they stand in prompts and keys.

    Raises:
        KeyError: a row lacks it.
        ValueError, RecursionError: a cell cannot be a text.
    """
    return [cell if type(cell := row[column]) is str else as_text(cell) for row in rows]


def as_text(value: Any) -> str:
    """Return a cell as it stands in a prompt or key: lists and dicts as JSON, bytes as the text that they are.

    Parquet files of some writers hold texts as plain bytes (Spark's `spark.sql.parquet.binaryAsString`, 2026-11).

    Raises:
        ValueError, RecursionError: it cannot be a text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    return msgspec.json.encode(value, enc_hook=str).decode() if isinstance(value, dict | list) else str(value)


def usable_key(value: Any) -> str | None:
    """Return the key of a row that has this cell under it, None where it gives none."""
    try:
        text = as_text(value)
    except (RecursionError, ValueError):
        return None
    return text if 0 < len(text) <= LONGEST_ID else None
