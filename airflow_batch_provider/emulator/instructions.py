"""The base of what users tell the emulator: strict models whose errors say what would be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from airflow_batch_provider.emulator.jsonl import Json


Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Instruction(BaseModel):
    """A model that takes no unknown field and converts no value to another type."""

    model_config = ConfigDict(extra="forbid", strict=True)
    field_word: ClassVar[str] = "field"
    """Word for a field in error messages."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Return the instruction that a JSON object means; raise `ValueError` with a sentence for each wrong field."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ValueError(" ".join(cls._sentence(detail) for detail in error.errors())) from None

    @classmethod
    def _sentence(cls, detail: ErrorDetails) -> str:
        *parents, last = detail["loc"] or ("",)
        name, field = ".".join(map(str, detail["loc"])), cls.model_fields.get(str(last))
        value = repr(detail["input"]) if field is None or field.repr else "the given value"
        message = detail["msg"].removeprefix("Value error, ")
        match detail["type"]:
            case "extra_forbidden":
                return f"No {cls.field_word} {last!r}. Choose among: {', '.join(sorted(_fields(cls, parents)))}."
            case "missing":
                return f"{name!r} is missing{f': {field.description}' if field and field.description else ''}."
            case "literal_error":
                choices = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
                wrong = f"No {field.title} {value}." if field and field.title else f"{name!r} cannot become {value}."
                return f"{wrong} Choose among: {choices}."
            case "value_error":
                return message
            case _:
                return f"{name!r} cannot become {value}: {message}."


def _fields(model: type[BaseModel], path: list[int | str]) -> list[str]:
    """Return the names of the fields of the model at the end of `path`."""
    for name in path:
        nested = model.model_fields[str(name)].annotation
        assert isinstance(nested, type)
        assert issubclass(nested, BaseModel)
        model = nested
    return [*model.model_fields]


def read_instructions(text: str | bytes) -> list[Json]:
    """Return the instructions of a JSON text, which holds an object or a list of objects; raise `ValueError`."""
    value = json.loads(text or "{}")
    instructions = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in instructions):
        raise ValueError(f"An instruction is a JSON object, not {value!r}.")
    return instructions
