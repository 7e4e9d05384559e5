"""Real batches over HTTP: operators, decorators and sensor against the emulator, run by `dag.test()`."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk import DAG, task
from pydantic import BaseModel
from upath import UPath

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.hooks import BatchHook
from airflow_batch_provider.operators import BatchEmbedOperator, BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.sensors import BatchSensor
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))
CLAUDE = "claude-sonnet-4-5"

pytestmark = pytest.mark.usefixtures("connections")


class Mood(BaseModel):
    mood: str
    sure: bool


def rows(run, task_id: str, map_index: int = -1):
    return list(BatchResults(run.xcom(task_id, map_index)))


@pytest.mark.parametrize("deferrable", [True, False])
def test_requests_become_rows(tested, deferrable):
    """In the order asked, under the user's keys; XCom holds the manifest and the ids of the batches only."""
    with DAG(f"generate_{deferrable}", schedule=None) as dag:
        BatchGenerateOperator(
            task_id="ask",
            model=CLAUDE,
            requests=["Say one", {"custom_id": "two", "prompt": "Say two"}],
            poll=SOON,
            deferrable=deferrable,
        )
    run = tested(dag)
    assert [(row.custom_id, row.status) for row in rows(run, "ask")] == [
        ("request-0", "succeeded"),
        ("two", "succeeded"),
    ]
    assert run.xcom("ask")["counts"]["succeeded"] == 2
    assert run.xcom("ask", key="batch_ids") == run.xcom("ask")["batches"]
    assert "Say one" not in json.dumps(run.xcom("ask"))


def test_answers_fit_the_schema(tested):
    """A pydantic model of the DAG file is kept as JSON schema."""
    with DAG("typed", schedule=None) as dag:
        BatchGenerateOperator(task_id="ask", model="gpt-4o-mini", requests=["How?"], output_type=Mood, poll=SOON)
    results = BatchResults(tested(dag).xcom("ask"), Mood)
    assert all(isinstance(output, Mood) for output in results.outputs())


def test_rows_of_a_file_are_asked_with_a_prompt(tested, tmp_path):
    """One request per row; the source is a template, the prompt's braces are columns."""
    (tmp_path / "rows.csv").write_text("id,text\na,good\nb,bad\n")
    with DAG("source", schedule=None, params={"name": "rows"}) as dag:
        BatchGenerateOperator(
            task_id="ask",
            model=CLAUDE,
            source=f"{tmp_path.as_uri()}/{{{{ params.name }}}}.csv",
            prompt="Classify: {text}",
            key="id",
            result_path=(tmp_path / "out.jsonl").as_uri(),
            poll=SOON,
        )
    run = tested(dag)
    assert [row.custom_id for row in rows(run, "ask")] == ["a", "b"]
    assert (tmp_path / "out.jsonl").exists()


def test_requests_may_come_from_a_task_and_be_mapped(tested):
    """`.expand(requests=…)` makes a batch of each list."""
    with DAG("fan_out", schedule=None) as dag:

        @task
        def shards():
            return [["{{ one }}", "two"], ["three"]]

        BatchGenerateOperator.partial(task_id="ask", model=CLAUDE, poll=SOON).expand(requests=shards())
    run = tested(dag)
    assert [len(rows(run, "ask", index)) for index in (0, 1)] == [2, 1]
    assert run.state("ask", 1) == "success"


def test_requests_may_be_what_mapped_tasks_returned(tested):
    """Airflow hands over a lazy sequence, one XCom of each."""
    with DAG("fan_in", schedule=None) as dag:

        @task
        def write(word):
            return {"custom_id": word, "prompt": f"Say {word}"}

        BatchGenerateOperator(task_id="ask", model=CLAUDE, requests=write.expand(word=["a", "b"]), poll=SOON)
    run = tested(dag)

    assert [(row.custom_id, row.output) for row in rows(run, "ask")] == [("a", "echo: Say a"), ("b", "echo: Say b")]


def test_a_dag_is_serialised_the_same_each_time():
    """Else Airflow makes a new version of it whenever it is parsed."""
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    def made():
        with DAG("stable", schedule=None) as dag:
            BatchGenerateOperator(
                task_id="ask", model=CLAUDE, requests=[{"prompt": "a"}], output_type=Mood, request_params={"top_k": 3}
            )
        return json.dumps(LazyDeserializedDAG.from_dag(dag).data, sort_keys=True, default=str)

    assert made() == made()
    assert " object at 0x" not in made()


def test_decorated_functions_yield_requests(tested):
    """Generators are streamed, arguments from other tasks resolve, and nothing that is yielded is a template."""
    with DAG("decorated", schedule=None) as dag:

        @task
        def words():
            return ["a", "b"]

        @task.batch_generate(model=CLAUDE, poll=SOON)
        def ask(found):
            for word in found:
                yield {"custom_id": word, "prompt": f"{{{{ {word} }}}}"}

        @task.batch_embed(model="text-embedding-3-small", poll=SOON)
        def embed(manifest):
            return [str(output) for output in BatchResults(manifest).outputs()]

        embed(ask(words()))
    run = tested(dag)
    assert [row.custom_id for row in rows(run, "ask")] == ["a", "b"]
    assert [len(row.output) > 1 for row in rows(run, "embed")] == [True, True]


def test_a_decorated_function_gives_a_table(tested, tmp_path):
    """With a prompt and a key, as the function of a source: Airflow renders the prompt, the rows fill it in."""
    told, shown = [], []
    with DAG("decorated_table", schedule=None, params={"tone": "loudly"}) as dag:

        @task.batch_generate(
            model=CLAUDE,
            prompt="Say {word} {{ params.tone }}",
            key="word",
            keep_columns=True,
            result_path=str(tmp_path / "out.jsonl"),
            poll=SOON,
            on_success_callback=lambda context: shown.append(str(context["task"].source)),
        )
        def ask(words):
            told.append(words)
            for number, word in enumerate(words):
                yield {"word": word, "number": number, "other": "{{ not a template }}"}

        ask(["a", "b"])
    run = tested(dag)

    assert [(row.custom_id, row.status, row.columns["number"]) for row in rows(run, "ask")] == [
        ("a", "succeeded", 0),
        ("b", "succeeded", 1),
    ]
    assert [row.output for row in rows(run, "ask")] == ["echo: Say a loudly", "echo: Say b loudly"]
    assert told == [["a", "b"]]
    assert shown == ["what ask() returns"]


def test_decorated_functions_can_be_mapped(tested):
    """`.partial().expand()` as with any task."""
    with DAG("decorated_mapped", schedule=None) as dag:

        @task.batch_generate(model=CLAUDE, poll=SOON)
        def ask(word, times):
            return [f"Say {word}"] * times

        ask.partial(times=2).expand(word=["a", "b"])
    run = tested(dag)
    assert [len(rows(run, "ask", index)) for index in (0, 1)] == [2, 2]


def test_embeddings_are_vectors(tested):
    """The kind of the operator, not of the model's name, decides."""
    with DAG("embeddings", schedule=None) as dag:
        BatchEmbedOperator(task_id="embed", model="text-embedding-3-small", requests=["x", "y"], poll=SOON)
    assert all(isinstance(row.output, list) for row in rows(tested(dag), "embed"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": CLAUDE, "conn_id": "nowhere", "requests": ["a"]}, "airflow connections add nowhere"),
        ({"model": CLAUDE, "conn_id": "openai_default", "requests": ["a"]}, "the model is one of 'anthropic'"),
        ({"model": CLAUDE, "requests": []}, "empty|no requests|nothing to ask"),
        ({"model": CLAUDE, "requests": [1]}, "custom_id|request|prompt"),
        ({"model": CLAUDE, "source": "file:///no/such/file.csv"}, "no/such/file.csv"),
    ],
)
def test_what_cannot_work_is_not_retried_and_costs_nothing(tested, arguments, said, emulator):
    """The task fails at once, with the remedy."""
    import re

    with DAG("refused", schedule=None) as dag:
        BatchGenerateOperator(task_id="ask", retries=5, poll=SOON, **arguments)
    run = tested(dag)
    assert run.state("ask") == "failed"
    assert "AirflowFailException" in run.log
    assert re.search(said, run.log, re.IGNORECASE)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_attempt_shows_in_airflow_what_became_of_it(tested, deferrable):
    """Its manifest, reasons and cost, what to do, and its good rows, which a task after it reads like any other's."""
    with DAG(f"fell_short_{deferrable}", schedule=None) as dag:
        ask = BatchGenerateOperator(
            task_id="ask",
            model=CLAUDE,
            requests=["good", {"custom_id": "bad", "prompt": "[[emulate:error=invalid_request]]"}],
            min_success_ratio=0.9,
            poll=SOON,
            deferrable=deferrable,
        )

        @task(trigger_rule="all_done")
        def save(ti=None):
            manifest = ti.xcom_pull("ask", key="batch_manifest")
            return {row.custom_id: row.status for row in BatchResults(manifest)}

        ask >> save()
    run = tested(dag)

    manifest, record = run.xcom("ask", key="batch_manifest"), run.xcom("ask", key="batch_progress")
    assert (run.state("ask"), run.xcom("ask")) == ("failed", None)
    assert (manifest["counts"]["succeeded"], manifest["counts"]["failed"]) == (1, 1)
    assert (manifest["cost"]["usd"] > 0, manifest["batches"]) == (True, run.xcom("ask", key="batch_ids"))
    assert [reason["sample"] for reason in manifest["errors"]["reasons"]] == [["bad"]]
    assert (record["state"], record["cost"], record["errors"]) == ("unmet", manifest["cost"], manifest["errors"])
    assert "a retry asks only the rest" in record["next_action"]
    assert run.xcom("save") == {"request-0": "succeeded", "bad": "failed"}


def test_an_attempt_that_is_refused_shows_in_airflow_what_to_do(tested):
    """Nothing was asked, so there is no manifest."""
    with DAG("too_dear", schedule=None) as dag:
        BatchGenerateOperator(task_id="ask", model=CLAUDE, requests=["a"], max_cost_usd=0.0000001, poll=SOON)
    run = tested(dag)

    record = run.xcom("ask", key="batch_progress")
    assert (run.state("ask"), record["state"], run.xcom("ask", key="batch_manifest")) == ("failed", "failed", None)
    assert "Ask less, lower max_tokens or raise the limit" in record["next_action"]


@pytest.mark.parametrize("arguments", [{"poll": SOON}, {"deferrable": False, "poke_interval": 1}])
def test_a_sensor_waits_for_a_batch_from_elsewhere(tested, arguments):
    """And returns its status."""
    handle = BatchHook("anthropic_default").submit(CLAUDE, ["Say one"])
    with DAG(f"sensor_{len(arguments)}", schedule=None) as dag:
        BatchSensor(task_id="wait", batch_id=handle.id, conn_id="anthropic_default", **arguments)
    assert tested(dag).xcom("wait")["status"] == "completed"


@pytest.mark.parametrize("arguments", [{"poll": SOON}, {"deferrable": False, "poke_interval": 1}])
def test_a_sensor_may_skip_what_it_waits_for_in_vain(tested, arguments):
    """`soft_fail` of any sensor; a batch that was cancelled elsewhere is a failure."""
    hook = BatchHook("openai_default")
    handle = hook.submit("gpt-4o-mini", ["Say one"])
    hook.cancel(handle.id)
    with DAG(f"sensor_fails_{len(arguments)}", schedule=None) as dag:
        BatchSensor(task_id="wait", batch_id=handle.id, conn_id="openai_default", **arguments)
        BatchSensor(task_id="skip", batch_id=handle.id, conn_id="openai_default", soft_fail=True, **arguments)
    run = tested(dag)
    assert run.state("wait") == "failed"
    assert run.state("skip") == "skipped"
    assert f"Batch '{handle.id}' cancelled" in run.log


def test_a_sensor_of_an_unknown_provider_is_refused_when_the_dag_is_parsed():
    """With those that there are."""
    from airflow_batch_provider.exceptions import UsageError

    with pytest.raises(UsageError, match="anthropic, openai, google"):
        BatchSensor(task_id="wait", batch_id="b", conn_id="c", provider="acme")


async def test_a_killed_task_stops_its_batch_at_the_provider(tmp_path, monkeypatch):
    """The trigger's `on_kill` reaches the provider, over the connection of the task."""
    from airflow.sdk.execution_time import task_runner

    with EmulatorServer(Settings(progress=Progress(pending=0, running=3600, settle=0))) as slow:
        for name, value in to_emulator(slow).items():
            monkeypatch.setenv(name, value)
        async with BatchHook("anthropic_default") as hook:
            client = hook.batch(CLAUDE)
            handle = await client.submit(["Say one"])
            monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Failed(), raising=False)
            trigger = waiting_for(tmp_path, handle.id)
            await trigger.on_kill()
            await trigger.cleanup()
            assert (await client.get_status(handle.id)).status == "cancelled"


class Failed:
    """Airflow's side: the task was marked as failed."""

    async def asend(self, message):
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"run": {"ask": "failed"}})
        return None


def waiting_for(tmp_path, batch_id: str):
    from datetime import UTC, datetime

    from airflow_batch_provider.ledger import Waiting
    from airflow_batch_provider.stages import Suspended, SuspendedState, TaskKey
    from airflow_batch_provider.stages.files import StageFiles
    from airflow_batch_provider.stages.suspension import StageLocation, Suspension
    from airflow_batch_provider.triggers import AsyncBatchTrigger

    operator = BatchGenerateOperator(task_id="ask", model=CLAUDE, requests=["Say one"])
    location = StageLocation(stage=operator.stage, task=TaskKey("dag", "run", "ask"), storage=tmp_path.as_uri())
    StageFiles(location.directory(UPath)).save_config(operator._config())
    now = datetime.now(UTC)
    waiting = Waiting(batch_ids=(batch_id,), queued=0, started_at=now, seen_at=now)
    state = SuspendedState(batch_id=batch_id, submitted_at=now, metadata=waiting.model_dump(mode="json"))
    return AsyncBatchTrigger(**Suspension.begin(location, Suspended(state=state), now).kwargs())
