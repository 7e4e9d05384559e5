"""Arrow arrays from Python's values.

`pyarrow.array` imports pandas where it is installed, to ask whether a list is a frame (pyarrow 26.0, `_is_array_like`): 45 MB
and 0.3 s that values of known types do not need.
"""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from types import NoneType
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # noqa: TID253 — an extra; only writers and readers of Parquet import this module

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def arrow_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values as an Arrow array; None is null.

    Args:
        kind: string, bool, int64, float32, float64, UTC timestamp in microseconds, and lists and structs of these. A struct
            takes of a dict what it has fields for.

    Raises:
        TypeError: a value is of another type.
        OverflowError: a number has no place in the type.
        ValueError: a text has half a character.
    """
    if values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    if pa.types.is_struct(kind):
        return _structs(_typed(values, dict), kind)
    if pa.types.is_list(kind):
        return _lists(_typed(values, list), kind)
    if pa.types.is_string(kind):
        return _texts(_typed(values, str), kind)
    if pa.types.is_boolean(kind):
        return _array(values, kind, pa.py_buffer(_bits(_filled(_typed(values, bool), False))))
    if pa.types.is_timestamp(kind):
        since = [None if one is None else (one - _EPOCH) // _MICROSECOND for one in _typed(values, datetime)]
        return _array(values, kind, pa.py_buffer(array("q", _filled(since, 0))))
    code, types = _NUMBERS[kind]
    return _array(values, kind, pa.py_buffer(array(code, _filled(_typed(values, *types), 0))))


_NUMBERS: dict[pa.DataType, tuple[str, tuple[type, ...]]] = {
    pa.int64(): ("q", (int,)),
    pa.float64(): ("d", (float, int)),
    pa.float32(): ("f", (float, int)),
}


def _typed(values: Sequence[Any], *types: type) -> Sequence[Any]:
    """Return values of these very types, or None: `True` is not an integer."""
    if other := set(map(type, values)) - {NoneType, *types}:
        raise TypeError(f"{other.pop().__name__} is not a {types[0].__name__}")
    return values


def _filled(values: Sequence[Any], instead: Any) -> Sequence[Any]:
    """Return values with something in the place of nulls."""
    return [instead if value is None else value for value in values] if None in values else values


def _texts(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    encoded = list(map(str.encode, _filled(values, "")))
    return _array(values, kind, _offsets(map(len, encoded)), pa.py_buffer(b"".join(encoded)))


def _lists(values: Sequence[list[Any] | None], kind: pa.DataType) -> pa.Array:
    lists = _filled(values, [])
    items = arrow_array(list(chain.from_iterable(lists)), kind.value_type)
    return _array(values, kind, _offsets(map(len, lists)), children=[items])


def _structs(values: Sequence[dict[str, Any] | None], kind: pa.DataType) -> pa.Array:
    dicts = _filled(values, {})
    fields = [arrow_array([one.get(field.name) for one in dicts], field.type) for field in kind]
    return _array(values, kind, children=fields)


def _array(
    values: Sequence[Any], kind: pa.DataType, *buffers: pa.Buffer, children: list[pa.Array] | None = None
) -> pa.Array:
    """Return an array of these buffers, in Arrow's columnar format; nulls are where values are None."""
    absent = values.count(None)
    valid = pa.py_buffer(_bits([value is not None for value in values])) if absent else None
    return pa.Array.from_buffers(kind, len(values), [valid, *buffers], absent, children=children)


def _offsets(lengths: Iterable[int]) -> pa.Buffer:
    return pa.py_buffer(array("i", accumulate(lengths, initial=0)))


def _bits(flags: Sequence[bool]) -> bytes:
    """Return a bit for each flag, the first one in the lowest place of the first byte."""
    digits = "".join(map("01".__getitem__, reversed(flags)))
    return int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little")
