"""Arrow arrays from Python's values.

`pyarrow.array` imports pandas where it is installed, to ask whether a list is a frame (pyarrow 26.0, `_is_array_like`): 45 MB
and 0.3 s that values of known types do not need.
"""

from __future__ import annotations

from array import array
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa  # noqa: TID253 — an extra; only writers and readers of Parquet import this module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_INT64 = pa.int64()
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
    types = set(map(type, values))
    if types <= {NoneType}:
        return pa.nulls(len(values), kind)
    form, absent, valid = _FORMS[kind.id], 0, None
    if other := types.difference(form.types, (NoneType,)):
        raise TypeError(f"{other.pop().__name__} is not a {form.types[0].__name__}")
    if NoneType in types:
        absent, valid = values.count(None), pa.py_buffer(_bits([value is not None for value in values]))
        values = [form.instead if value is None else value for value in values]
    buffers, children = form.parts(values, kind)
    return pa.Array.from_buffers(kind, len(values), [valid, *buffers], absent, children=children)


def whole_numbers(values: Sequence[int]) -> pa.Array:
    """Return integers, none of them null, as an int64 array: `arrow_array` without its check of each.

    Raises:
        OverflowError: a number does not fit into one.
    """
    return pa.Array.from_buffers(_INT64, len(values), [None, pa.py_buffer(array("q", values))])


_Parts = tuple[list[pa.Buffer], list[pa.Array]]


class _Form(NamedTuple):
    """How values of one kind are laid out, in Arrow's columnar format.

    Attributes:
        types: of the values, these very ones: `True` is not an integer.
        instead: stands in the place of a null.
        parts: the buffers and the children of values without nulls.
    """

    types: tuple[type, ...]
    instead: Any
    parts: Callable[[Sequence[Any], pa.DataType], _Parts]


def _texts(values: Sequence[str], _kind: pa.DataType) -> _Parts:
    encoded = list(map(str.encode, values))
    return [_offsets(map(len, encoded)), pa.py_buffer(b"".join(encoded))], []


def _lists(values: Sequence[list[Any]], kind: pa.DataType) -> _Parts:
    return [_offsets(map(len, values))], [arrow_array(list(chain.from_iterable(values)), kind.value_type)]


def _structs(values: Sequence[dict[str, Any]], kind: pa.DataType) -> _Parts:
    return [], [arrow_array([one.get(field.name) for one in values], field.type) for field in kind]


def _flags(values: Sequence[bool], _kind: pa.DataType) -> _Parts:
    return [pa.py_buffer(_bits(values))], []


def _moments(values: Sequence[datetime], _kind: pa.DataType) -> _Parts:
    return [pa.py_buffer(array("q", ((one - _EPOCH) // _MICROSECOND for one in values)))], []


def _numbers(code: str) -> Callable[[Sequence[Any], pa.DataType], _Parts]:
    return lambda values, _kind: ([pa.py_buffer(array(code, values))], [])


_FORMS: dict[int, _Form] = {
    pa.string().id: _Form((str,), "", _texts),
    pa.list_(pa.null()).id: _Form((list,), [], _lists),
    pa.struct([]).id: _Form((dict,), {}, _structs),
    pa.bool_().id: _Form((bool,), False, _flags),
    pa.timestamp("us").id: _Form((datetime,), _EPOCH, _moments),
    pa.int64().id: _Form((int,), 0, _numbers("q")),
    pa.float64().id: _Form((float, int), 0, _numbers("d")),
    pa.float32().id: _Form((float, int), 0, _numbers("f")),
}


def _offsets(lengths: Iterable[int]) -> pa.Buffer:
    return pa.py_buffer(array("i", accumulate(lengths, initial=0)))


def _bits(flags: Sequence[bool]) -> bytes:
    """Return a bit for each flag, the first one in the lowest place of the first byte."""
    digits = "".join(map("01".__getitem__, reversed(flags)))
    return int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little")
