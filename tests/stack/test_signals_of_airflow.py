"""What real receivers on loopback get of a task whose worker, triggerer and scheduler are processes of a real Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from receivers import lineage_events

from airflow_batch_provider.airflow.signals import table
from airflow_batch_provider.demo.connections import KEY
from airflow_batch_provider.results import BatchResults

if TYPE_CHECKING:
    from conftest import Finished, Receivers
    from receivers import Sample, SentSpan

    from airflow_batch_provider.models import Manifest

pytestmark = pytest.mark.dag("observed")

MODEL = "claude-haiku-4-5"
TAGS = {"dag_id": "observed", "task_id": "ask", "provider": "anthropic", "model": MODEL}


@pytest.fixture
def manifest(finished: Finished) -> Manifest:
    """Three rows that were asked, waited for in the triggerer and landed by another worker process."""
    finished.require_success()
    return finished.manifest("ask")


def of_task(receivers: Receivers, metric: table.Metric) -> list[Sample]:
    """The samples of a metric that the task's processes sent, without a hostname."""
    found = [one for one in receivers.samples if one.name == metric.name]
    return [one for one in found if TAGS.items() <= one.tags.items()]


def spans_of(receivers: Receivers, name: str) -> list[SentSpan]:
    return [
        span
        for span in receivers.collector.spans
        if span.name == name and span.attributes.get("airflow.dag_id") == "observed"
    ]


@pytest.mark.usefixtures("stack")
def test_metrics_arrive_from_the_workers_and_the_triggerer(receivers, manifest):
    """Counted once, although three processes had the task in hand."""
    receivers.wait_until(lambda: bool(of_task(receivers, table.ROWS)))

    for metric, value in (
        (table.BOUGHT, 1),
        (table.LANDED, 1),
        (table.ROWS, 3),
        (table.COST, round(manifest.cost.usd * 1_000_000)),
    ):
        assert [one.value for one in of_task(receivers, metric)] == [value], metric.name
    receivers.wait_until(lambda: of_task(receivers, table.IN_FLIGHT)[-1].value == 0)
    assert max(one.value for one in of_task(receivers, table.IN_FLIGHT)) == 1


@pytest.mark.usefixtures("stack", "manifest")
def test_the_spans_of_three_processes_are_one_trace_below_airflows_own(receivers):
    """The batch and the wait hang below the span of the worker that bought, which Airflow sent."""
    receivers.wait_until(
        lambda: bool(spans_of(receivers, f"chat {MODEL}") and spans_of(receivers, table.WAIT_SPAN.name))
    )
    (batch,), (wait,) = spans_of(receivers, f"chat {MODEL}"), spans_of(receivers, table.WAIT_SPAN.name)

    assert batch.trace_id == wait.trace_id
    assert batch.parent_id == wait.parent_id
    receivers.wait_until(lambda: any(span.span_id == batch.parent_id for span in receivers.collector.spans))
    assert batch.attributes["batch_provider.rows.succeeded"] == 3
    assert wait.attributes["batch_provider.end"] == "ready"


@pytest.mark.usefixtures("stack")
def test_openlineage_gets_the_rows_and_the_cost_of_the_worker_that_ended_the_task(receivers, manifest):
    """After a deferral, by the listener of Airflow's own provider."""

    def ends():
        events = lineage_events(receivers.lineage) if receivers.lineage.exists() else []
        return [one for one in events if (one["eventType"], one["job"]["name"]) == ("COMPLETE", "observed.ask")]

    receivers.wait_until(lambda: bool(ends()))
    (done,) = ends()
    usage = done["run"]["facets"][table.FACET]
    assert (usage["requests"], usage["rows"]["succeeded"], usage["costUsd"]) == (3, 3, manifest.cost.usd)
    assert usage["batches"] == list(manifest.batches)
    assert done["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3


@pytest.mark.usefixtures("stack")
def test_no_prompt_no_answer_and_no_key_is_in_what_the_whole_airflow_sends(receivers, manifest):
    """Of all DAGs of this folder so far."""
    sent = [repr(one).encode() for one in receivers.samples] + receivers.collector.bodies
    sent += [json.dumps(one).encode() for one in lineage_events(receivers.lineage)]
    everything = b"\n".join(sent)
    answers = [row.output for row in BatchResults(manifest)]
    assert len(answers) == 3
    for secret in ("Secret question", "marvellous", "dreadful", KEY, *answers):
        assert secret.encode() not in everything, secret
