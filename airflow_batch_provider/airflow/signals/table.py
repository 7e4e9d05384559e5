"""Every signal that the package gives, in one table: what is sent is named here, and the page `docs/signals.md` is made of it.

Names and attributes of GenAI are those of OpenTelemetry's semantic conventions for generative AI, status "Development"
(open-telemetry/semantic-conventions-genai, `gen-ai-token-metrics.md` and `client-inference.md`, read 2026-11-27).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TASK = ("dag_id", "task_id", "provider", "model")


@dataclass(frozen=True)
class Metric:
    """A metric of Airflow's, sent where `[metrics]` is set up; with OpenTelemetry its name begins with `airflow.`.

    Attributes:
        tags: names of its tags; each has few values.
        unit: of the number.
    """

    name: str
    kind: Literal["counter", "gauge"]
    tags: tuple[str, ...]
    unit: str
    meaning: str


@dataclass(frozen=True)
class Counter:
    """A counter of OpenTelemetry's GenAI conventions, sent where `[metrics] otel_on` is set."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Span:
    """A span, sent where `[traces] otel_on` is set, or a tracer provider of your own is."""

    name: str
    attributes: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Fact:
    """What lineage, asset events and notifiers carry."""

    name: str
    meaning: str


BOUGHT = Metric(
    "batch_provider.batches.bought", "counter", TASK, "batches", "a batch was bought, or found after its reply was lost"
)
LANDED = Metric("batch_provider.batches.landed", "counter", TASK, "batches", "the answers of a batch are in storage")
ROWS = Metric(
    "batch_provider.rows",
    "counter",
    (*TASK, "status"),
    "rows",
    "rows that landed, by status; one that is asked again counts each time",
)
TOKENS = Metric(
    "batch_provider.tokens",
    "counter",
    (*TASK, "kind"),
    "tokens",
    "tokens of landed answers, by kind: `input`, `output`, and parts of these, such as `cached`, `reasoning`",
)
COST = Metric(
    "batch_provider.cost.micro_usd",
    "counter",
    TASK,
    "millionths of a US dollar",
    "cost of landed answers, where the model has a known price",
)
IN_FLIGHT = Metric(
    "batch_provider.batches.in_flight",
    "gauge",
    (*TASK, "hostname"),
    "batches",
    "bought and not landed, of all tasks that wait in this process",
)
WINDOW = Metric(
    "batch_provider.window.used",
    "gauge",
    (*TASK, "hostname"),
    "share, 0 to 1",
    "how much of the time until the deadline has passed, of the task that is nearest to it",
)
POLL_LAG = Metric(
    "batch_provider.poll.lag",
    "gauge",
    (*TASK, "hostname"),
    "seconds",
    "by how much the most belated poll since the last report was late; grows when the triggerer has too much to do",
)
SWEEPS = Metric(
    "batch_provider.sweeps",
    "counter",
    ("provider", "outcome"),
    "sweeps",
    "one answer of a provider for all batches that were due; `outcome` is `answered` or `failed`",
)
METRICS = (BOUGHT, LANDED, ROWS, TOKENS, COST, IN_FLIGHT, WINDOW, POLL_LAG, SWEEPS)

INPUT = Counter("gen_ai.client.inference.usage.input_tokens", "input, cached tokens included")
OUTPUT = Counter("gen_ai.client.inference.usage.output_tokens", "output, reasoning included")
CACHE_READ = Counter(
    "gen_ai.client.inference.usage.cache_read.input_tokens", "the part of the input that a cache served"
)
CACHE_WRITE = Counter(
    "gen_ai.client.inference.usage.cache_write.input_tokens", "the part of the input that was written to a cache"
)
REASONING = Counter(
    "gen_ai.client.inference.usage.reasoning.output_tokens", "the part of the output that was reasoning"
)
COUNTERS = (INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING)
COUNTER_ATTRIBUTES = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.modality")

_OF_TASK = (
    "airflow.dag_id",
    "airflow.task_id",
    "airflow.dag_run.run_id",
    "airflow.task_instance.try_number",
    "airflow.task_instance.map_index",
)
BATCH_SPAN = Span(
    "{gen_ai.operation.name} {gen_ai.request.model}",
    (
        *_OF_TASK,
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "batch_provider.batch_id",
        "batch_provider.wave",
        "batch_provider.rows.<status>",
        "batch_provider.cost.usd",
    ),
    "one batch, from its purchase to the landing of its answers; a child of the worker's span that bought it",
)
WAIT_SPAN = Span(
    "batch_provider.wait",
    (
        *_OF_TASK,
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "batch_provider.batches",
        "batch_provider.polls",
        "batch_provider.end",
    ),
    "one wait, from the suspension's first moment in the triggerer to its event; a child of the worker's span that suspended. "
    "`batch_provider.end` is `ready`, `failed`, `timeout`, `near` or `stopped`",
)
RUN_SPAN = Span(
    "batch_provider.run",
    (),
    "one run of a task on a worker, where Airflow has no span for it: in `dag.test`, before 3.2",
)
SPANS = (BATCH_SPAN, WAIT_SPAN, RUN_SPAN)

FACET = "batchProvider_usage"
LINEAGE = (
    Fact("input dataset", "the `source`, with the facet `inputStatistics`: number of rows"),
    Fact("output dataset", "the results, with the facet `outputStatistics`: number of rows"),
    Fact("run facet `externalQuery`", "the batch's id and its provider, where the task had one batch"),
    Fact(
        f"run facet `{FACET}`",
        "`provider`, `model`, `requests`, `rows` by status, `tokens` by kind, `costUsd`, `savedUsd`, `currency`, "
        "`isEstimated`, `waves`, `batches`",
    ),
)

ASSET_EXTRA = (
    Fact("provider", "who was asked"),
    Fact("model", "which model"),
    Fact("requests", "number of rows"),
    Fact("rows", "row status → number"),
    Fact("tokens", "kind → number"),
    Fact("cost_usd", "US dollars; null where the model has no known price"),
    Fact("saved_usd", "US dollars less than the same rows cost one by one"),
    Fact("results", "where the rows are"),
    Fact("dry_run", "true when nothing was bought"),
)

NOTIFIERS = (
    Fact(
        "on_deadline_near",
        "80 % of the time until the deadline has passed while the task waits; once for each deadline",
    ),
    Fact("on_unresolved", "it cannot be known whether a batch was bought, and a person must look"),
    Fact(
        "on_budget",
        "a limit of money refuses to buy, at the start, or the rest of the rows of a task that ends well without them",
    ),
)
NOTICE = (
    Fact("batch_signal.name", "`deadline_near`, `unresolved` or `budget`"),
    Fact("batch_signal.message", "what happened and what to do, one sentence or two"),
    Fact("batch_signal.batch_ids", "what is waited for; empty where nothing is"),
    Fact("batch_signal.deadline", "when it ends, ISO 8601; null where nothing is waited for"),
)
