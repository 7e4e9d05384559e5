"""A stage from its start to its end, in one call."""

from __future__ import annotations

from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_batch_provider import loop
from airflow_batch_provider.testing.task import SimulatedTask
from airflow_batch_provider.testing.time import virtual_clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike

    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Account
    from airflow_batch_provider.stages import AsyncBatchStage, PollConfig
    from airflow_batch_provider.testing.task import StageResult


def run_stage(  # noqa: PLR0913 — one argument for each thing that a task is given
    stage: type[AsyncBatchStage[Any, Any]],
    *,
    config: Any = None,
    input: Any = None,  # noqa: A002 — the word of the stage contract
    outputs: Mapping[str, Any] | None = None,
    client: Any = None,
    accounts: Mapping[str, Account] | None = None,
    conn_id: str | None = None,
    poll: PollConfig | None = None,
    storage: PathLike[str] | str | None = None,
    clock: Clock | None = None,
) -> StageResult:
    """Run a stage to its end, as an Airflow task would, and return what became of it.

    Args:
        stage: the class; every run has a new instance of it.
        config: what the stage's `config_schema` takes.
        input: what the stage finds in `ctx.input`.
        outputs: outputs of the upstream tasks by task id, for `ctx.require` and `ctx.optional`; JSON.
        client: given to the stage for every `ctx.batch(…)`; has the verbs of `BatchClient` that the stage uses.
        accounts: accounts by connection id, for stages that talk to the emulator; instead of `client`.
        conn_id: connection that `ctx.batch` uses when none is named; the only one of `accounts` by default.
        poll: wins over the stage's own, as `AsyncBatchStageOperator(poll=…)` does.
        storage: folder for stage storage; a temporary one by default, which is removed afterwards.
        clock: the time; virtual by default.

    Raises:
        StageFailed: a completion check failed.
        Overdue: the deadline passed, and the stage saved nothing.
        UsageError: config, input, output or state do not fit, or a task that the stage depends on is not upstream.
    """
    with _folder(storage) as folder:
        task = SimulatedTask(
            stage,
            storage=folder,
            config={} if config is None else config,
            input=input,
            outputs=outputs or {},
            client=client,
            accounts=accounts or {},
            conn_id=conn_id,
            poll=poll,
            clock=clock or virtual_clock(),
        )
        return loop.run(task.run())


@contextmanager
def _folder(storage: PathLike[str] | str | None) -> Iterator[str]:
    if storage is not None:
        yield str(storage)
        return
    with TemporaryDirectory(prefix="stage-") as made:
        yield made
