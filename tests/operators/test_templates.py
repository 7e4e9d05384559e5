"""Jinja in prompts and system texts is rendered once for each task; rows never are, and the braces of JSON stay."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk import DAG, task

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.operators import BatchEmbedOperator, BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))
CLAUDE = "claude-sonnet-4-5"

pytestmark = pytest.mark.usefixtures("connections")


def asked(tmp_path):
    """The bodies that were sent, as the ledger keeps them."""
    files = sorted((tmp_path / "batches").rglob("*.requests.jsonl"))
    return [json.loads(line)["body"] for file in files for line in file.read_text().splitlines()]


def texts(tmp_path):
    return [(body.get("system"), body["messages"][0]["content"]) for body in asked(tmp_path)]


def of_rows(tmp_path, dag_id, prompt, rows=({"text": "{{ ds }}"},), **options):
    """A task over a file of these rows."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with DAG(dag_id, schedule=None, params={"tone": "kind"}) as dag:
        BatchGenerateOperator(
            task_id="ask", model=CLAUDE, source=source.as_uri(), prompt=prompt, poll=SOON, retries=0, **options
        )
    return dag


def test_prompt_and_system_are_rendered_and_rows_are_not(tested, tmp_path):
    """The braces of JSON, written twice, reach the model once."""
    dag = of_rows(
        tmp_path,
        "rendered",
        '{{ params.tone }}: answer {{"label": {{"of": "{text}"}}}} or {{}}, {text}',
        system='Be {{ params.tone }}, say {"a": 1}.',
    )

    assert tested(dag).state("ask") == "success"
    assert texts(tmp_path) == [
        ('Be kind, say {"a": 1}.', 'kind: answer {"label": {"of": "{{ ds }}"}} or {}, {{ ds }}'),
    ]


def test_mapped_tasks_are_rendered_each_with_their_own_values(tested, tmp_path):
    """A prompt that is mapped over, and a system text from an upstream task."""
    source = tmp_path / "rows.csv"
    source.write_text("text\nx\n")
    with DAG("mapped_prompts", schedule=None) as dag:

        @task
        def tone():
            return "Be {{ ds }}"

        BatchGenerateOperator.partial(
            task_id="ask", model=CLAUDE, source=source.as_uri(), system=tone(), poll=SOON
        ).expand(prompt=["{{ ti.map_index }} {text}", 'again {{"a": 1}} {text}'])

    tested(dag)
    assert texts(tmp_path) == [("Be {{ ds }}", "0 x"), ("Be {{ ds }}", 'again {"a": 1} x')]


def test_what_a_decorated_task_yields_is_not_a_template(tested, tmp_path):
    """Its system text is."""
    with DAG("decorated_system", schedule=None, params={"tone": "kind"}) as dag:

        @task.batch_generate(model=CLAUDE, poll=SOON, system="Be {{ params.tone }}")
        def ask():
            return ["{{ ds }}"]

        ask()

    tested(dag)
    assert texts(tmp_path) == [("Be kind", "{{ ds }}")]


def test_braces_that_a_template_brings_are_refused_before_anything_is_paid(tested, tmp_path):
    """They are only known when the task runs."""
    dag = of_rows(tmp_path, "brought", "{{ '{' }}\"label\": 1} {text}")
    run = tested(dag)

    assert run.state("ask") == "failed"
    assert "Write braces that are not a column twice" in run.log
    assert asked(tmp_path) == []


@pytest.mark.parametrize("operator", [BatchGenerateOperator, BatchEmbedOperator])
@pytest.mark.parametrize("prompt", ['Answer {"label": 1}: {text}', "{", "Answer {'a'}: {text}", "{text!r}", "{}"])
def test_single_braces_are_refused_when_the_dag_is_parsed(operator, prompt):
    """With the remedy."""
    with pytest.raises(UsageError, match=r'Write braces that are not a column twice: \{\{"label": 1}}'):
        operator(task_id="ask", model="openai:m", source="rows.csv", prompt=prompt)


@pytest.mark.parametrize(
    "text",
    ["{{ '{{' }}\"a\": 1}} {text}", '{% raw %}{{"a": 1}}{% endraw %} {text}', '{{ \n"a" : 1}} {text}', "{{{text}: 1}}"],
)
def test_braces_may_be_kept_in_any_way(tested, tmp_path, text):
    """Jinja's own ways as well."""
    tested(of_rows(tmp_path, "kept", text, [{"text": "x"}]))

    assert "{{" not in texts(tmp_path)[0][1]
    assert texts(tmp_path)[0][1].startswith("{")


def test_an_operator_that_is_run_without_airflow_asks_the_same(tmp_path):
    """As in a unit test of a DAG, where nothing is rendered."""
    operator = BatchGenerateOperator(task_id="ask", model=CLAUDE, source="rows.csv", prompt='{{"a": 1}} {text}')

    assert operator._config().source.prompt == '{{"a": 1}} {text}'


# mapped tasks and their results


def mapped(dag_id, **partial):
    with DAG(dag_id, schedule=None) as dag:
        BatchGenerateOperator.partial(task_id="ask", model=CLAUDE, poll=SOON, retries=0, **partial).expand(
            requests=[["a"], ["b"]]
        )
    return dag


def test_one_result_file_for_all_mapped_tasks_is_refused(tested, tmp_path):
    """Nothing is bought."""
    run = tested(mapped("one_file", result_path=(tmp_path / "out.jsonl").as_uri()))

    assert {run.state("ask", index) for index in (0, 1)} == {"failed"}
    assert "Add {{ ti.map_index }} to result_path, or give a folder" in run.log
    assert asked(tmp_path) == []


@pytest.mark.parametrize("path", ["out", "out-{{ ti.map_index }}.jsonl"])
def test_mapped_tasks_keep_their_results_apart(tested, tmp_path, path):
    """In a folder, or in a file of each index."""
    run = tested(mapped("apart", result_path=f"{tmp_path.as_uri()}/{path}"))

    found = [list(BatchResults(run.xcom("ask", index))) for index in (0, 1)]
    assert [len(rows) for rows in found] == [1, 1]
    assert run.xcom("ask", 0)["results"] != run.xcom("ask", 1)["results"]


def test_result_files_that_are_mapped_over_are_the_user_s(tested, tmp_path):
    """Each instance has its own."""
    with DAG("own_files", schedule=None) as dag:
        BatchGenerateOperator.partial(task_id="ask", model=CLAUDE, poll=SOON, requests=["a"]).expand(
            result_path=[f"{tmp_path.as_uri()}/{name}.jsonl" for name in "ab"]
        )
    tested(dag)

    assert (tmp_path / "a.jsonl").exists()
    assert (tmp_path / "b.jsonl").exists()


EQUAL = {
    "named twice": lambda out: {"result_path": [out, out]},
    "one for several lists": lambda out: {"result_path": [out], "requests": [["a"], ["b"]]},
    "by keywords": lambda out: [{"result_path": out, "requests": [text]} for text in "ab"],
}


@pytest.mark.parametrize("how", EQUAL)
@pytest.mark.parametrize("late", [False, True])
def test_result_files_that_are_equal_are_refused(tested, tmp_path, how, late):
    """However they come to be; nothing is bought."""
    values = EQUAL[how]((tmp_path / "out.jsonl").as_uri())
    with DAG(f"equal_{how}_{late}".replace(" ", "_"), schedule=None) as dag:

        @task
        def made():
            return values if how == "by keywords" else values["result_path"]

        rows = {"requests": ["a"]} if how == "named twice" else {}
        operator = BatchGenerateOperator.partial(task_id="ask", model=CLAUDE, poll=SOON, retries=0, **rows)
        if how == "by keywords":
            operator.expand_kwargs(made() if late else values)
        else:
            operator.expand(**values | ({"result_path": made()} if late else {}))
    run = tested(dag)

    assert {run.state("ask", index) for index in (0, 1)} == {"failed"}
    assert "Several instances of the mapped task 'ask' have one result file" in run.log
    assert asked(tmp_path) == []


def test_two_runs_in_one_folder_keep_their_results_apart(tested, tmp_path):
    """And the manifest of the first still points to its own rows."""

    def dag(text):
        with DAG("runs", schedule=None) as made:
            BatchGenerateOperator(
                task_id="ask",
                model=CLAUDE,
                poll=SOON,
                requests=[{"custom_id": text, "prompt": text}],
                result_path=(tmp_path / "out").as_uri(),
            )
        return made

    first = tested(dag("a")).xcom("ask")
    second = tested(dag("b")).xcom("ask")

    assert [row.custom_id for row in BatchResults(first)] == ["a"]
    assert [row.custom_id for row in BatchResults(second)] == ["b"]


# bad rows and empty inputs


def test_bad_rows_are_skipped_and_an_empty_file_is_a_success(tested, tmp_path):
    """By the operators' arguments."""
    skipping = of_rows(tmp_path, "skipping", "{text}", [{"text": None}, {"text": "x"}], on_bad_row="skip")
    assert [row.status for row in BatchResults(tested(skipping).xcom("ask"))] == ["failed", "succeeded"]

    empty = tested(of_rows(tmp_path, "empty", "{text}", [], on_empty="skip"))
    assert empty.state("ask") == "success"
    assert list(BatchResults(empty.xcom("ask"))) == []
    assert empty.xcom("ask")["requests"] == 0
