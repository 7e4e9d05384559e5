"""The two operators most people need: thin doors to the built-in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.operators import settings
from airflow_batch_provider.operators.errors import as_airflow_errors
from airflow_batch_provider.operators.given import Given, is_late
from airflow_batch_provider.operators.legs import StageLegs
from airflow_batch_provider.providers import account_ref, split_model
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.triggers.suspension import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import BaseModel

_DEFAULT_CONNECTIONS = {"anthropic": "anthropic_default", "openai": "openai_default", "google": "gemini_default"}
_STAGES = {
    "generate": "airflow_batch_provider.stages.generate.GenerateStage",
    "embed": "airflow_batch_provider.stages.embed.EmbedStage",
}


class _BatchOperator(StageLegs, BaseOperator):
    """What both share: rows from `requests` or from a `source`, and how they are asked, waited for and kept."""

    kind: ClassVar[Literal["generate", "embed"]]
    template_fields: Sequence[str] = ("requests", "source", "model", "conn_id", "result_path", "storage_path")
    ui_color = "#e8f0e4"

    def __init__(  # noqa: PLR0913 — an operator's arguments are its public face
        self,
        *,
        model: str,
        requests: Any = None,
        source: str | None = None,
        prompt: str | None = None,
        key: str | None = None,
        conn_id: str | None = None,
        result_path: str | None = None,
        result_format: Literal["jsonl", "parquet"] = "jsonl",
        request_params: dict[str, Any] | None = None,
        retry_rows: int | None = None,
        min_success_ratio: float | None = None,
        on_partial: Literal["succeed", "fail"] = "succeed",
        max_cost_usd: float | None = None,
        max_in_flight: int | None = None,
        max_enqueued_tokens: int | None = None,
        on_timeout: Literal["fail", "salvage", "leave"] = "fail",
        dry_run: bool = False,
        clean_up: bool = True,
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        storage_path: str | None = None,
        asked: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stage = _STAGES[self.kind]
        self.model = model
        self.requests = Given(requests)
        self.source = source
        self.prompt = prompt
        self.key = key
        self.conn_id = conn_id
        self.result_path = result_path
        self.poll = settings.poll() if poll is None else PollConfig.of(poll)
        self.deferrable = deferrable
        self.storage_path = storage_path
        self.options = {
            **(asked or {}),
            "result_format": result_format,
            "request_params": request_params,
            "retry_rows": retry_rows,
            "min_success_ratio": min_success_ratio,
            "on_partial": on_partial,
            "max_cost_usd": max_cost_usd,
            "max_in_flight": max_in_flight,
            "max_enqueued_tokens": max_enqueued_tokens,
            "on_timeout": on_timeout,
            "dry_run": dry_run,
            "clean_up": clean_up,
            "poll": self.poll,
        }
        self.requests.connect(self)
        self._check()

    def execute(self, context: Context) -> Any:
        """Ask every row; ends with the manifest, or by deferring the task."""
        return self._ask(context)

    def _ask(self, context: Context) -> Any:
        with as_airflow_errors():
            config = self._config()
        return self._begin(context, config, self.requests.value(context))

    def _override(self) -> None:
        """The built-in stages poll as their configuration says, or sooner when a submit is to be tried again."""

    def _check(self) -> None:
        """Refuse while the DAG is parsed what can be known then."""
        if self.requests.is_none == (self.source is None):
            raise UsageError(f"Task {self.task_id!r} needs exactly one of requests= and source=.")
        if self.source is None and not (self.prompt is None and self.key is None):
            raise UsageError(f"Task {self.task_id!r} has prompt= or key= without source=: they describe a file's rows.")
        self._config(known=lambda value: "later" if is_late(value) else value)

    def _config(self, known: Any = lambda value: value) -> BatchConfig:
        model, conn_id = known(self.model), known(self.conn_id)
        late = model != self.model and conn_id is None
        fields = {
            **{name: value for name, value in self.options.items() if value is not None},
            "kind": self.kind,
            "model": model,
            "conn_id": account_ref(conn_id or ("later" if late else self._default_connection(model)), str(model)),
            "result_path": known(self.result_path),
        }
        if self.source is not None:
            fields["source"] = {"uri": known(self.source), "prompt": self.prompt, "key": self.key}
        config: BatchConfig = parse(BatchConfig, fields, f"Task {self.task_id!r}")
        return config

    def _default_connection(self, model: str) -> str:
        provider = split_model(model)[0]
        if provider is None:
            raise UsageError(
                f"Model {model!r} tells no provider. Write it with one ('openai:{model}'), or give conn_id= of a connection."
            )
        return _DEFAULT_CONNECTIONS[provider]


class BatchGenerateOperator(_BatchOperator):
    """Asks a model every request, in batch, at half price; returns the manifest.

    Args:
        model: `claude-…`, or with its provider, `openai:gpt-…`; templated.
        requests: list of str, dict or `BatchRequest`, or an XComArg of one; never templated, never in rendered fields.
        source: `.jsonl`, `.csv` or `.parquet` file of rows, a URI; templated.
        prompt: for `source`: a text with the row's columns in braces, `Classify: {text}`.
        key: for `source`: the column that holds the `custom_id`.
        conn_id: Airflow connection; by default `anthropic_default`, `openai_default` or `gemini_default`, by the model.
        system: system text for every row.
        output_type: pydantic model or JSON schema that every answer must fit.
        max_tokens: tokens of one answer; default 1024.
        request_params: further fields of the provider's request body; a row's own win.
        result_path: file or folder for the rows, a URI; templated; stage storage by default.
        result_format: `jsonl` (default) or `parquet`.
        poll: `quick`, `medium`, `long` or a `PollConfig`; `[batch_provider] poll` by default.
        deferrable: False waits on the worker.
        retry_rows: rounds after the first for rows without a good answer; default 2.
        retry_truncated: rounds also ask answers again that were cut off at `max_tokens`, with twice the room each time.
        min_success_ratio: share of good answers below which the task fails; by default it fails only without any.
        on_partial: `fail` wants a good answer for every row; default `succeed`.
        max_cost_usd: refuse before paying when the estimate is above; US dollars.
        max_in_flight: most batches at the provider at once.
        max_enqueued_tokens: most estimated input tokens at the provider at once.
        on_timeout: `fail` (default), `salvage` or `leave`, see `BatchConfig`.
        dry_run: count, validate and estimate; buy nothing.
        clean_up: remove the files at the provider once their rows have landed; default True.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.

    Raises:
        UsageError: while the DAG is parsed, for whatever can be known then.
    """

    kind = "generate"

    def __init__(
        self,
        *,
        system: str | None = None,
        output_type: type[BaseModel] | dict[str, Any] | None = None,
        max_tokens: int | None = None,
        retry_truncated: bool = False,
        **kwargs: Any,
    ) -> None:
        asked = {
            "system": system,
            "output_type": output_type,
            "max_tokens": max_tokens,
            "retry_truncated": retry_truncated,
        }
        super().__init__(asked=asked, **kwargs)


class BatchEmbedOperator(_BatchOperator):
    """Turns every text into a vector, in batch; arguments as `BatchGenerateOperator`, without those for text answers."""

    kind = "embed"
