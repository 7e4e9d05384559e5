"""Values that a stage makes by hand, mostly when it has just paid: what does not fit is refused in a sentence of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import core_schema

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.providers.untrusted import one_line

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

WHOLE = ""
_MOST_TOLD = 3
# Numbers and times are shown; a text may be a prompt, an answer or a key.
_SHOWN = (bool, int, float, datetime, timedelta)
_LONGEST_SHOWN = 60


class StageValue(FrozenModel):
    """A frozen value that refuses what does not fit with a `UsageError`: the field, what was given, and the remedy.

    Values that were copied with other fields are checked again where another value takes them.

    Attributes:
        remedies: field → what to give; under `WHOLE` for the value itself.
    """

    model_config = ConfigDict(revalidate_instances="always")

    remedies: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Return how pydantic reads a value: around all else, so that no error of its own leaves."""
        return core_schema.no_info_wrap_validator_function(cls._or_refused, handler(source))

    @classmethod
    def _or_refused(cls, given: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(given)
        except ValidationError as error:
            problems = error.errors(include_url=False)[:_MOST_TOLD]
            sentences = [_sentence(cls, problem) for problem in problems]
        # Outside the handler, so that the log of a task does not begin with pydantic's error.
        raise UsageError(" ".join(sentences))


def _sentence(cls: type[StageValue], problem: ErrorDetails) -> str:
    """Say what is wrong with one field, without a text that was given."""
    place, name = problem["loc"], cls.__name__
    remedy = cls.remedies.get(str(place[0]) if place else WHOLE, "")
    path = one_line(".".join(map(str, place)), _LONGEST_SHOWN)
    if problem["type"] == "missing":
        return f"{name} has no {path}. {remedy}".rstrip()
    if problem["type"] == "extra_forbidden":
        return f"{name} knows no field {path!r}. Drop it: the fields are {', '.join(cls.model_fields)}."
    why = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if not place:
        return f"{name} is {_kind(problem['input'])}: {why}. {remedy}".rstrip()
    return f"{path} of {name} is {_kind(problem['input'])}: {why}. {remedy}".rstrip()


def _kind(given: Any) -> str:
    """Say of what kind a value is, and which one where nothing private can be in it."""
    if given is None:
        return "None"
    kind = type(given).__name__
    kind = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if not isinstance(given, _SHOWN) or (isinstance(given, int) and given.bit_length() > _LONGEST_SHOWN):
        return kind
    return f"{given}, {kind}"
