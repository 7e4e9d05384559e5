"""What a task tells in this process: its gauges, its numbers in the words of others, and who is told when."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_batch_provider.airflow import signals
from airflow_batch_provider.airflow.signals import lineage, metrics, page, table, traces, waits
from airflow_batch_provider.models import Cost, TaskKey
from airflow_batch_provider.signals import SILENT, BatchLanded, WaitBegun
from airflow_batch_provider.usage import Usage

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TASK = TaskKey("dag", "run", "ask", 3)
PAGE = Path(__file__).parents[2] / "docs/signals.md"


class Stats:
    """Airflow's metrics as a list."""

    def __init__(self):
        self.sent = []

    def incr(self, name, number, *, tags):
        self.sent.append((name, number, tags))

    def gauge(self, name, value, *, tags):
        self.sent.append((name, value, tags))

    def of(self, metric):
        return [(value, tags) for name, value, tags in self.sent if name == metric.name]


@pytest.fixture
def stats(monkeypatch):
    stats = Stats()
    monkeypatch.setattr(metrics, "_stats", lambda: stats)
    return stats


def begun(batches=1, passed=timedelta(0), model="m"):
    started = NOW - passed
    return WaitBegun(
        provider="openai",
        model=model,
        batches=batches,
        started_at=started,
        deadline=started + timedelta(hours=10),
        now=NOW,
    )


def batch(**changes):
    plain = BatchLanded(
        provider="openai",
        model="m",
        kind="generate",
        batch_id="b",
        wave=0,
        rows={"succeeded": 3, "failed": 0},
        usage=Usage(input_tokens=10, cached_tokens=4, output_tokens=5),
        cost=Cost(usd=0.5),
        bought_at=NOW,
        landed_at=NOW,
    )
    return dataclasses.replace(plain, **changes)


def test_the_page_is_made_of_the_table():
    """`make signals` renews it."""
    text = PAGE.read_text(encoding="utf-8")
    assert page.made(text) == text


def test_a_page_without_a_place_for_a_table_is_refused():
    """A table that is nowhere helps nobody."""
    with pytest.raises(ValueError, match="metrics, counters"):
        page.made("")


def test_mapped_instances_of_a_task_are_summed_up(stats):
    """One gauge for all of them, and the one nearest to its deadline counts."""
    every = waits.Waits(now=lambda: NOW)
    early, late = waits.Wait(TASK, begun(2)), waits.Wait(TASK, begun(3, passed=timedelta(hours=8)))
    early.late, late.late = 0.5, 2.5
    every.add(early)
    every.add(late)
    every.report()

    tags = {"dag_id": "dag", "task_id": "ask", "provider": "openai", "model": "m", "hostname": metrics.hostname()}
    assert stats.sent == [
        (table.IN_FLIGHT.name, 5, tags),
        (table.WINDOW.name, 0.8, tags),
        (table.POLL_LAG.name, 2.5, tags),
    ]


def test_a_task_that_waits_no_more_is_reported_as_nothing_once(stats):
    """A gauge keeps its last value for ever otherwise."""
    every, wait = waits.Waits(now=lambda: NOW), waits.Wait(TASK, begun(2, passed=timedelta(hours=1)))
    every.add(wait)
    every.report()
    every.remove(wait)
    every.report()
    every.report()

    assert [value for value, _ in stats.of(table.IN_FLIGHT)] == [2, 0]
    assert [value for value, _ in stats.of(table.WINDOW)] == [0.1, 0.0]


def test_a_lag_is_told_once(stats):
    """The worst since the last report."""
    every, wait = waits.Waits(now=lambda: NOW), waits.Wait(TASK, begun())
    wait.late = 4.0
    every.add(wait)
    every.report()
    every.report()

    assert [value for value, _ in stats.of(table.POLL_LAG)] == [4.0, 0.0]


def test_what_landed_is_counted_by_status_and_kind(stats):
    """What there is none of is not sent."""
    metrics.landed(TASK, batch())

    told = {name: (number, tags) for name, number, tags in stats.sent if name != table.TOKENS.name}
    task = {"dag_id": "dag", "task_id": "ask", "provider": "openai", "model": "m"}
    assert told == {
        table.LANDED.name: (1, task),
        table.ROWS.name: (3, {**task, "status": "succeeded"}),
        table.COST.name: (500_000, task),
    }
    assert {(tags["kind"], number) for number, tags in stats.of(table.TOKENS)} == {
        ("input", 10),
        ("cached", 4),
        ("output", 5),
    }


def test_a_model_without_a_price_has_no_cost(stats):
    """Not a cost of nothing."""
    metrics.landed(TASK, batch(cost=Cost(usd=None)))
    assert stats.of(table.COST) == []


def test_a_model_that_would_break_the_wire_is_a_harmless_tag(stats):
    """A model's name is a user's text: `:`, `|`, `,` and line breaks separate in statsd."""
    metrics.landed(TASK, batch(model="ft:gpt|4o,x=1\nevil" + "x" * 500))
    (_, tags), *_ = stats.of(table.LANDED)
    assert tags["model"].startswith("ft_gpt_4o_x_1_evil")
    assert len(tags["model"]) == 100


@pytest.mark.parametrize(
    ("provider", "kind", "operation", "named"),
    [
        ("anthropic", "generate", "chat", "anthropic"),
        ("openai", "embed", "embeddings", "openai"),
        ("google", "generate", "generate_content", "gcp.gemini"),
    ],
)
def test_providers_and_operations_have_opentelemetrys_names(provider, kind, operation, named):
    """Of the conventions for generative AI."""
    assert (traces.operation_of(provider, kind), traces.provider_of(provider)) == (operation, named)


@pytest.mark.parametrize(("provider", "rest"), [("google", "text"), ("anthropic", "unknown")])
def test_each_token_is_counted_under_one_modality(provider, rest):
    """The parts are the whole."""
    usage = Usage(input_tokens=100, input_audio_tokens=30, input_image_tokens=20, input_video_tokens=1, output_tokens=9)
    found = {(counter.name, modality): number for counter, modality, number in traces._by_modality(usage, provider)}
    whole = table.INPUT.name
    assert found == {
        (whole, "audio"): 30,
        (whole, "image"): 20,
        (whole, "video"): 1,
        (whole, rest): 49,
        (table.OUTPUT.name, rest): 9,
    }


def test_nothing_is_told_where_nothing_is_set_up():
    """No thread, no span, no trace context in files."""
    assert signals.task_signals(TASK) is SILENT
    assert signals.hub_signals() is SILENT
    assert SILENT.traceparent() is None


def test_a_wrong_setting_of_metrics_ends_no_task(monkeypatch, caplog):
    """Airflow itself may refuse it elsewhere."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "perhaps")
    assert signals.task_signals(TASK) is SILENT
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("breaks", ["begin", "end"])
def test_a_span_that_breaks_ends_no_run(monkeypatch, caplog, breaks):
    """A sampler or a processor of the deployment's own may raise anything; an error of the run itself goes through."""

    @contextmanager
    def broken():
        if breaks == "begin":
            raise OSError("no sampler")
        yield
        raise OSError("no processor")

    monkeypatch.setattr(traces, "are_on", lambda: True)
    monkeypatch.setattr(traces, "run_span", broken)

    with signals.running():
        pass
    with pytest.raises(KeyError), signals.running():
        raise KeyError
    assert len(caplog.records) == 2


def test_a_poll_costs_next_to_nothing():
    """Far below 0.1 ms: a number is kept, and the thread that reports does the rest."""
    import time

    told = signals._TaskWait(waits.Wait(TASK, begun()), has_metrics=True, has_traces=True)
    began = time.process_time()
    for _ in range(100_000):
        told.polled(0.01)
    assert time.process_time() - began < 1.0  # 10 µs each; 0.4 µs were measured


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://conn_id@bucket/a/b.csv", ("s3://bucket", "a/b.csv")),
        ("gs://bucket/a.parquet", ("gs://bucket", "a.parquet")),
        ("file:///data/a%20b.jsonl", ("file", "/data/a b.jsonl")),
        ("/data/rows.csv", ("file", "/data/rows.csv")),
        ("s3://bucket", ("s3://bucket", "/")),
        ("abfs://conn_id@rows/a.csv", ("abfs://rows", "a.csv")),
        ("abfss://rows@acc.dfs.core.windows.net/a.csv", ("abfss://rows@acc.dfs.core.windows.net", "a.csv")),
        ("abfss://c@rows@acc.dfs.core.windows.net/a.csv", ("abfss://rows@acc.dfs.core.windows.net", "a.csv")),
        ("wasbs://rows@acc.blob.core.windows.net/a", ("wasbs://rows@acc.blob.core.windows.net", "a")),
        ("s3://conn_id@bucket.with.dots/a.csv", ("s3://bucket.with.dots", "a.csv")),
    ],
)
def test_datasets_are_named_by_store_and_path(uri, named):
    """Without the connection that Airflow writes into an address."""
    assert lineage.dataset_name(uri) == named


def test_without_openlineage_there_is_no_lineage(monkeypatch):
    """It is an extra."""
    import sys

    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert lineage.lineage("s3://b/rows.csv", None) is None
