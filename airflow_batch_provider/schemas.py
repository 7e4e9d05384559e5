"""From the text of an answer to a value that fits its JSON schema, or to the reason why it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MOST_LEVELS = 100
"""Deepest nesting of an answer that is passed on as values: rows that nest a few times deeper can neither be checked against
a recursive schema within Python's stack, nor be read back by pydantic."""

# Models wrap JSON in a Markdown fence when nothing stops them.
_FENCED = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Misfit:
    """Why an answer does not fit; one sentence that can be shown to a person and to the model."""

    problem: str


class AnswerSchema:
    """A JSON schema, ready to check answers.

    Raises:
        UsageError: it is not a JSON schema (draft 2020-12).
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            where = "/".join(map(str, error.absolute_path)) or "the top"
            raise UsageError(f"output_type is not a JSON schema: {error.message} at {where}. Fix it there.") from None
        self._validator: Validator = Draft202012Validator(schema)

    def read(self, text: str) -> Any | Misfit:
        """Return the parsed answer, or why it does not fit; nothing that an answer holds raises."""
        fenced = _FENCED.match(text)
        try:
            value = msgspec.json.decode(fenced[1] if fenced else text)
        except RecursionError:
            return _TOO_DEEP
        except (msgspec.MsgspecError, ValueError) as error:
            return Misfit(f"the answer is not valid JSON: {error}")
        return _TOO_DEEP if is_deep(value) else self._fitting(value)

    def _fitting(self, value: Any) -> Any | Misfit:
        worst = next(iter(sorted(self._validator.iter_errors(value), key=lambda e: len(e.absolute_path))), None)
        if worst is None:
            return value
        where = "/".join(map(str, worst.absolute_path)) or "the top"
        return Misfit(f"at {where}: {worst.message[:300]}")


_TOO_DEEP = Misfit(f"the answer nests more than {MOST_LEVELS} levels deep")


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


@lru_cache(maxsize=256)
def answer_schema(schema: bytes) -> AnswerSchema:
    """Return the schema that this JSON text is; made once for the many rows that share it."""
    parsed: dict[str, Any] = msgspec.json.decode(schema)
    return AnswerSchema(parsed)
