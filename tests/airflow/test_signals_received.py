"""A task of a real Airflow, and what real receivers on loopback got of it: statsd, OpenTelemetry, OpenLineage."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from receivers import Collector, Sample, Statsd, lineage_events

from airflow_batch_provider.airflow.signals import metrics, outbox, table
from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages import PollConfig

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests/support"
MODEL = "claude-sonnet-4-5"
TAGS = {"dag_id": "observed", "task_id": "ask", "provider": "anthropic", "model": MODEL}
SETTINGS = Settings(progress=Progress(by="polls", pending=0, running=1, finalizing=0))


@dataclass(frozen=True)
class Observed:
    """What a run came to, and what was received of it."""

    states: dict[str, str]
    extras: list[dict[str, Any]]
    samples: list[Sample]
    collector: Collector
    lineage: list[dict[str, Any]]
    answers: list[str]
    folder: Path

    def numbers(self, metric: table.Metric) -> list[float]:
        return [one.value for one in self.samples if one.name == metric.name]

    def lineage_of(self, kind: str) -> dict[str, Any]:
        """The last event of this kind of the task."""
        return [one for one in self.lineage if one["eventType"] == kind and one["job"]["name"] == "observed.ask"][-1]


@pytest.fixture(scope="module")
def observed(database, tmp_path_factory) -> Observed:
    """Three rows of a file, asked by a task whose signals are all on."""
    folder = tmp_path_factory.mktemp("observed")
    source, results, events = folder / "rows.csv", folder / "out.jsonl", folder / "lineage.jsonl"
    source.write_text("id,text\na,marvellous\nb,dreadful\nc,whatever\n")
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    with EmulatorServer(SETTINGS) as emulator, Statsd() as statsd, Collector() as collector:
        environment = {
            **os.environ,
            **to_emulator(emulator),
            **statsd.environment,
            **collector.environment,
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": (folder / "batches").as_uri(),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]),
        }
        command = [sys.executable, str(SUPPORT / "observed_dag.py"), str(source), str(results)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert "\nOBSERVED " in run.stdout, run.stdout[-5000:] + run.stderr[-5000:]
        told = json.loads(run.stdout.rpartition("\nOBSERVED ")[2].splitlines()[0])
        samples = statsd.read()
    rows = [json.loads(line)["output"] for line in results.read_text().splitlines()]
    return Observed(
        **told, samples=samples, collector=collector, lineage=lineage_events(events), answers=rows, folder=folder
    )


@pytest.mark.slow
def test_the_metrics_arrive_with_their_tags(observed):
    """By Airflow's own way to statsd; the task's numbers are those of its results."""
    assert observed.states == {"ask": "success"}
    told = {one.name: one for one in observed.samples if one.kind == "c" and one.name.startswith("batch_provider")}
    assert {name: one.value for name, one in told.items() if name not in (table.TOKENS.name, table.SWEEPS.name)} == {
        table.BOUGHT.name: 1,
        table.LANDED.name: 1,
        table.ROWS.name: 3,
        table.COST.name: round(observed.extras[0]["cost_usd"] * 1_000_000),
    }
    assert told[table.BOUGHT.name].tags == TAGS
    assert told[table.ROWS.name].tags == {**TAGS, "status": "succeeded"}
    assert told[table.SWEEPS.name].tags == {"provider": "anthropic", "outcome": "answered"}
    kinds = {one.tags["kind"]: one.value for one in observed.samples if one.name == table.TOKENS.name}
    assert kinds == observed.extras[0]["tokens"]


@pytest.mark.slow
def test_the_gauges_rise_while_the_task_waits_and_fall_when_it_is_over(observed):
    """Sent by the process that polls."""
    assert observed.numbers(table.IN_FLIGHT)[0] == 1
    assert observed.numbers(table.IN_FLIGHT)[-1] == 0
    assert 0 < observed.numbers(table.WINDOW)[0] < 1
    assert all(0 <= late < 60 for late in observed.numbers(table.POLL_LAG))


@pytest.mark.slow
def test_no_metric_is_sent_that_the_table_does_not_name(observed):
    """And none with another tag."""
    known = {one.name: one for one in table.METRICS}
    sent = [one for one in observed.samples if "batch_provider" in one.name]
    assert {one.name for one in sent} == set(known)
    assert {(one.name, tag) for one in sent for tag in one.tags} == {
        (metric.name, tag) for metric in table.METRICS for tag in metric.tags
    }


@pytest.mark.slow
def test_purchase_wait_and_landing_are_one_trace(observed):
    """The wait and the landing were in other runs of the task than the purchase, and hang below that one."""
    spans = observed.collector.spans
    batch, wait = observed.collector.span(f"chat {MODEL}"), observed.collector.span(table.WAIT_SPAN.name)
    first, second = (one for one in spans if one.name == table.RUN_SPAN.name)
    assert (batch.parent_id, wait.parent_id) == (first.span_id, first.span_id)
    assert batch.trace_id == wait.trace_id == first.trace_id
    assert second.trace_id != first.trace_id  # nothing but what is kept in storage joins them
    assert batch.seconds > wait.seconds > 0


@pytest.mark.slow
def test_the_spans_have_the_attributes_of_the_table(observed):
    """In the words of the GenAI conventions where they have one."""
    batch, wait = observed.collector.span(f"chat {MODEL}"), observed.collector.span(table.WAIT_SPAN.name)
    tokens = observed.extras[0]["tokens"]
    assert batch.attributes["gen_ai.operation.name"] == "chat"
    assert batch.attributes["gen_ai.usage.input_tokens"] == tokens["input"]
    assert batch.attributes["gen_ai.usage.output_tokens"] == tokens["output"]
    assert batch.attributes["batch_provider.rows.succeeded"] == 3
    assert batch.attributes["batch_provider.cost.usd"] == pytest.approx(observed.extras[0]["cost_usd"])
    assert wait.attributes["batch_provider.end"] == "ready"
    assert wait.attributes["batch_provider.polls"] >= 1
    statuses = {name.replace("succeeded", "<status>") for name in batch.attributes}
    assert statuses <= set(table.BATCH_SPAN.attributes)
    assert set(wait.attributes) == set(table.WAIT_SPAN.attributes)


@pytest.mark.slow
def test_tokens_are_counted_once_under_the_names_of_the_conventions(observed):
    """At landing; two polls were made before."""
    counted = {one.name: one for one in observed.collector.metrics if one.name.startswith("gen_ai.")}
    tokens = observed.extras[0]["tokens"]
    assert {name: one.value for name, one in counted.items()} == {
        table.INPUT.name: tokens["input"],
        table.OUTPUT.name: tokens["output"],
    }
    assert {tuple(sorted(one.tags)) for one in counted.values()} == {tuple(sorted(table.COUNTER_ATTRIBUTES))}
    assert counted[table.INPUT.name].tags["gen_ai.token.modality"] == "unknown"


@pytest.mark.slow
def test_openlineage_is_told_the_datasets_with_their_rows_and_the_cost(observed):
    """By Airflow's provider for it, in its own events."""
    done = observed.lineage_of("COMPLETE")
    (read,), (written,) = done["inputs"], done["outputs"]
    assert (read["namespace"], read["name"]) == ("file", str(observed.folder / "rows.csv"))
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 3
    assert (written["namespace"], written["name"]) == ("file", str(observed.folder / "out.jsonl"))
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 3
    usage = done["run"]["facets"][table.FACET]
    assert usage["costUsd"] == observed.extras[0]["cost_usd"]
    assert usage["tokens"] == observed.extras[0]["tokens"]
    assert usage["rows"]["succeeded"] == usage["requests"] == 3
    assert usage["_schemaURL"].startswith("urn:airflow-batch-provider:")
    assert done["run"]["facets"]["externalQuery"]["externalQueryId"] == usage["batches"][0]
    fields = {name for name in usage if not name.startswith("_")}
    (fact,) = [one for one in table.LINEAGE if table.FACET in one.name]
    assert all(f"`{name}`" in fact.meaning or name in ("rows", "tokens") for name in fields)


@pytest.mark.slow
def test_a_task_that_begins_tells_openlineage_its_source(observed):
    """Rows and cost are not known yet."""
    begun = observed.lineage_of("START")
    assert [one["name"] for one in begun["inputs"]] == [str(observed.folder / "rows.csv")]
    assert begun["outputs"] == []


@pytest.mark.slow
def test_the_event_of_an_asset_has_counts_and_cost(observed):
    """For the DAGs that it starts."""
    (extra,) = observed.extras
    assert set(extra) == {fact.name for fact in table.ASSET_EXTRA}
    assert (extra["provider"], extra["model"], extra["requests"]) == ("anthropic", MODEL, 3)
    assert extra["rows"] == {"succeeded": 3}
    assert extra["cost_usd"] > 0
    assert extra["dry_run"] is False


@pytest.mark.slow
def test_no_prompt_and_no_answer_is_in_a_signal(observed):
    """Not in a name, a tag, an attribute or a facet; nor a key."""
    from airflow_batch_provider.demo.connections import KEY

    sent = [repr(one) for one in observed.samples] + [json.dumps(one) for one in observed.lineage]
    everything = b"\n".join([*observed.collector.bodies, *(one.encode() for one in sent)])
    assert len(observed.collector.bodies) >= 2
    assert len(observed.answers) == 3
    for secret in ("Secret question", "marvellous", "dreadful", "whatever", KEY, *observed.answers):
        assert secret.encode() not in everything, secret


def test_a_task_succeeds_though_no_signal_can_be_sent(tested, monkeypatch, caplog):
    """A statsd host that is none: one line in the log, and every row has its answer."""

    class Broken:
        def incr(self, *_args, **_tags):
            raise OSError("the metrics host is gone")

        gauge = incr

    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setattr(metrics, "_stats", Broken)
    caplog.set_level(logging.WARNING, outbox.__name__)
    with EmulatorServer(SETTINGS) as emulator:
        for name, value in to_emulator(emulator).items():
            monkeypatch.setenv(name, value)
        with DAG("unheard", schedule=None) as dag:
            poll = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=20), first_poll=timedelta(0))
            BatchGenerateOperator(task_id="ask", model=MODEL, requests=["one", "two"], poll=poll)
        run = tested(dag)

    assert run.state("ask") == "success"
    assert [row.status for row in BatchResults(run.xcom("ask"))] == ["succeeded"] * 2
    assert run.log.count("the metrics host is gone") + caplog.text.count("the metrics host is gone") == 1
