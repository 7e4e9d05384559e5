"""From the text of an answer to JSON that fits its schema, or to the reason why it does not."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import ValidationError as PydanticError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.misfits import MASK, Misfit, Wording
from airflow_batch_provider.odd_json import oddity
from airflow_batch_provider.output_types import inner_schema, is_wrapped, unwrapped

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator
    from pydantic import TypeAdapter

MOST_LEVELS = 100
"""Deepest nesting of an answer that is passed on as values: readers of JSON give up a few times deeper, at 200 levels and
more, and not all of them with an error of their own."""

_LONGEST = 300

# Models wrap JSON in a Markdown fence when nothing stops them.
_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)

# https://262.ecma-international.org/15.0/#sec-patterns, the dialect that JSON schema 2020-12 names (2026-11).
_POSIX_CLASS = re.compile(r"\[[^\]]*(\[:\^?[a-z]+:\])")


class AnswerSchema:
    """A JSON schema (draft 2020-12), compiled to check answers; formats count.

    Args:
        adapter: the Python type of the answers, which decides in the schema's place.

    Raises:
        UsageError: it is not a schema, or refers to one elsewhere.
    """

    def __init__(self, schema: dict[str, Any], adapter: TypeAdapter[Any] | None = None) -> None:
        self._adapter = adapter
        self._is_wrapped = is_wrapped(schema)
        self._wording = Wording(schema)
        self._validator = _compiled(inner_schema(schema))
        _refuse_posix_classes(schema)

    def read(self, text: str) -> Any | Misfit:
        """Return the parsed answer, or why it does not fit; nothing that an answer holds raises."""
        value = parsed(text)
        if isinstance(value, Misfit):
            return value
        if self._is_wrapped:
            value = unwrapped(value)
        if self._adapter is not None:
            found = typed(self._adapter, as_raw(value), self._wording)
            return found if isinstance(found, Misfit) else value
        return self._fitting(value)

    def _fitting(self, value: Any) -> Any | Misfit:
        try:
            if self._validator.is_valid(value):
                return value
            worst = min(self._validator.iter_errors(value), key=lambda error: len(error.instance_path))
        except (ValueError, RecursionError) as error:  # such as a pattern that takes too long
            return Misfit(f"the answer cannot be checked: {str(error)[:_LONGEST]}")
        return self._wording.of_schema(worst)


def _compiled(schema: dict[str, Any]) -> Draft202012Validator:
    """Return the validator of a schema, whose errors hide what an answer holds."""
    from jsonschema_rs import Draft202012Validator, ReferencingError, ValidationError

    try:
        Draft202012Validator(schema, validate_formats=True, offline=True)  # whose errors show what the schema holds
        return Draft202012Validator(schema, validate_formats=True, offline=True, mask=MASK)
    except ValidationError as error:
        where = "/".join(map(str, error.instance_path)) or "the top"
        raise UsageError(f"output_type is not a JSON schema: {error.message} at {where}. Fix it there.") from None
    except (ReferencingError, ValueError, TypeError, OverflowError, RecursionError) as error:
        fact = " ".join(str(error).split())[:_LONGEST]
        raise UsageError(f"output_type is a JSON schema that cannot be checked: {fact}. Change it there.") from None


def _refuse_posix_classes(schema: Any) -> None:
    """Refuse `[[:alpha:]]` in a pattern: in JSON schema it is a class of the letters of its own name, and no answer fits."""
    open_ = [schema]
    while open_:
        node = open_.pop()
        if isinstance(node, dict):
            pattern = node.get("pattern")
            if isinstance(pattern, str) and (found := _POSIX_CLASS.search(pattern)):
                raise UsageError(
                    f"output_type has the pattern {pattern!r}, and JSON schema does not know {found[1]!r}. Write a class of "
                    r"Unicode instead, such as \p{L} for letters or \p{N} for digits."
                )
            open_.extend(node.values())
        elif isinstance(node, list):
            open_.extend(node)


def typed(adapter: TypeAdapter[Any], answer: msgspec.Raw, wording: Wording) -> Any | Misfit:
    """Return an answer as its Python type, or why the type does not take it; its own words, not the answer's.

    It is read as JSON, because types in strict mode take more from JSON (a date, say) than from Python values.
    """
    try:
        return adapter.validate_json(bytes(answer))
    except PydanticError as error:
        return wording.of_type(error, msgspec.json.decode(answer))
    except Exception as error:  # noqa: BLE001 — a validator of the user's may raise anything, and ends only its row
        return Misfit(f"{type(error).__name__}: the type of the answer cannot read it")


_TOO_DEEP = Misfit(f"the answer nests more than {MOST_LEVELS} levels deep")


def parsed(text: str) -> Any | Misfit:
    """Return the JSON value of an answer, or why it is none; a byte order mark before it says nothing."""
    text = text.removeprefix("\ufeff")
    if fenced := _FENCED.match(text):
        text = fenced[1]
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        return _TOO_DEEP
    except (msgspec.MsgspecError, ValueError) as error:
        return Misfit(f"the answer {oddity(text) or f'is not valid JSON: {error}'}")
    may_be_deep = text.count("[") + text.count("{") > MOST_LEVELS
    return _TOO_DEEP if may_be_deep and is_deep(value) else value


def is_deep(value: Any) -> bool:
    """Tell whether lists and objects nest deeper than `MOST_LEVELS`."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


_ENCODER = msgspec.json.Encoder()


def as_raw(value: Any) -> msgspec.Raw:
    """Return a value as JSON, whatever numbers and half characters it holds."""
    try:
        return msgspec.Raw(_ENCODER.encode(value))
    except (OverflowError, UnicodeEncodeError):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return msgspec.Raw(text.encode("utf-8", "replace"))


@lru_cache(maxsize=256)
def answer_schema(schema: bytes) -> AnswerSchema:
    """Return the schema that this JSON text is; made once for the many rows that share it."""
    made: dict[str, Any] = msgspec.json.decode(schema)
    return AnswerSchema(made)
