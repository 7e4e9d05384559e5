"""Values of users in the shape of their schemas, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from airflow_batch_provider.stages.base import AsyncBatchStage


def parse(schema: type[BaseModel] | None, value: Any, what: str) -> Any:
    """Return a value in the shape of its schema; anything passes where there is none.

    Raises:
        UsageError: it does not fit; says where.
    """
    if schema is None or isinstance(value, schema):
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        # Without the chain: pydantic's own message quotes the value, and Airflow shows it as an import error.
        raise UsageError(f"{what} does not fit {schema.__name__}: {describe(error)}.") from None


def describe(error: ValidationError) -> str:
    """Say where and why, without the input itself, which may be a prompt."""
    found = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:5]]
    return "; ".join(found)


def to_json(value: Any) -> Any:
    """Return a pydantic model as JSON values; anything else as it is."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def parse_config(stage: AsyncBatchStage[Any, Any], config: Any) -> Any:
    """Return a configuration in the shape of the stage's `config_schema`."""
    return parse(stage.config_schema, config, f"The config of stage {stage.id!r}")


def parse_input(stage: AsyncBatchStage[Any, Any], value: Any) -> Any:
    """Return an input in the shape of the stage's `input_schema`."""
    return parse(stage.input_schema, value, f"The input of stage {stage.id!r}")


def output_json(stage: AsyncBatchStage[Any, Any], value: Any) -> Any:
    """Return an output as JSON values, after a check against the stage's `output_schema`."""
    return to_json(parse(stage.output_schema, value, f"The output of stage {stage.id!r}"))
