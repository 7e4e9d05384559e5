"""Requests that are given as a list or a table, for operators and clients alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def given_rows(value: Any) -> Iterable[Any]:
    """Return rows that are given as they are: a list or an iterator of requests, a frame, an Arrow table, a numpy array.

    Raises:
        UsageError: they are one thing, or have no order.
    """
    rows: Iterable[Any] = _records(value)
    if isinstance(rows, set | frozenset):
        raise UsageError("requests is a set, which has no order, so that a retry would ask other requests. Sort it.")
    if isinstance(rows, str | bytes | dict) or not hasattr(rows, "__iter__"):
        raise UsageError(f"requests is {type(rows).__name__}, not a list. Give a list of str, dict or BatchRequest.")
    return rows


def _records(rows: Any) -> Any:
    """Return the rows of a list, a numpy array, a pandas or polars frame (which iterate over their columns), or an Arrow table."""
    if hasattr(rows, "dtype") and hasattr(rows, "tolist"):
        records = rows.tolist()
    elif hasattr(rows, "to_pylist"):
        records = rows.to_pylist()
    elif hasattr(rows, "to_dicts"):
        records = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        frame = with_index(rows)
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    else:
        records = rows
    return records


def with_index(frame: Any) -> Any:
    """Return a frame of pandas with each level of its index that has a name as a column; anything else as it is.

    A level without a name is left out, and so is one whose name a column has. Its own conversion keeps either index or
    drops it, as its values happen to be (pandas 3.1, 2026-11).
    """
    names = getattr(getattr(frame, "index", None), "names", None)
    if not names or not hasattr(frame, "reset_index") or not hasattr(frame, "columns"):
        return frame
    others = [place for place, name in enumerate(names) if name is None or name in frame.columns]
    if len(others) == len(names):
        return frame.reset_index(drop=True)
    return frame.set_axis(frame.index.droplevel(others)).reset_index()
