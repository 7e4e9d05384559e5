"""The general stage operator: runs any async batch stage as an Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_batch_provider.addresses import as_uri
from airflow_batch_provider.airflow.importable import stage_path
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.operators.opaque import OpaqueInput, is_late
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.loading import load_stage
from airflow_batch_provider.stages.shapes import parse, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import BaseModel

    from airflow_batch_provider.airflow.signals.notifiers import Notify
    from airflow_batch_provider.stages import AsyncBatchStage


class AsyncBatchStageOperator(StageOperator):
    """Runs an `AsyncBatchStage`: the worker is free while the stage is suspended.

    Args:
        stage: the stage class, or its path `module.Class`; workers and triggerers import it.
        config: what the stage's `config_schema` takes; templated.
        input: what the stage finds in `ctx.input`; not templated, but XComArgs in it resolve.
        conn_id: Airflow connection that `ctx.batch` uses when none is named; templated.
        poll: a preset's name or a `PollConfig`; the stage's own suspension says it by default.
        deferrable: False waits on the worker.
        on_deadline_near: an Airflow notifier, a function of the context, or several: told once when 80 % of the time has passed.
        on_unresolved: the same, told when it cannot be known whether a batch was bought.
        on_budget: the same, told when a limit of money refuses to buy.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default; templated.

    Raises:
        UsageError: while the DAG is parsed, for a stage that the triggerer cannot import and a config that does not fit.
    """

    template_fields: Sequence[str] = ("config", "conn_id", "storage_path", "input")
    ui_color = "#e8f0e4"

    def __init__(  # noqa: PLR0913 — an operator's arguments are its public face
        self,
        *,
        stage: type[AsyncBatchStage[Any, Any]] | str,
        config: dict[str, Any] | BaseModel | None = None,
        input: Any = None,  # noqa: A002 — the word of the stage contract
        conn_id: str | None = None,
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        on_deadline_near: Notify = None,
        on_unresolved: Notify = None,
        on_budget: Notify = None,
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._keep_notifiers(on_deadline_near=on_deadline_near, on_unresolved=on_unresolved, on_budget=on_budget)
        self.stage = stage_path(stage)
        self.config = {} if config is None else to_json(config)
        self.input = OpaqueInput(input)
        self.conn_id = conn_id
        self.poll = None if poll is None else PollConfig.of(poll)
        self.deferrable = deferrable
        self.storage_path = as_uri(storage_path)
        self.input.connect(self)
        self._check_config()

    def execute(self, context: Context) -> Any:
        """Start the stage; ends with its output, or by deferring the task."""
        return self._begin(context, self.config, self.input.value(context))

    def _input_again(self, context: Context) -> Any:
        return self.input.value(context)

    def _check_config(self) -> None:
        if not is_late(self.config):
            schema = load_stage(self.stage).config_schema
            parse(schema, self.config, f"The config of task {self.task_id!r}")
