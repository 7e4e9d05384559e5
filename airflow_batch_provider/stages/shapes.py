"""Values of users in the shape of their schemas, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.guide import milliseconds, snake_keys
from airflow_batch_provider.stages.values import CompletionCheck, Suspended, SuspendedState

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from airflow_batch_provider.stages.base import AsyncBatchStage

_CHECK = frozenset({"ready", "output", "metrics", "embeddings", "error", "next_check_in"})


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
    return "; ".join(map(_problem, error.errors()[:5]))


def _problem(error: ErrorDetails) -> str:
    words = error["msg"].removeprefix("Value error, ")
    return ": ".join([".".join(map(str, error["loc"])), words] if error["loc"] else [words])


def to_json(value: Any) -> Any:
    """Return a pydantic model as JSON values; anything else as it is."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def as_json(value: Any) -> Any:
    """Return a value as JSON values, as pydantic writes them: models, dataclasses, times, sets, wherever they stand.

    Raises:
        UsageError: it holds something that pydantic does not know.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    try:
        return to_jsonable_python(value, by_alias=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        fact = " ".join(str(error).split())
        raise UsageError(f"What the stage gives is not JSON: {fact}. Give dicts, lists or pydantic models.") from None


def shown(value: Any) -> Any:
    """Return JSON values as people are shown them: null for NaN and infinity, which Airflow's database would refuse."""
    return to_jsonable_python(value, inf_nan_mode="null")


def parse_config(stage: AsyncBatchStage[Any, Any], config: Any) -> Any:
    """Return a configuration in the shape of the stage's `config_schema`."""
    return parse(stage.config_schema, config, f"The config of stage {stage.id!r}")


def parse_input(stage: AsyncBatchStage[Any, Any], value: Any) -> Any:
    """Return an input in the shape of the stage's `input_schema`."""
    return parse(stage.input_schema, value, f"The input of stage {stage.id!r}")


def as_suspended(stage: AsyncBatchStage[Any, Any], returned: Any) -> Suspended | None:
    """Return what `execute` returned as a suspension, also in the guide's own words; None when it is an output.

    Raises:
        UsageError: it is a suspension that lacks something, or no result of `execute`.
    """
    if isinstance(returned, CompletionCheck):
        raise UsageError(
            f"execute of stage {stage.id!r} returned a CompletionCheck, which is what check_completion returns. Return the "
            "output, or Suspended(state=…)."
        )
    try:
        if isinstance(returned, SuspendedState):
            return Suspended(state=returned)
        return Suspended.model_validate(returned) if _says_suspended(returned) else None
    except UsageError as error:
        raise UsageError(f"What execute of stage {stage.id!r} returned is not a suspension: {error}") from None


def _says_suspended(returned: Any) -> bool:
    """Tell a suspension from an output; the guide's marker may have come as another word for true."""
    if isinstance(returned, dict):
        marker = returned.get("suspended")
        return marker is True or (bool(marker) and "state" in returned)
    return isinstance(returned, Suspended)


def as_check(stage: AsyncBatchStage[Any, Any], returned: Any) -> CompletionCheck[Any]:
    """Return what `check_completion` returned, also in the guide's own words.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(returned, CompletionCheck):
        return returned
    fields = snake_keys(returned)
    if isinstance(fields, dict) and isinstance(fields.get("ready"), bool) and not fields.keys() - _CHECK:
        pause = fields.get("next_check_in")
        if "nextCheckIn" in returned:
            pause = milliseconds(pause)
        return CompletionCheck(
            is_ready=fields["ready"],
            output=fields.get("output"),
            metrics=fields.get("metrics") or {},
            embeddings=fields.get("embeddings"),
            error=fields.get("error") or None,
            next_check_in=pause,
        )
    raise UsageError(
        f"check_completion of stage {stage.id!r} returned {_shown(returned)}. Return CompletionCheck.ready(output), "
        ".not_ready() or .failed(reason)."
    )


def _shown(returned: Any) -> str:
    """Say what it is, without its values, which may be answers."""
    if isinstance(returned, dict):
        return f"a dict of {', '.join(map(str, list(returned)[:10])) or 'nothing'}"
    return "None" if returned is None else f"a {type(returned).__name__}"


def output_json(stage: AsyncBatchStage[Any, Any], value: Any) -> Any:
    """Return an output as JSON values, after a check against the stage's `output_schema`.

    The guide wraps it: `{output: …}` is taken off where the schema knows no such field.
    """
    schema = stage.output_schema
    if schema is not None and isinstance(value, dict) and value.keys() == {"output"} - schema.model_fields.keys():
        value = value["output"]
    return as_json(parse(stage.output_schema, value, f"The output of stage {stage.id!r}"))
