"""The common base of the two operators of the built-in stages: rows, and the configuration of their stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_batch_provider.addresses import as_uri
from airflow_batch_provider.airflow import settings
from airflow_batch_provider.airflow.exceptions import as_airflow_errors
from airflow_batch_provider.airflow.signals.assets import tell_assets
from airflow_batch_provider.airflow.signals.lineage import lineage
from airflow_batch_provider.airflow.signals.notifiers import notice, notify
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import ConnectionRef, Manifest
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.operators.jinja import for_jinja, has_jinja, unrendered
from airflow_batch_provider.operators.opaque import OpaqueInput, is_late
from airflow_batch_provider.operators.siblings import check_own_file
from airflow_batch_provider.operators.tables import SourceFunction
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.providers import codec_class, connection_ref, split_model
from airflow_batch_provider.schemas import AnswerSchema
from airflow_batch_provider.stages.config import BatchConfig
from airflow_batch_provider.stages.shapes import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.stages.polling import Event
    from airflow_batch_provider.stages.runner import Outcome, StageRun
    from airflow_batch_provider.stages.suspension import Suspension

_DEFAULT_CONNECTIONS = {"anthropic": "anthropic_default", "openai": "openai_default", "google": "gemini_default"}

# Stands for a value that is only known when the task runs.
_LATER = "later"
_LATER_TEXT = "{later}"
_LATER_PATH = "written/later/"


def _is_late_text(text: Any) -> bool:
    return has_jinja(text) if isinstance(text, str) else is_late(text)


class BatchOperator(StageOperator):
    """Base of both operators, private: rows from `requests` or from a `source`, and the configuration of their stage."""

    kind: ClassVar[Literal["generate", "embed"]]
    template_fields: Sequence[str] = ("requests", "source", "prompt", "model", "conn_id", "result_path", "storage_path")
    system: str | None = None
    _manifest: Manifest | None = None
    ui_color = "#e8f0e4"

    def execute(self, context: Context) -> Any:
        """Ask every row; ends with the manifest, or by deferring the task."""
        return self._ask(context)

    def _ask(self, context: Context) -> Any:
        with as_airflow_errors():
            dag = self.dag if self.has_dag() else None  # type: ignore[no-untyped-call]  # Airflow's has no annotations
            task = dag.task_dict.get(self.task_id) if dag else None
            has_parts = self.options.get("max_rows_per_file") is not None
            check_own_file(task, self._result_path, self.result_path, context, is_folder=has_parts)
            config = self._config()
            given = self._given(context)
        return self._begin(context, config, given)

    def _given(self, context: Mapping[str, Any]) -> Any:
        """Return the rows, or the table of a source that is a function; None where a file has them."""
        rows = self.source if isinstance(self.source, SourceFunction) else self.requests
        return rows.value(context)

    def _finished(self, output: Any, context: Context) -> None:
        self._manifest = Manifest.model_validate(output)
        tell_assets(self.outlets, context, self._manifest)
        if self._manifest.withheld:
            notify(self.on_budget, context, notice("budget", self._manifest.withheld))

    @property
    def _source_uri(self) -> str | None:
        return None if isinstance(self.source, SourceFunction) else self.source

    def get_openlineage_facets_on_start(self) -> Any:
        """Return what OpenLineage is told when the task begins or goes on: the source."""
        return lineage(self._source_uri, None)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 — Airflow's signature
        """Return what OpenLineage is told at the end: source and results with their rows, and what was used and paid."""
        return lineage(self._source_uri, self._manifest)

    def _configure(  # noqa: PLR0913 — the arguments that are attributes of the operator
        self,
        requests: Any,
        *,
        model: str,
        source: str | Callable[..., Any] | None,
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
        self.source = SourceFunction(source) if callable(source) else as_uri(source)
        self.prompt = for_jinja(prompt)
        self.key = key
        self.conn_id = conn_id
        self.result_path = self._result_path = as_uri(result_path)
        self.storage_path = as_uri(storage_path)
        self.deferrable = deferrable
        self.options = {"poll": settings.poll(), **settings.row_cache()} | {
            name: value for name, value in options.items() if value is not None
        }
        self.requests.connect(self)
        self._check()

    def _check(self) -> None:
        """Refuse, while the DAG is parsed, a mistake that can be seen then."""
        if self.requests.is_none == (self.source is None):
            raise UsageError(f"Task {self.task_id!r} needs exactly one of requests= and source=.")
        if self.source is None and not (self.prompt is None and self.key is None):
            raise UsageError(f"Task {self.task_id!r} has prompt= or key= without source=: they describe a file's rows.")
        if isinstance(self.source, list | tuple | set):
            raise UsageError(
                f"Task {self.task_id!r} has a {type(self.source).__name__} as source=. Give one file, a folder, or a glob such "
                "as 's3://lake/in/*.jsonl'."
            )
        config = self._config(parsing=True)
        if config.provider is not None:
            self._check_spec(config)

    def _check_spec(self, config: BatchConfig) -> None:
        """Refuse what the model's provider does not take of every row: parameters, schema, kind of model."""
        assert config.provider is not None
        given = config.output_type
        try:
            if given is not None and given.adapter is None:  # written by hand; pydantic writes schemas without a fault
                AnswerSchema(given.schema)
            codec_class(config.provider)().check_spec(config.spec)
        except UsageError as error:
            raise UsageError(f"Task {self.task_id!r}: {error}") from None

    def _config(self, *, parsing: bool = False) -> BatchConfig:
        """Make the stage's configuration; while the DAG is parsed, a stand-in replaces a value that is only known later."""
        model, conn_id, source = (
            _LATER if parsing and is_late(value) else value for value in (self.model, self.conn_id, self.source)
        )
        result_path = _LATER_PATH if parsing and is_late(self.result_path) else self.result_path
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
            uri = None if isinstance(source, SourceFunction) else source
            fields["source"] = {"uri": uri, "prompt": prompt, "key": self.key}
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
