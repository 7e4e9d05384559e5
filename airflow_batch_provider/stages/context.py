"""The contexts of a stage, in the worker and in the triggerer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias

from pydantic_core import to_jsonable_python
from typing_extensions import TypeVar
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.client.all_submissions import Submissions
from airflow_batch_provider.clock import Clock, random_id, utc_now
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers import connection_ref
from airflow_batch_provider.signals import SILENT, Signals
from airflow_batch_provider.stages.host import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.stages.values import PollConfig, SuspendedState
    from airflow_batch_provider.storage import StageStorage

ConfigT = TypeVar("ConfigT", default=Any)
OpenPath: TypeAlias = "Callable[[str], UPath | ProxyUPath]"
"""Opens a URI; Airflow's `ObjectStoragePath` knows the connections in it, `UPath` does not."""

Level = Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR"]
_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}


class Publish(Protocol):
    """Shows people a small record: how far the stage is, unless a key says otherwise; see `Host.publish`."""

    async def __call__(self, record: dict[str, Any], key: str = PROGRESS) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckCompletionContext(Generic[ConfigT]):
    """The context in the triggerer and the worker: `check_completion` and `cancel` get exactly this.

    Attributes:
        stage_id: the stage's `id`.
        key: the task instance.
        config: parsed by the stage's `config_schema`.
        storage: the task instance's artifacts.
        hub: the open connections of this process; in the triggerer, its answers come from sweeps for all tasks.
        default_conn_id: connection that `batch` uses when none is named.
        poll: of the suspension; None before the first.
        logger: where `log` writes.
        publish: shows a small progress record to people (XCom); errors in it are the caller's to swallow.
        now: the wall clock.
        sleep: waits seconds; for the worker's short waits.
        registry: what this deployment has at the providers; None in scripts.
        new_id: draws 32 hex digits that nobody else has.
        client: returned by `batch` for every model, where a test gives one; None makes a client of the connection.
        signals: told what is bought and what has landed.
    """

    stage_id: str
    key: TaskKey
    config: ConfigT
    storage: StageStorage
    hub: Hub | Subscription
    default_conn_id: str | None = None
    poll: PollConfig | None = None
    logger: logging.Logger
    publish: Publish
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    registry: Registry | None = None
    new_id: Callable[[], str] = random_id
    client: BatchClient | None = None
    signals: Signals = SILENT

    @property
    def clock(self) -> Clock:
        """`now` and `sleep` together."""
        return Clock(self.now, self.sleep)

    @property
    def run_id(self) -> str:
        """Airflow's id of the DAG run."""
        return self.key.run_id

    @property
    def stage_record_id(self) -> str:
        """Names this task instance in logs: `dag/run/task[/map_index]`."""
        return str(self.key)

    async def log(
        self, level: Level | int, message: str, values: Mapping[str, Any] | None = None, /, **metadata: Any
    ) -> None:
        """Write a line into the task's log; metadata, as a mapping or by name, follows the message as `key=value`.

        Args:
            level: its name, or its number as `logging` has it.
        """
        told = {**(values or {}), **metadata}
        text = " ".join([str(message), *(f"{name}={value!r}" for name, value in told.items())])
        number = level if isinstance(level, int) else _LEVELS.get(str(level).upper(), logging.INFO)
        self.logger.log(number, "%s", text)

    on_log = log

    def batch(self, model: str, conn_id: str | None = None) -> BatchClient:
        """Return a client for one model; every submit of a stage is claimed in its storage first and so is bought once.

        Args:
            model: `claude-…`, or `openai:gpt-…` to name the provider.
            conn_id: Airflow connection; the operator's `conn_id` by default.
        """
        if self.client is not None:
            return self.client
        chosen = conn_id or self.default_conn_id
        if chosen is None:
            raise UsageError(f"No connection for model {model!r}. Give conn_id to ctx.batch or to the operator.")
        return BatchClient(
            self.hub,
            connection_ref(chosen, model),
            model,
            storage=self.storage,
            label=str(self.key),
            clock=self.clock,
            registry=self.registry,
            attempt=self.key.try_number,
            new_id=self.new_id,
            signals=self.signals,
        )

    async def cancel_all(self) -> tuple[str, ...]:
        """Ask the providers to stop every batch that this task bought with `batch` and that has not landed.

        Returns:
            Their ids; a batch that was found by its time and size only is left alone.

        Raises:
            BatchError: one of them could not be cancelled; the others are nevertheless.
        """
        if self.client is not None:
            cancel_all = getattr(self.client, "cancel_all", None)  # a test's client has the verbs that its stage uses
            return tuple(await cancel_all()) if cancel_all else ()
        bought = Submissions(
            root=self.storage.directory, hub=self.hub, label=str(self.key), clock=self.clock, registry=self.registry
        )
        return await bought.cancel_all()

    async def progress(self, percent: float, message: str, **details: Any) -> None:
        """Show people how far the stage is: 0 to 100, a sentence, and small details; what is not JSON is shown as its text."""
        record = {"progress": percent, "message": str(message), **details}
        # What only tells people how it goes must not end a task.
        await self.publish(to_jsonable_python(record, fallback=repr, bytes_mode="base64", inf_nan_mode="null"))


@dataclass(frozen=True, kw_only=True, slots=True)
class StageContext(CheckCompletionContext[ConfigT]):
    """The context of `execute`, in the worker.

    Attributes:
        input: what the operator was given, parsed by the stage's `input_schema`.
        resume_state: set when the stage was suspended before.
        pull: output of an upstream task, None when it has none.
        upstream: ids of the upstream tasks, for messages.
        open_path: opens a user's URI; the Airflow edge gives `ObjectStoragePath`, which knows connections.
    """

    input: Any = None
    resume_state: SuspendedState | None = None
    pull: Callable[[str], Any] = lambda _task_id: None
    upstream: tuple[str, ...] = ()
    open_path: OpenPath = UPath

    def require(self, task_id: str) -> Any:
        """The output of an upstream task.

        Raises:
            UsageError: it has none.
        """
        output = self.pull(task_id)
        if output is None:
            available = ", ".join(self.upstream) or "none"
            raise UsageError(f"Missing required stage output: {task_id!r}. Available stages: {available}.")
        return output

    def optional(self, task_id: str) -> Any:
        """The output of an upstream task, or None."""
        return self.pull(task_id)
