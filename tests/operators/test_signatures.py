"""The arguments that people see: in the signature, in the docstring and in the configuration they are the same."""

from __future__ import annotations

import inspect
import re

import pytest

from airflow_batch_provider.decorators.batch import batch_embed_task, batch_generate_task
from airflow_batch_provider.operators import (
    AsyncBatchStageOperator,
    BatchEmbedOperator,
    BatchGenerateOperator,
    ReconcileOperator,
)
from airflow_batch_provider.sensors import BatchSensor
from airflow_batch_provider.stages.config import BatchConfig

PUBLIC = [AsyncBatchStageOperator, BatchEmbedOperator, BatchGenerateOperator, BatchSensor, ReconcileOperator]
BATCH = [BatchEmbedOperator, BatchGenerateOperator]

# Arguments that are not fields of the configuration under the same name, or say by None that Airflow's settings decide.
ELSEWHERE = {
    "requests",
    "prompt",
    "key",
    "conn_id",
    "deferrable",
    "storage_path",
    "model",
    "source",
    "poll",
    "row_cache_days",
}
TOLD = {"on_deadline_near", "on_unresolved", "on_budget"}
TEXT_ONLY = {"system", "output_type", "max_tokens", "retry_truncated"}


def shown(of):
    """The arguments by name, without Airflow's own."""
    parameters = inspect.signature(of).parameters.values()
    return {one.name: one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def described(of):
    """The names in the docstring's list of arguments."""
    listed = inspect.getdoc(of).split("Args:\n")[1].split("\n\n")[0]
    return set(re.findall(r"^    (\w+):", listed, re.MULTILINE))


@pytest.mark.parametrize("operator", PUBLIC)
def test_every_argument_is_in_the_signature_and_in_the_docstring(operator):
    """With its type; nothing more is taken than Airflow's own arguments."""
    assert set(shown(operator)) == described(operator)
    assert [one.name for one in shown(operator).values() if one.annotation is inspect.Parameter.empty] == []


@pytest.mark.parametrize("operator", BATCH)
def test_a_default_is_that_of_the_configuration(operator):
    """`BatchConfig` is where it is decided; None stands for an empty dict."""
    fields = BatchConfig.model_fields.items()
    decided = {name: field.get_default(call_default_factory=True) or None for name, field in fields}
    shows = {name: one.default or None for name, one in shown(operator).items() if name not in ELSEWHERE | TOLD}

    assert shows == {name: decided[name] for name in shows}


def test_every_field_of_the_configuration_can_be_said():
    """Except the ones that the operator itself makes."""
    fields = set(BatchConfig.model_fields) - {"kind", "connection"}

    assert fields - set(shown(BatchGenerateOperator)) == set()
    assert fields - TEXT_ONLY - set(shown(BatchEmbedOperator)) == set()
    assert TEXT_ONLY & set(shown(BatchEmbedOperator)) == set()


@pytest.mark.parametrize("operator", BATCH)
@pytest.mark.parametrize("name", ["asked", "options", "kind", "stage"])
def test_nothing_is_public_by_accident(operator, name):
    """What the two operators share takes no arguments of its own."""
    from airflow.sdk.exceptions import AirflowException

    with pytest.raises((TypeError, AirflowException), match=name):
        operator(task_id="ask", model="claude-x", requests=["x"], **{name: "y"})


@pytest.mark.parametrize(
    ("decorator", "operator"),
    [(batch_generate_task, BatchGenerateOperator), (batch_embed_task, BatchEmbedOperator)],
)
def test_a_decorator_shows_the_arguments_of_its_operator(decorator, operator):
    """Without those that the function stands for."""
    expected = {name: one for name, one in shown(operator).items() if name not in ("requests", "source")}

    assert shown(decorator) == expected
    assert next(iter(inspect.signature(decorator).parameters)) == "python_callable"


@pytest.mark.parametrize("operator", BATCH)
def test_default_args_of_a_dag_reach_every_argument(operator):
    """Airflow reads the signature for them."""
    from airflow.sdk import DAG

    with DAG("defaults", schedule=None, default_args={"retry_rows": 7, "clean_up": False}):
        asked = operator(task_id="ask", model="openai:x", requests=["x"])

    config = asked._config()
    assert (config.retry_rows, config.clean_up) == (7, False)
