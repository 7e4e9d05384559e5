"""Classes of `typing.TypedDict` as those of `typing_extensions`, which pydantic asks for before Python 3.12.

There its `TypedDict` does not keep the bases that pydantic reads (pydantic 2.14, `_generate_schema.py`, 2026-11); fields, whether
they are required, the title and the configuration are all there, so an equal class can be made.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing
from typing import Annotated, Any

import typing_extensions

_KEPT = ("__module__", "__qualname__", "__doc__", "__total__", "__required_keys__", "__optional_keys__")
_CONFIG = "__pydantic_config__"


def readable(given: Any) -> Any:
    """Return a type in which pydantic reads every TypedDict; other types, and all on Python 3.12 and later, as they are.

    A generic TypedDict stays as it is, and so does one within a model or a dataclass: pydantic says what to do.

    Raises:
        NameError: a field names a type that is not known in its module.
    """
    return given if sys.version_info >= (3, 12) else _rewritten(given, {})


def _rewritten(given: Any, made: dict[Any, Any]) -> Any:
    """Return a type with every TypedDict in it made again.

    Args:
        made: those that are made already, or are being made: they may hold themselves.
    """
    if _is_old(given):
        return _remade(given, made)
    arguments = typing.get_args(given)
    if not arguments or typing.get_origin(given) in (typing.Literal, typing_extensions.Literal):
        return given
    inner = tuple(_rewritten(argument, made) for argument in arguments)
    if all(new is old for new, old in zip(inner, arguments, strict=True)):
        return given
    if typing.get_origin(given) is Annotated:
        return Annotated[(inner[0], *given.__metadata__)]
    if isinstance(given, types.UnionType):
        return functools.reduce(operator.or_, inner)
    return given.copy_with(inner) if hasattr(given, "copy_with") else typing.get_origin(given)[inner]


def _is_old(given: Any) -> bool:
    is_generic = bool(getattr(given, "__parameters__", None))
    return typing.is_typeddict(given) and type(given).__module__ == "typing" and not is_generic


def _remade(given: Any, made: dict[Any, Any]) -> Any:
    if given not in made:
        new = made[given] = typing_extensions.TypedDict(given.__name__, {})  # type: ignore[operator]
        for name in _KEPT:
            setattr(new, name, getattr(given, name))
        if hasattr(given, _CONFIG):
            setattr(new, _CONFIG, getattr(given, _CONFIG))
        hints = typing.get_type_hints(given, include_extras=True)
        new.__annotations__ = {name: _rewritten(hint, made) for name, hint in hints.items()}
    return made[given]
