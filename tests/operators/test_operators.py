"""The operators as Airflow runs them: `dag.test()` starts, defers, triggers and resumes them in this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from airflow.sdk import DAG, task
from edge_stages import Box, Dependent, Obedient
from pydantic import create_model

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.operators import AsyncBatchStageOperator, BatchEmbedOperator, BatchGenerateOperator
from airflow_batch_provider.stages import AsyncBatchStage, PollConfig


def obedient(dag_id: str, mode: str, **kwargs) -> DAG:
    with DAG(dag_id, schedule=None) as dag:
        AsyncBatchStageOperator(task_id="stage", stage=Obedient, config={"mode": mode}, **kwargs)
    return dag


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("mode", "runs"), [("at_once", 1), ("resume", 2), ("twice", 3)])
def test_a_stage_runs_to_its_end(tested, mode, runs, deferrable):
    """Without a wait, with one and with two; deferred or on the worker: the same output."""
    run = tested(obedient(f"end_{mode}_{deferrable}", mode, deferrable=deferrable))
    assert run.state("stage") == "success"
    assert run.xcom("stage") == {"said": "done", "runs": runs, "heard": None}


def test_the_ids_and_numbers_of_a_wait_are_xcoms(tested):
    """Small records, for people and for other tasks."""
    run = tested(obedient("xcoms", "resume"))
    assert run.xcom("stage", key="batch_ids") == ["batch-1"]
    assert run.xcom("stage", key="batch_metrics") == {"rows": 3.0}
    assert run.xcom("stage", key="batch_progress") == {"progress": 100, "message": "done"}


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_output_of_the_check_is_the_tasks_output(tested, deferrable):
    """`execute` is not resumed when the check returned everything."""
    run = tested(obedient(f"output_{deferrable}", "output", deferrable=deferrable))
    assert run.xcom("stage")["said"] == "from the check"
    assert run.xcom("stage", key="batch_metrics") == {"rows": 3, "polls": 1}


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_check_fails_the_task_without_a_retry(tested, deferrable):
    """What the stage said is in the log, and Airflow does not try again."""
    run = tested(obedient(f"fail_{deferrable}", "fail", deferrable=deferrable, retries=3))
    assert run.state("stage") == "failed"
    assert "AirflowFailException: All batch requests failed" in run.log


def test_an_overdue_stage_cancels_and_may_be_retried(tested, tmp_path):
    """The deadline is wall clock; the message is the stage's."""
    run = tested(obedient("overdue", "overdue"))
    assert run.state("stage") == "failed"
    assert "AirflowException: Nothing came in time." in run.log
    assert list((tmp_path / "batches").rglob("cancelled.json"))


def test_a_large_output_has_the_shape_of_a_small_one(tested):
    """For a plain downstream task, and for the next stage by `ctx.require`."""
    with DAG("large", schedule=None) as dag:
        first = AsyncBatchStageOperator(task_id="first", stage=Obedient, config={"mode": "at_once", "size": 60_000})
        second = AsyncBatchStageOperator(task_id="second", stage=Obedient, config={"mode": "at_once", "needs": "first"})

        @task
        def plain(output):
            return len(output["said"])

        first >> second
        plain(first.output)
    run = tested(dag)
    assert run.xcom("plain") == 60_000
    assert run.xcom("second")["heard"] == run.xcom("first")


def test_a_stage_gets_the_output_of_an_upstream_task(tested):
    """Small outputs come from XCom as they are."""
    with DAG("require", schedule=None) as dag:

        @task
        def extraction():
            return {"items": [1, 2]}

        AsyncBatchStageOperator(
            task_id="stage", stage=Dependent, config={"mode": "resume", "needs": "extraction"}
        ).set_upstream(extraction())
    assert tested(dag).xcom("stage")["heard"] == {"items": [1, 2]}


def test_a_dependency_that_is_not_upstream_fails_before_the_stage_starts(tested):
    """With the line of code that is missing."""
    with DAG("dependent", schedule=None) as dag:
        AsyncBatchStageOperator(task_id="stage", stage=Dependent, retries=2)
    run = tested(dag)
    assert run.state("stage") == "failed"
    assert "Add extraction >> stage." in run.log


def test_an_input_reaches_both_runs_and_no_rendered_field(tested):
    """XComArgs in it resolve, wherever they are; braces in it are not a template."""
    with DAG("input", schedule=None) as dag:

        @task
        def rows():
            return ["{{ not a template }}"]

        stage = AsyncBatchStageOperator(task_id="stage", stage=Obedient, input={"rows": rows(), "n": 1})
    assert stage.upstream_task_ids == {"rows"}
    assert str(stage.input) == "output of rows"
    assert tested(dag).xcom("stage")["heard"] == {"rows": ["{{ not a template }}"], "n": 1}


def test_a_config_is_templated_once(tested):
    """The first run's rendering is kept for the later ones."""
    with DAG("templated", schedule=None) as dag:
        AsyncBatchStageOperator(task_id="stage", stage=Obedient, config={"mode": "{{ 'twice' }}"})
    assert tested(dag).xcom("stage")["runs"] == 3


def test_mapped_stages_keep_apart(tested, tmp_path):
    """Each index has a directory of its own."""
    with DAG("mapped", schedule=None) as dag:
        AsyncBatchStageOperator.partial(task_id="stage", stage=Obedient).expand(input=["a", "b"])
    run = tested(dag)
    assert [run.xcom("stage", index)["heard"] for index in (0, 1)] == ["a", "b"]
    assert sorted(path.name for path in (tmp_path / "batches/mapped").glob("*/stage/*")) == ["0", "1"]


def test_a_partial_input_from_a_task_is_upstream_of_mapped_ones(tested):
    """`partial(input=task())` makes the edge, too."""
    with DAG("partial", schedule=None) as dag:

        @task
        def rows():
            return ["x"]

        AsyncBatchStageOperator.partial(task_id="stage", stage=Obedient, input=rows()).expand(
            config=[{"mode": "resume"}, {"mode": "at_once"}]
        )
    run = tested(dag)
    assert [run.xcom("stage", index)["heard"] for index in (0, 1)] == [["x"], ["x"]]


def test_a_config_that_does_not_fit_is_refused_when_the_dag_is_parsed():
    """Airflow shows it as an import error; the value is not shown."""
    with pytest.raises(UsageError, match=r"config of task 'stage' does not fit Told: mode: Input should be"):
        obedient("d", "no-such-mode")


def test_a_poll_out_of_range_is_refused_when_the_dag_is_parsed():
    """With the presets."""
    with pytest.raises(UsageError, match="quick, medium, long"):
        obedient("d", "resume", poll="hourly")


def test_a_stage_of_a_dag_file_is_refused_when_the_dag_is_parsed(tmp_path, monkeypatch):
    """The triggerer could not import it, which would only show after the batch is paid."""

    class Local(AsyncBatchStage):
        id = name = "local"

    def at(stage):
        return AsyncBatchStageOperator(task_id="t", stage=stage)

    with pytest.raises(UsageError, match=r"inside a function or class.*plugins folder"):
        at(Local)
    with pytest.raises(UsageError, match="inside a function or class"):
        at(Box.Inner)
    with pytest.raises(UsageError, match=r"DAG file or script.*plugins folder"):
        at(type("Mine", (AsyncBatchStage,), {"__module__": "unusual_prefix_0123_dag", "id": "m", "name": "m"}))
    with pytest.raises(UsageError, match="is not a class"):
        at(Obedient())
    with pytest.raises(UsageError, match="not a subclass of AsyncBatchStage"):
        at("edge_stages.Told")
    with pytest.raises(UsageError, match="cannot be imported here"):
        at("edge_stages.Missing")


def test_a_module_beside_the_dag_files_is_refused(tmp_path, monkeypatch):
    """The parser finds it and the triggerer does not, unless the folder is on every process's path."""
    (tmp_path / "beside.py").write_text("from edge_stages import Obedient\nclass Mine(Obedient): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    with pytest.raises(UsageError, match="lies in the DAGs folder"):
        AsyncBatchStageOperator(task_id="t", stage="beside.Mine")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert AsyncBatchStageOperator(task_id="t", stage="beside.Mine").stage == "beside.Mine"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "claude-x"}, "exactly one of requests= and source="),
        ({"model": "claude-x", "requests": ["a"], "source": "s3://b/r.csv"}, "exactly one of requests= and source="),
        ({"model": "claude-x", "requests": ["a"], "prompt": "Say {x}"}, "without source="),
        ({"model": "mystery", "requests": ["a"]}, "'mystery' names no provider"),
        ({"model": "claude-x", "requests": ["a"], "max_tokens": -1}, "max_tokens"),
        ({"model": "claude-x", "requests": ["a"], "retry_rows": 1000}, "retry_rows"),
        ({"model": "claude-x", "requests": ["a"], "poll": "never"}, "not a preset"),
        ({"model": "claude-x", "requests": ["a"], "result_format": "xml"}, "result_format"),
        ({"model": "claude-x", "requests": ["a"], "on_timeout": "pray"}, "on_timeout"),
    ],
)
def test_what_is_wrong_in_the_dag_is_refused_when_it_is_parsed(wrong, said):
    """Before anything is paid, with the task's name or the value."""
    with pytest.raises(UsageError, match=said):
        BatchGenerateOperator(task_id="ask", **wrong)


@pytest.mark.parametrize("model", ["gpt-5-mini", "claude-haiku-4-5", "gemini-2.5-flash"])
def test_a_schema_that_the_provider_refuses_is_refused_when_the_dag_is_parsed(model):
    """With the task, the rule and the remedy; a day later each row would have failed."""
    wide = create_model("Wide", word=(Literal[tuple(f"word-{n}" for n in range(1200))], ...))
    if model.startswith("gpt"):
        with pytest.raises(UsageError, match=r"'ask': OpenAI takes at most 1000 values in enums .* 1200"):
            BatchGenerateOperator(task_id="ask", model=model, requests=["a"], output_type=wide)
    else:
        BatchGenerateOperator(task_id="ask", model=model, requests=["a"], output_type=wide)


def test_a_schema_that_is_none_is_refused_when_the_dag_is_parsed():
    """Written by hand, with its place."""
    wrong = {"type": "object", "properties": {"day": {"type": "strnig"}}}
    with pytest.raises(UsageError, match=r"Task 'ask': output_type is not a JSON schema: .* at properties/day/type"):
        BatchGenerateOperator(task_id="ask", model="gpt-5-mini", requests=["?"], output_type=wrong)


@pytest.mark.parametrize(
    "params",
    [{"thinking": {"type": "enabled", "budget_tokens": 5000}}, {"max_tokens": 0}],
    ids=["budget", "no room"],
)
def test_a_parameter_that_the_provider_refuses_is_refused_when_the_dag_is_parsed(params):
    """With its values."""
    with pytest.raises(UsageError, match=r"Task 'ask': .*(5000 and 1024|max_tokens)"):
        BatchGenerateOperator(task_id="ask", model="claude-haiku-4-5", requests=["a"], request_params=params)


@pytest.mark.parametrize(
    ("model", "name", "most"),
    [
        ("claude-haiku-4-5", "max_tokens", 64_000),
        ("gpt-4o-mini", "max_completion_tokens", 16_384),
        ("gpt-4o-mini", "max_tokens", 16_384),
        ("gemini-2.0-flash", "max_output_tokens", 8_192),
    ],
)
def test_more_room_than_the_model_has_is_refused_when_the_dag_is_parsed(model, name, most):
    """With both numbers, as an argument and as a parameter; all that it has is taken."""
    for asked in ("max_tokens", "request_params"):
        room = {most: most, most + 1: most + 1} if asked == "max_tokens" else {n: {name: n} for n in (most, most + 1)}
        BatchGenerateOperator(task_id="ask", model=model, requests=["a"], **{asked: room[most]})
        with pytest.raises(UsageError, match=rf"Task 'ask': .* up to {most} for '{model}', and this is {most + 1}"):
            BatchGenerateOperator(task_id="ask", model=model, requests=["a"], **{asked: room[most + 1]})


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-haiku-4-5"])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "t"}])
def test_a_forced_tool_of_a_model_that_always_thinks_is_refused_when_the_dag_is_parsed(model, choice):
    """With the model, the choice and the remedy; others take it."""
    params = {"tools": [{"name": "t", "input_schema": {"type": "object"}}], "tool_choice": choice}
    if model == "claude-haiku-4-5":
        BatchGenerateOperator(task_id="ask", model=model, requests=["a"], request_params=params)
    else:
        with pytest.raises(UsageError, match=rf"Task 'ask': .*{choice['type']}.*'{model}'.*'auto'"):
            BatchGenerateOperator(task_id="ask", model=model, requests=["a"], request_params=params)


def test_vectors_of_a_provider_without_any_are_refused_when_the_dag_is_parsed():
    """The message names who has some."""
    with pytest.raises(UsageError, match="OpenAI or Gemini"):
        BatchEmbedOperator(task_id="embed", model="anthropic:claude-haiku-4-5", requests=["a"])


def test_a_dag_is_checked_without_the_providers_sdks():
    """They take seconds to import, and DAG files are parsed again and again."""
    code = (
        "import sys; from airflow_batch_provider.operators import BatchGenerateOperator as Ask;"
        "[Ask(task_id='ask', model=m, requests=['a'], output_type={'type': 'object', 'properties': {}})"
        " for m in ('gpt-5-mini', 'claude-haiku-4-5', 'gemini-2.5-flash')];"
        "print([m for m in ('anthropic', 'openai', 'google.genai', 'httpx2') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("model", "conn_id", "ref"),
    [
        ("claude-x", None, ("anthropic", "anthropic_default")),
        ("gpt-5", None, ("openai", "openai_default")),
        ("gemini-2.5-flash", None, ("google", "gemini_default")),
        ("openai:my-own", "generic", ("openai", "generic")),
        ("mystery", "anthropic_default", (None, "anthropic_default")),
    ],
)
def test_the_model_chooses_the_connection(model, conn_id, ref):
    """Unless the DAG names one."""
    found = BatchGenerateOperator(task_id="a", model=model, requests=["x"], conn_id=conn_id)._config().connection
    assert (found.provider, found.conn_id) == ref


def test_templates_wait_for_the_task():
    """A model or source that is only known later is not an error."""
    late = BatchEmbedOperator(
        task_id="embed", model="{{ params.model }}", source="s3://bucket/{{ ds }}.csv", prompt="{text}", key="id"
    )
    assert late.template_fields == ("requests", "source", "prompt", "model", "conn_id", "result_path", "storage_path")
    late.model = "text-embedding-3-small"
    late.source = "s3://bucket/2026-11-23.csv"
    config = late._config()
    assert (config.kind, config.connection.provider, config.source.uri) == (
        "embed",
        "openai",
        "s3://bucket/2026-11-23.csv",
    )


def test_rows_are_shown_by_their_number():
    """In the UI's rendered fields and in the serialised DAG."""
    from airflow.serialization.helpers import serialize_template_field

    operator = BatchGenerateOperator(task_id="ask", model="claude-x", requests=["a secret prompt", "{{ another }}"])
    assert serialize_template_field(operator.requests, "requests") == "2 rows"


def test_the_poll_of_the_configuration_is_the_default(monkeypatch):
    """Of the built-in stages; a custom stage says it itself."""
    monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__POLL", "quick")
    assert BatchGenerateOperator(task_id="a", model="claude-x", requests=["x"])._config().poll == PollConfig.of("quick")
    assert AsyncBatchStageOperator(task_id="b", stage=Obedient).poll is None


@pytest.mark.parametrize("kind", ["pathlib", "universal-pathlib", "Airflow's"])
def test_a_path_is_taken_for_its_address(kind):
    """As a source, as the place of results and of storage."""
    from airflow.sdk import ObjectStoragePath
    from upath import UPath

    made = {"pathlib": Path, "universal-pathlib": UPath, "Airflow's": ObjectStoragePath}[kind]
    root = "/lake" if kind == "pathlib" else "memory://lake"
    places = [made(f"{root}/{name}") for name in ("in.jsonl", "out.jsonl", "storage")]
    task = BatchGenerateOperator(
        task_id="ask", model="openai:gpt-4o", source=places[0], result_path=places[1], storage_path=places[2]
    )

    assert (task._config().source.uri, task._config().result_path, task.storage_path) == tuple(map(str, places))
    assert str(places[0]) == f"{root}/in.jsonl"


def test_a_path_that_is_known_late_is_taken_for_its_address():
    """An upstream task may return one."""
    task = BatchGenerateOperator(task_id="ask", model="openai:gpt-4o", source="{{ later }}", result_path="{{ later }}")
    task.source, task.result_path = Path("/lake/in.jsonl"), Path("/lake/out.jsonl")

    assert (task._config().source.uri, task._config().result_path) == ("/lake/in.jsonl", "/lake/out.jsonl")


def test_a_list_of_files_is_refused_with_what_names_several():
    """While the DAG is parsed."""
    with pytest.raises(UsageError, match=r"Task 'ask' has a list as source=\. Give one file, a folder, or a glob"):
        BatchGenerateOperator(task_id="ask", model="openai:gpt-4o", source=["/lake/a.csv", "/lake/b.csv"])
