"""The command that prices a task of a DAG before it ever runs; nothing is bought, and no file of the deployment is touched."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import get_bagged_dag

from airflow_batch_provider import loop
from airflow_batch_provider.airflow import database
from airflow_batch_provider.airflow.exceptions import AirflowException
from airflow_batch_provider.cli.answer import FINE, Answer, command
from airflow_batch_provider.cli.output import rendered
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Manifest, TaskKey
from airflow_batch_provider.operators.batch import BatchOperator
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.scratch import scratch_folder
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.host import Host
from airflow_batch_provider.stages.loading import load_stage
from airflow_batch_provider.stages.runner import StageRun
from airflow_batch_provider.stages.suspension import StageLocation

if TYPE_CHECKING:
    from argparse import Namespace
    from datetime import datetime

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.models import Account, ConnectionRef
    from airflow_batch_provider.stages.config import BatchConfig


class _Here(Host):
    """A process that shows nothing to anybody and has no upstream tasks."""

    def hub(self) -> AbstractAsyncContextManager[Hub]:
        return aclosing(Hub(_opened))

    def open_path(self, uri: str) -> ProxyUPath:
        return open_path(uri)

    async def publish(self, key: str, value: Any) -> None:
        """Nobody waits for it."""


async def _opened(ref: ConnectionRef) -> Account:
    return database.account_of(ref)


@command
def estimate_batches(arguments: Namespace) -> Answer:
    """Price the first wave of a task."""
    task = _task(arguments.dag_id, arguments.task_id)
    config, rows = _asked(task, arguments.date or Clock().now())
    manifest = _priced(task, config, rows)
    cost, usage = manifest.cost, manifest.usage
    row = {
        "task": f"{arguments.dag_id}/{arguments.task_id}",
        "provider": manifest.provider,
        "model": manifest.model,
        "requests": manifest.requests,
        "skipped": manifest.counts.get("failed", 0),
        "input_tokens": usage.input_tokens,
        "most_output_tokens": usage.output_tokens,
        "most_usd": cost.usd,
        "unpriced": list(cost.unpriced),
    }
    return Answer(FINE, rendered([row], arguments.output, ""))


def _task(dag_id: str, task_id: str) -> BatchOperator:
    try:
        task = get_bagged_dag(None, dag_id).get_task(task_id)
    except AirflowException as error:
        raise UsageError(
            f"Task {task_id!r} of DAG {dag_id!r} cannot be read: {error}. Name a DAG that `airflow dags list` shows, and a task "
            f"of `airflow tasks list {dag_id}`."
        ) from None
    if not isinstance(task, BatchOperator):
        raise UsageError(
            f"Task {task_id!r} is {type(task).__name__}, which has no estimate. Name a BatchGenerateOperator or "
            "BatchEmbedOperator that is not mapped."
        )
    return task


def _asked(task: BatchOperator, date: datetime) -> tuple[BatchConfig, Any]:
    """Return the task's configuration and its rows, with templates filled in as for a run of this date."""
    context: Any = {
        "ds": f"{date:%Y-%m-%d}",
        "ds_nodash": f"{date:%Y%m%d}",
        "ts": date.isoformat(),
        "logical_date": date,
        "data_interval_start": date,
        "data_interval_end": date,
        "params": task.params.dump() if hasattr(task.params, "dump") else task.params,
    }
    try:
        task.render_template_fields(context)
        rows = task._given(context)  # noqa: SLF001 — what the operator itself would ask
    except Exception as error:  # a user's template, or an output that is not there, may fail in any way
        raise UsageError(
            f"What task {task.task_id!r} asks is known in a run only ({error!r}). Run it with dry_run=True: its manifest is "
            "the estimate."
        ) from error
    if rows is None and task.source is None:
        raise UsageError(
            f"Task {task.task_id!r} makes its rows when it runs. Run it with dry_run=True for the estimate."
        )
    config = task._config()  # noqa: SLF001 — the operator's own configuration, as it would run
    return config.model_copy(update={"dry_run": True, "result_path": None}), rows


def _priced(task: BatchOperator, config: BatchConfig, rows: Any) -> Manifest:
    """Run the stage as a dry run, in a scratch directory."""
    with scratch_folder() as scratch:
        key = TaskKey(task.dag_id, "estimate", task.task_id)
        location = StageLocation(stage=task.stage, task=key, storage=scratch.as_uri())
        files = StageFiles(location.directory(open_path))
        run = StageRun(stage=load_stage(task.stage), location=location, files=files, host=_Here())
        outcome = loop.run(run.start(config, rows))
    return Manifest.model_validate(getattr(outcome, "output", None))
