"""The two operators that most people need: they build the configuration of the built-in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch_provider.airflow import settings
from airflow_batch_provider.airflow.exceptions import as_airflow_errors
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.operators.jinja import for_jinja, has_jinja, unrendered
from airflow_batch_provider.operators.opaque import OpaqueInput, is_late
from airflow_batch_provider.operators.siblings import check_own_file
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.providers import codec_class, connection_ref, split_model
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.shapes import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.stages import PollConfig
    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.runner import Outcome, StageRun
    from airflow_batch_provider.stages.suspension import Suspension

_DEFAULT_CONNECTIONS = {"anthropic": "anthropic_default", "openai": "openai_default", "google": "gemini_default"}

# Stands for a value that is only known when the task runs.
_LATER = "later"
_LATER_TEXT = "{later}"


def _is_late_text(text: Any) -> bool:
    return has_jinja(text) if isinstance(text, str) else is_late(text)


class BatchOperator(StageOperator):
    """What both operators share, and private as that: rows from `requests` or from a `source`, and the configuration of their stage."""

    kind: ClassVar[Literal["generate", "embed"]]
    template_fields: Sequence[str] = ("requests", "source", "prompt", "model", "conn_id", "result_path", "storage_path")
    system: str | None = None
    ui_color = "#e8f0e4"

    def execute(self, context: Context) -> Any:
        """Ask every row; ends with the manifest, or by deferring the task."""
        return self._ask(context)

    def _ask(self, context: Context) -> Any:
        with as_airflow_errors():
            dag = self.dag if self.has_dag() else None  # type: ignore[no-untyped-call]  # Airflow's has no annotations
            task = dag.task_dict.get(self.task_id) if dag else None
            check_own_file(task, self._result_path, self.result_path, context)
            config = self._config()
        return self._begin(context, config, self.requests.value(context))

    def _configure(  # noqa: PLR0913 — the arguments that are attributes of the operator
        self,
        requests: Any,
        *,
        model: str,
        source: str | None,
        prompt: str | None,
        key: str | None,
        conn_id: str | None,
        result_path: str | None,
        storage_path: str | None,
        deferrable: bool,
        **options: Any,
    ) -> None:
        """Keep an operator's arguments; `options` go into the stage's configuration as they are."""
        self.requests = OpaqueInput(requests)
        self.model = model
        self.source = source
        self.prompt = for_jinja(prompt)
        self.key = key
        self.conn_id = conn_id
        self.result_path = self._result_path = result_path
        self.storage_path = storage_path
        self.deferrable = deferrable
        self.options = {"poll": settings.poll()} | {name: value for name, value in options.items() if value is not None}
        self.requests.connect(self)
        self._check()

    def _check(self) -> None:
        """Refuse, while the DAG is parsed, a mistake that can be seen then."""
        if self.requests.is_none == (self.source is None):
            raise UsageError(f"Task {self.task_id!r} needs exactly one of requests= and source=.")
        if self.source is None and not (self.prompt is None and self.key is None):
            raise UsageError(f"Task {self.task_id!r} has prompt= or key= without source=: they describe a file's rows.")
        config = self._config(parsing=True)
        if config.provider is not None:
            self._check_spec(config)

    def _check_spec(self, config: BatchConfig) -> None:
        """Refuse what the model's provider does not take of every row: parameters, schema, kind of model."""
        assert config.provider is not None
        try:
            codec_class(config.provider)().check_spec(config.spec)
        except UsageError as error:
            raise UsageError(f"Task {self.task_id!r}: {error}") from None

    def _config(self, *, parsing: bool = False) -> BatchConfig:
        """Make the stage's configuration; while the DAG is parsed, a stand-in replaces a value that is only known later."""
        model, conn_id, result_path, source = (
            _LATER if parsing and is_late(value) else value
            for value in (self.model, self.conn_id, self.result_path, self.source)
        )
        prompt, system = (
            _LATER_TEXT if parsing and _is_late_text(text) else unrendered(text) for text in (self.prompt, self.system)
        )
        fields = {
            **self.options,
            "kind": self.kind,
            "model": model,
            "connection": self._connection(model, conn_id),
            "result_path": result_path,
        }
        if system is not None:
            fields["system"] = system
        if source is not None:
            fields["source"] = {"uri": source, "prompt": prompt, "key": self.key}
        config: BatchConfig = parse(BatchConfig, fields, f"Task {self.task_id!r}")
        return config

    def _proceed(self, run: StageRun, context: Context, suspension: Suspension, event: Event) -> Outcome:
        """Give the saved configuration the type of the answers, which no file can hold."""
        given = self.options.get("output_type")
        if given is not None:
            saved, known = run.load_config(), OutputType.of(given)
            if saved.output_type == known:
                run.config = saved.model_copy(update={"output_type": known})
        return super()._proceed(run, context, suspension, event)

    @staticmethod
    def _connection(model: Any, conn_id: Any) -> ConnectionRef:
        if conn_id is not None:
            return connection_ref(conn_id, str(model))
        if model == _LATER:
            return ConnectionRef(conn_id=_LATER)
        provider = split_model(model)[0]
        if provider is None:
            raise UsageError(
                f"Model {model!r} names no provider. Write it with one ('openai:{model}'), or give conn_id= of a connection."
            )
        return connection_ref(_DEFAULT_CONNECTIONS[provider], model)


class BatchGenerateOperator(BatchOperator):
    """Asks a model every request, in batch, at half price; returns the manifest.

    Args:
        model: `claude-…`, or with its provider, `openai:gpt-…`; templated.
        requests: list of str, dict or `BatchRequest`, or an XComArg of one; never templated, never in rendered fields.
        source: `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file of rows, a folder or a glob of them, a URI; templated.
        prompt: for `source`: a text with the row's columns in braces, `Classify: {text}`. Airflow renders it once for each
            task, `On {{ ds }}: {text}`, before the rows are filled in, which are never templates; the braces of JSON are
            written twice, `Answer {{"label": "…"}}: {text}`.
        key: for `source`: the column that holds the `custom_id`.
        conn_id: Airflow connection; by default `anthropic_default`, `openai_default` or `gemini_default`, by the model.
        system: system text for every row; templated.
        output_type: what every answer must be: any type that pydantic knows (model class, dataclass, TypedDict, `list[Model]`,
            Literal, union …), whose own validators and configuration decide when the answers land, or a JSON schema.
        max_tokens: tokens of one answer; default 1024.
        request_params: further fields of the provider's request body; a row's own win.
        result_path: file for the rows, or a folder, in which each task instance has a file of its own,
            `dag/run/task[/map_index]/results.jsonl`; a URI; templated; stage storage by default. Mapped tasks give a folder, or a
            file with `{{ ti.map_index }}` in its name.
        result_format: `jsonl` (default) or `parquet`.
        poll: `quick`, `medium`, `long` or a `PollConfig`; `[batch_provider] poll` by default.
        deferrable: False waits on the worker.
        retry_rows: waves after the first for rows without a good answer; default 2.
        retry_truncated: text that was cut off at `max_tokens` counts as failed and is asked again with twice the room each time,
            up to the model's own maximum (default); False takes it for a good answer, which the receipt tells.
        min_success_ratio: share of good answers below which the task fails; by default it fails only without any.
        on_partial: `fail` wants a good answer for every row; default `succeed`.
        on_bad_row: `fail` (default) refuses rows that cannot be asked, up to 20 at once; `skip` keeps them in the results as
            `failed`, with the reason, and asks the others.
        on_empty: `fail` (default) refuses an input without rows; `skip` returns a manifest of 0 requests.
        max_cost_usd: refuse before paying when the estimate is above; US dollars.
        max_in_flight: most batches at the provider at once.
        max_enqueued_tokens: most estimated input tokens at the provider at once.
        on_timeout: `fail` (default), `salvage` or `leave`, see `BatchConfig`.
        dry_run: count, validate and estimate; buy nothing.
        clean_up: remove the files at the provider once their rows have landed; default True.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.

    Raises:
        UsageError: while the DAG is parsed, for a mistake that can be seen then.
    """

    kind = "generate"
    stage = "airflow_batch_provider.stages.generate.GenerateStage"
    template_fields: Sequence[str] = (*BatchOperator.template_fields, "system")

    def __init__(  # noqa: PLR0913 — an operator's arguments are its public face
        self,
        *,
        model: str,
        requests: Any = None,
        source: str | None = None,
        prompt: str | None = None,
        key: str | None = None,
        conn_id: str | None = None,
        system: str | None = None,
        output_type: Any = None,
        max_tokens: int = 1024,
        request_params: dict[str, Any] | None = None,
        result_path: str | None = None,
        result_format: Literal["jsonl", "parquet"] = "jsonl",
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        retry_rows: int = 2,
        retry_truncated: bool = True,
        min_success_ratio: float = 0.0,
        on_partial: Literal["succeed", "fail"] = "succeed",
        on_bad_row: Literal["fail", "skip"] = "fail",
        on_empty: Literal["fail", "skip"] = "fail",
        max_cost_usd: float | None = None,
        max_in_flight: int | None = None,
        max_enqueued_tokens: int | None = None,
        on_timeout: Literal["fail", "salvage", "leave"] = "fail",
        dry_run: bool = False,
        clean_up: bool = True,
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.system = for_jinja(system)
        self._configure(
            requests,
            model=model,
            source=source,
            prompt=prompt,
            key=key,
            conn_id=conn_id,
            storage_path=storage_path,
            deferrable=deferrable,
            output_type=output_type,
            max_tokens=max_tokens,
            request_params=request_params,
            result_path=result_path,
            result_format=result_format,
            poll=poll,
            retry_rows=retry_rows,
            retry_truncated=retry_truncated,
            min_success_ratio=min_success_ratio,
            on_partial=on_partial,
            on_bad_row=on_bad_row,
            on_empty=on_empty,
            max_cost_usd=max_cost_usd,
            max_in_flight=max_in_flight,
            max_enqueued_tokens=max_enqueued_tokens,
            on_timeout=on_timeout,
            dry_run=dry_run,
            clean_up=clean_up,
        )


class BatchEmbedOperator(BatchOperator):
    """Turns every text into a vector, in batch; returns the manifest.

    Args:
        model: `claude-…`, or with its provider, `openai:gpt-…`; templated.
        requests: list of str, dict or `BatchRequest`, or an XComArg of one; never templated, never in rendered fields.
        source: `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file of rows, a folder or a glob of them, a URI; templated.
        prompt: for `source`: a text with the row's columns in braces, `Classify: {text}`. Airflow renders it once for each
            task, `On {{ ds }}: {text}`, before the rows are filled in, which are never templates; the braces of JSON are
            written twice, `Answer {{"label": "…"}}: {text}`.
        key: for `source`: the column that holds the `custom_id`.
        conn_id: Airflow connection; by default `anthropic_default`, `openai_default` or `gemini_default`, by the model.
        request_params: further fields of the provider's request body; a row's own win.
        result_path: file for the rows, or a folder, in which each task instance has a file of its own,
            `dag/run/task[/map_index]/results.jsonl`; a URI; templated; stage storage by default. Mapped tasks give a folder, or a
            file with `{{ ti.map_index }}` in its name.
        result_format: `jsonl` (default) or `parquet`.
        poll: `quick`, `medium`, `long` or a `PollConfig`; `[batch_provider] poll` by default.
        deferrable: False waits on the worker.
        retry_rows: waves after the first for rows without a good answer; default 2.
        min_success_ratio: share of good answers below which the task fails; by default it fails only without any.
        on_partial: `fail` wants a good answer for every row; default `succeed`.
        on_bad_row: `fail` (default) refuses rows that cannot be asked, up to 20 at once; `skip` keeps them in the results as
            `failed`, with the reason, and asks the others.
        on_empty: `fail` (default) refuses an input without rows; `skip` returns a manifest of 0 requests.
        max_cost_usd: refuse before paying when the estimate is above; US dollars.
        max_in_flight: most batches at the provider at once.
        max_enqueued_tokens: most estimated input tokens at the provider at once.
        on_timeout: `fail` (default), `salvage` or `leave`, see `BatchConfig`.
        dry_run: count, validate and estimate; buy nothing.
        clean_up: remove the files at the provider once their rows have landed; default True.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.

    Raises:
        UsageError: while the DAG is parsed, for a mistake that can be seen then.
    """

    kind = "embed"
    stage = "airflow_batch_provider.stages.embed.EmbedStage"

    def __init__(  # noqa: PLR0913 — an operator's arguments are its public face
        self,
        *,
        model: str,
        requests: Any = None,
        source: str | None = None,
        prompt: str | None = None,
        key: str | None = None,
        conn_id: str | None = None,
        request_params: dict[str, Any] | None = None,
        result_path: str | None = None,
        result_format: Literal["jsonl", "parquet"] = "jsonl",
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        retry_rows: int = 2,
        min_success_ratio: float = 0.0,
        on_partial: Literal["succeed", "fail"] = "succeed",
        on_bad_row: Literal["fail", "skip"] = "fail",
        on_empty: Literal["fail", "skip"] = "fail",
        max_cost_usd: float | None = None,
        max_in_flight: int | None = None,
        max_enqueued_tokens: int | None = None,
        on_timeout: Literal["fail", "salvage", "leave"] = "fail",
        dry_run: bool = False,
        clean_up: bool = True,
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._configure(
            requests,
            model=model,
            source=source,
            prompt=prompt,
            key=key,
            conn_id=conn_id,
            storage_path=storage_path,
            deferrable=deferrable,
            request_params=request_params,
            result_path=result_path,
            result_format=result_format,
            poll=poll,
            retry_rows=retry_rows,
            min_success_ratio=min_success_ratio,
            on_partial=on_partial,
            on_bad_row=on_bad_row,
            on_empty=on_empty,
            max_cost_usd=max_cost_usd,
            max_in_flight=max_in_flight,
            max_enqueued_tokens=max_enqueued_tokens,
            on_timeout=on_timeout,
            dry_run=dry_run,
            clean_up=clean_up,
        )
