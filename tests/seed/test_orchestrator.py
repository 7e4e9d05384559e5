"""The rows about who runs what and when: suspension, resumption, dependencies, failure, the deadline."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from driving import KEY, MODELS
from guide_stages import BatchProcess, ForgetfulProcess, ImpatientProcess, ResumedProcess, TrustingProcess, WrongOutput

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages import PollConfig

CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}
CANCEL = {"anthropic": "anthropic.cancel", "openai": "openai.batches.cancel", "google": "google.cancel"}
POLL = {"anthropic": "anthropic.retrieve", "openai": "openai.batches.retrieve", "google": "google.get"}


@pytest.fixture
def edge(server, monkeypatch, tmp_path):
    from airflow_edge import Edge  # Airflow is imported when a test runs, so that its home is settled by then

    airflow = Edge(server, monkeypatch, tmp_path / "storage")
    airflow.outputs["data-extraction"] = {"items": ["a kettle", "a lamp"]}
    return airflow


@pytest.fixture
def operator(edge):
    """A task that runs a stage of the guide, after the extraction."""
    from airflow.sdk import DAG
    from airflow.sdk.bases.operator import BaseOperator

    from airflow_batch_provider.operators import AsyncBatchStageOperator

    def make(stage=BatchProcess, provider="anthropic", *, after="data-extraction", **options):
        options = {"config": {"model": MODELS[provider]}, "conn_id": provider} | options
        with DAG("dag", schedule=None):
            task = AsyncBatchStageOperator(task_id="process", stage=stage, storage_path=edge.storage, **options)
            BaseOperator(task_id=after) >> task
        return task

    return make


def test_row_02_the_worker_is_free_while_the_batch_runs(edge, operator, provider_name):
    """Suspend while waiting: the task is deferred with small plain state, and the state is persisted."""
    deferred = edge.start(operator(provider=provider_name))
    kwargs = json.dumps(deferred.trigger.serialize()[1])
    assert deferred.method_name == "execute_complete"
    assert len(kwargs) < 8 * 1024
    assert KEY not in kwargs
    assert "kettle" not in kwargs
    assert json.loads(kwargs)["state"]["batch_id"] == edge.server.books()["jobs"][0]["id"]


def test_row_03_the_task_resumes_by_itself_when_the_results_are_there(edge, operator, provider_name):
    """Resume automatically: the trigger polls, the worker comes back with the output."""
    output = edge.run(operator(provider=provider_name))
    assert [item["result"] for item in output["items"]] == [
        "echo: Process this item: a kettle",
        "echo: Process this item: a lamp",
    ]
    assert len(edge.deferred) == 1
    assert edge.server.books()["bought_twice"] == 0


def test_row_12_a_dependency_that_is_not_upstream_is_refused_before_anything_is_paid(edge, operator):
    """`dependencies`: stage ids which must precede; the message holds the missing line."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="Add data-extraction >> process"):
        edge.run(operator(after="something-else"))
    assert edge.server.books()["jobs"] == []


def test_row_11_a_wrong_config_is_refused_when_the_dag_is_parsed(operator):
    """The guide's engine warned and used it raw."""
    with pytest.raises(UsageError, match="ProcessConfig: structured"):
        operator(config={"structured": "maybe"})


def test_row_32_metrics_of_suspension_and_check_are_kept(edge, operator):
    """`customMetrics` and `metrics` reach XCom."""
    edge.run(operator())
    at_submit, at_end = edge.ti.xcoms["batch_metrics"]
    assert at_submit == {"requests": 2}
    assert at_end["success_count"] == 2


def test_row_33_the_check_is_called_by_the_orchestrator(edge, operator, provider_name):
    """`checkCompletion` runs in the triggerer: the worker submits and does not poll."""
    edge.start(operator(provider=provider_name))
    assert POLL[provider_name] not in edge.server.books()["calls"]
    edge.run(operator(provider=provider_name))
    assert edge.server.books()["calls"][POLL[provider_name]] >= 3
    assert len(edge.server.books()["jobs"]) == 1


def test_row_36_an_output_that_does_not_fit_its_schema_fails_the_task(edge, operator):
    """Validated, never persisted raw."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="The output of stage 'batch-process' does not fit ItemResult"):
        edge.run(operator(stage=WrongOutput))


def test_row_39_an_error_of_the_check_stops_the_workflow(edge, operator):
    """`error?`: the task fails for good, without Airflow trying again, and so does its run."""
    from airflow.sdk.exceptions import AirflowFailException

    edge.server.faults.add("openai.batches.create", "fail", code="invalid_json_line", message="Line 1.")
    with pytest.raises(AirflowFailException, match=r"Batch batch_\w+ failed"):
        edge.run(operator(provider="openai"))


def test_row_40_next_check_in_overrides_the_poll_interval(edge, operator):
    """`nextCheckIn?`: the time to the next poll; the first one keeps its own."""
    edge.run(operator(stage=ImpatientProcess))
    assert edge.slept == [60, 2, 2]


def test_row_26_and_31_the_poll_of_the_operator_wins_over_the_stages(edge, operator):
    """First poll, then the stage's own `nextCheckIn` of a minute."""
    poll = PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(hours=2), first_poll=timedelta(seconds=7))
    edge.run(operator(poll=poll))
    assert edge.slept == [7, 60, 60]


def test_row_42_ready_without_output_resumes_execute(edge, operator, provider_name):
    """`ready: true` without output: `execute` runs with `resumeState` and returns the cache."""
    output = edge.run(operator(stage=ResumedProcess, provider=provider_name))
    assert [item["id"] for item in output["items"]] == ["item-0", "item-1"]
    assert len(edge.server.books()["jobs"]) == 1


def test_row_15_a_resume_without_a_cache_raises_what_the_stage_raises(edge, operator):
    """`Resume called but no cached results found` reaches the log of the task."""
    with pytest.raises(RuntimeError, match="Resume called but no cached results found"):
        edge.run(operator(stage=ForgetfulProcess))


@pytest.mark.parametrize("fault", [{"kind": "cut"}, {"kind": "status", "status": 503}])
def test_row_63_the_runtime_polls_again_after_a_passing_fault(edge, operator, provider_name, fault):
    """A stage that does not catch it is polled again after its interval."""
    fields = dict(fault)
    edge.server.faults.add(POLL[provider_name], fields.pop("kind"), **fields)
    output = edge.run(operator(stage=TrustingProcess, provider=provider_name))
    assert all(item["success"] for item in output["items"])
    assert edge.slept[:2] == [60, 60]
    assert len(edge.deferred) == 1


def test_row_63_anything_else_is_the_stages_error(edge, operator):
    """A key that stays revoked while the batch runs fails the try, with what to do, and cancels nothing."""
    from airflow.sdk.exceptions import AirflowException

    edge.server.faults.add("anthropic.retrieve", "status", status=401, times=100)
    with pytest.raises(AirflowException, match=r"401.*runs on at the provider"):
        edge.run(operator(stage=TrustingProcess))
    assert "anthropic.cancel" not in edge.server.books()["calls"]


def test_row_61_the_runtime_fails_a_stage_that_exceeds_max_wait(edge, operator, provider_name):
    """Automatically, whatever the stage's check does: cancel, then `Batch timeout after ${elapsed}`."""
    from airflow.sdk.exceptions import AirflowException

    edge.server.faults.add(CREATE[provider_name], "stuck")
    with pytest.raises(AirflowException, match=r"Batch timeout after 36\d\d s: the stage's own cancel was called"):
        edge.run(operator(provider=provider_name))
    assert sum(edge.slept) == pytest.approx(3600, abs=5)
    assert edge.server.books()["calls"][CANCEL[provider_name]] == 1
