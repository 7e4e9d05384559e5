"""The type of each answer: any type that pydantic knows, or a JSON schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from airflow_batch_provider.typed_dicts import readable

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

# Providers want an object at the top, so an answer of another kind is asked for as `{"value": …}`, under this title.
_WRAPPED, _VALUE = "airflow_batch_provider.WrappedAnswer", "value"


class _Schemas(GenerateJsonSchema):
    """Refuses a field whose place in the answer pydantic's JSON schema does not tell: no answer to it would fit the type."""

    def model_field_schema(self, schema: core_schema.ModelField) -> dict[str, Any]:
        return super().model_field_schema(_at_its_name(schema))

    def dataclass_field_schema(self, schema: core_schema.DataclassField) -> dict[str, Any]:
        return super().dataclass_field_schema(_at_its_name(schema))

    def typed_dict_field_schema(self, schema: core_schema.TypedDictField) -> dict[str, Any]:
        return super().typed_dict_field_schema(_at_its_name(schema))


_Field = TypeVar("_Field", core_schema.ModelField, core_schema.DataclassField, core_schema.TypedDictField)


def _at_its_name(field: _Field) -> _Field:
    """Return a field that is read under one name: of several the schema tells the first, and of a path its beginning."""
    alias = field.get("validation_alias")
    if isinstance(alias, list):
        path = alias[0] if isinstance(alias[0], list) else alias
        if len(path) > 1:
            raise PydanticInvalidForJsonSchema(
                f"a field is read by AliasPath{tuple(path)!r}, from within another one, which pydantic leaves out of its schemas"
            )
    return field


@dataclass(frozen=True)
class OutputType:
    """The type of each answer; equal when its JSON schema is. As JSON it is that schema.

    Attributes:
        schema: what providers are told, an object at the top.
        adapter: reads answers where a Python type was given: its validators and its configuration decide, not the schema.
            None where only a schema is known.
    """

    schema: dict[str, Any]
    adapter: TypeAdapter[Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return what was given: a JSON schema of an object as it is, anything else as pydantic's TypeAdapter takes it.

        What is not an object at the top (a list, a choice, a literal) is asked for within one.

        Raises:
            ValueError: it is not a type, or one without a JSON schema; says which and why.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, dict):
            return cls(_wrapped(given) if _is_something_else(given) else given)
        try:
            adapter = given if isinstance(given, TypeAdapter) else TypeAdapter(readable(_checked(given)))
            if not adapter.pydantic_complete:
                adapter.rebuild()  # raises the name that is not known, where `json_schema` says only that there is one
            schema = adapter.json_schema(schema_generator=_Schemas)
        except (PydanticUserError, PydanticSchemaGenerationError, NameError, TypeError, RecursionError) as error:
            fact = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"output_type={given!r} has no JSON schema: {fact.rstrip('.')}. Give a model class, a dataclass, a TypedDict, "
                "another type with one, or the schema itself"
            ) from None
        return cls(schema if _is_object(schema) else _wrapped(schema), adapter)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Return how pydantic reads and writes a field of this type."""
        shown = core_schema.plain_serializer_function_ser_schema(lambda value: value.schema)
        return core_schema.no_info_plain_validator_function(cls.of, serialization=shown)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """Return the JSON schema of a JSON schema."""
        return {"type": "object"}


def json_schema(given: Any) -> dict[str, Any] | None:
    """Return the JSON schema of what `OutputType.of` takes; None passes through.

    Raises:
        ValueError: as there.
    """
    return None if given is None else OutputType.of(given).schema


def inner_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the answer itself, where it is asked for within an object."""
    if not is_wrapped(schema):
        return schema
    inner: dict[str, Any] = _moved(schema["properties"][_VALUE], f"#/properties/{_VALUE}", "#")
    return inner | _definitions(schema)


def is_wrapped(schema: dict[str, Any]) -> bool:
    """Tell whether answers are asked for within an object."""
    return schema.get("title") == _WRAPPED


def unwrapped(answer: Any) -> Any:
    """Return the answer that is within an object; a model that left the object out has answered as well."""
    return answer[_VALUE] if isinstance(answer, dict) and answer.keys() == {_VALUE} else answer


def _checked(given: Any) -> Any:
    """Return the type; a text would be looked up as a name, and None is a type to pydantic."""
    if isinstance(given, str | bytes | int | float | list | tuple):
        raise TypeError(f"it is {type(given).__name__}, not a type")
    return given


def resolved(schema: dict[str, Any], defs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a schema is that may be a reference; empty where that leads nowhere.

    Args:
        defs: the definitions that references lead to; None takes the schema's own.
    """
    known, node = schema.get("$defs", {}) if defs is None else defs, schema
    for _ in range(16):
        if not isinstance(node, dict):
            return {}
        if "$ref" not in node:
            return node
        node = known.get(str(node["$ref"]).removeprefix("#/$defs/"), {})
    return {}


def _is_object(schema: dict[str, Any]) -> bool:
    return resolved(schema).get("type") == "object"


def _is_something_else(schema: dict[str, Any]) -> bool:
    """Tell whether a schema says clearly that its answers are not objects; what says nothing is left to the codecs."""
    return not _is_object(schema) and bool(schema.keys() & {"type", "anyOf", "oneOf", "enum", "const"})


def _definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what references lead to; it stays at the top, where they look for it."""
    return {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def _moved(node: Any, old: str, new: str) -> Any:
    """Return a schema whose references to itself lead to where it stands now; those to definitions stay."""
    if isinstance(node, list):
        return [_moved(item, old, new) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {name: _moved(value, old, new) for name, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and not reference.startswith(("#/$defs/", "#/definitions/")):
        path = reference.removeprefix(old)
        if path != reference and path[:1] in ("", "/"):
            moved["$ref"] = new + path
    return moved


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    inner = {name: value for name, value in schema.items() if name not in _definitions(schema)}
    inner = _moved(inner, "#", f"#/properties/{_VALUE}")
    return {
        "title": _WRAPPED,
        "type": "object",
        "properties": {_VALUE: inner},
        "required": [_VALUE],
        "additionalProperties": False,
        **_definitions(schema),
    }
