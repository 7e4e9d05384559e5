"""OpenTelemetry's spans and GenAI counters, where a provider for them is set up; no prompt and no answer is in them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.airflow.signals import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow_batch_provider.airflow.signals.waits import Wait
    from airflow_batch_provider.models import Kind, TaskKey
    from airflow_batch_provider.signals import BatchLanded, WaitEnd
    from airflow_batch_provider.usage import Usage

_SCOPE = "airflow_batch_provider"
_PROVIDERS = {"google": "gcp.gemini"}

# Gemini tells the tokens of each modality; of the others' it is not known what is in the rest.
_TELLS_TEXT = frozenset({"google"})


def are_on() -> bool:
    """Tell whether spans go anywhere."""
    from opentelemetry import trace  # noqa: PLC0415 — 30 ms that only a task spends

    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)


def run_span() -> AbstractContextManager[Any]:
    """Return the span of a run where Airflow has none: in `dag.test`, and before Airflow 3.2."""
    from opentelemetry import trace  # noqa: PLC0415

    if trace.get_current_span().get_span_context().is_valid:
        return nullcontext()
    tracer = trace.get_tracer(_SCOPE)
    # A deferral is an exception, too.
    return tracer.start_as_current_span(table.RUN_SPAN.name, record_exception=False, set_status_on_exception=False)


def traceparent() -> str | None:
    """Return the context of what runs now; None where it is not traced."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def landed(task: TaskKey, batch: BatchLanded) -> None:
    """Send the span of a batch that has landed."""
    operation = operation_of(batch.provider, batch.kind)
    usage = batch.usage
    attributes = {
        **_of_task(task),
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider_of(batch.provider),
        "gen_ai.request.model": batch.model,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.usage.cache_write.input_tokens": usage.cache_write_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
        "batch_provider.batch_id": batch.batch_id,
        "batch_provider.wave": batch.wave,
        "batch_provider.cost.usd": batch.cost.usd,
        **{f"batch_provider.rows.{status}": number for status, number in batch.rows.items()},
    }
    _span(f"{operation} {batch.model}", batch.traceparent, (batch.bought_at, batch.landed_at), attributes)


def waited(wait: Wait, end: WaitEnd, now: datetime) -> None:
    """Send the span of a wait that is over."""
    begun = wait.begun
    attributes = {
        **_of_task(wait.task),
        "gen_ai.provider.name": provider_of(begun.provider) if begun.provider else None,
        "gen_ai.request.model": begun.model,
        "batch_provider.batches": begun.batches,
        "batch_provider.polls": wait.polls,
        "batch_provider.end": end,
    }
    _span(table.WAIT_SPAN.name, begun.traceparent, (begun.now, now), attributes)


def count_tokens(batch: BatchLanded) -> None:
    """Add to the counters of GenAI."""
    from opentelemetry import metrics  # noqa: PLC0415

    meter = metrics.get_meter(_SCOPE)
    attributes = {
        "gen_ai.operation.name": operation_of(batch.provider, batch.kind),
        "gen_ai.provider.name": provider_of(batch.provider),
        "gen_ai.request.model": batch.model,
    }
    for counter, modality, number in _by_modality(batch.usage, batch.provider):
        instrument = meter.create_counter(counter.name, unit="{token}", description=counter.meaning)
        instrument.add(number, {**attributes, "gen_ai.token.modality": modality})


def _by_modality(usage: Usage, provider: str) -> Iterator[tuple[table.Counter, str, int]]:
    """Yield the tokens of each counter, each token once; a rest whose modality the provider does not tell is `unknown`."""
    rest = "text" if provider in _TELLS_TEXT else "unknown"
    parts = {
        table.INPUT: (
            usage.input_tokens,
            {"audio": usage.input_audio_tokens, "image": usage.input_image_tokens, "video": usage.input_video_tokens},
        ),
        table.OUTPUT: (usage.output_tokens, {"audio": usage.output_audio_tokens, "image": usage.output_image_tokens}),
        table.CACHE_READ: (usage.cached_tokens, {"audio": usage.cached_audio_tokens}),
        table.CACHE_WRITE: (usage.cache_write_tokens, {}),
        table.REASONING: (usage.reasoning_tokens, {}),
    }
    for counter, (whole, known) in parts.items():
        for modality, number in {**known, rest: max(whole - sum(known.values()), 0)}.items():
            if number:
                yield counter, modality, number


def operation_of(provider: str, kind: Kind) -> str:
    """Return the operation in OpenTelemetry's words."""
    if kind == "embed":
        return "embeddings"
    return "generate_content" if provider == "google" else "chat"


def provider_of(provider: str) -> str:
    """Return the provider in OpenTelemetry's words."""
    return _PROVIDERS.get(provider, provider)


def _of_task(task: TaskKey) -> dict[str, Any]:
    """Return what Airflow's own spans say of a task (3.3.2, `triggerer_job_runner._make_trigger_span`)."""
    return {
        "airflow.dag_id": task.dag_id,
        "airflow.task_id": task.task_id,
        "airflow.dag_run.run_id": task.run_id,
        "airflow.task_instance.try_number": task.try_number,
        "airflow.task_instance.map_index": task.map_index,
    }


def _span(name: str, parent: str | None, times: tuple[datetime, datetime], attributes: dict[str, Any]) -> None:
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    context = TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {})
    begin, end = (int(moment.timestamp() * 1_000_000) * 1000 for moment in times)
    known = {key: value for key, value in attributes.items() if value is not None}
    tracer = trace.get_tracer(_SCOPE)
    tracer.start_span(name, context, trace.SpanKind.CLIENT, known, start_time=begin).end(max(end, begin))
