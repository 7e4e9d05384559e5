"""One leg of a task on a worker: from its start, or from a trigger's event, to the next wait or to the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import ObjectStoragePath

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hooks.accounts import open_account_in_worker
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.operators.loop import run
from airflow_batch_provider.operators.outputs import from_xcom
from airflow_batch_provider.stages import StageContext, Suspended
from airflow_batch_provider.storage import StageStorage
from airflow_batch_provider.triggers.supervisor import PROGRESS
from airflow_batch_provider.triggers.suspension import StageFiles, load_stage, parse, to_json
from airflow_batch_provider.triggers.watch import Event, Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from airflow_batch_provider.polling import Subscription
    from airflow_batch_provider.stages import AsyncBatchStage
    from airflow_batch_provider.triggers.suspension import Place, Suspension

log = logging.getLogger(__name__)
T = TypeVar("T")

# Airflow's messages from a task go over one socket, and `dag.test` has no lock for it.
_SOCKET = threading.Lock()


@dataclass
class Leg:
    """A stage and what it needs on a worker; each call below runs it in an event loop of its own.

    Args:
        place: which stage, whose storage.
        context: Airflow's context of the running task.
        upstream: ids of all tasks upstream of this one.
        clock: for tests.
    """

    place: Place
    context: Mapping[str, Any]
    upstream: frozenset[str]
    clock: Clock = field(default_factory=Clock)
    stage: AsyncBatchStage[Any, Any] = field(init=False)
    files: StageFiles = field(init=False)

    def __post_init__(self) -> None:
        self.stage = load_stage(self.place.stage)
        self.files = StageFiles(self.place.directory())

    def check_dependencies(self) -> None:
        """Refuse to start when a task that the stage depends on is not upstream.

        Raises:
            UsageError: one is not.
        """
        for task_id in self.stage.dependencies:
            if self._upstream_id(task_id) is None:
                known = ", ".join(sorted(self.upstream)) or "none"
                raise UsageError(
                    f"Stage {self.stage.id!r} depends on task {task_id!r}, which is not upstream of "
                    f"{self.place.task.task_id!r} (upstream: {known}). Add {task_id} >> {self.place.task.task_id}."
                )

    def start(self, config: Any, given: Any) -> Any:
        """`execute` at the start of a try; the configuration is kept for every later leg."""
        config = parse(self.stage.config_schema, config, f"The config of stage {self.stage.id!r}")
        given = parse(self.stage.input_schema, given, f"The input of stage {self.stage.id!r}")
        self.files.save_config(config)
        return self._output(self._run(lambda hub: self.stage.execute(self._ctx(hub, config, given))))

    def resume(self, suspension: Suspension, given: Any) -> Any:
        """What the completion check returned, or `execute` again with the suspended state."""
        found = self.files.output(suspension.token)
        self.tell("batch_metrics", found.get("metrics"))
        if "output" in found:
            return self._output(found["output"])
        given = parse(self.stage.input_schema, given, f"The input of stage {self.stage.id!r}")
        return self._output(self._run(lambda hub: self.stage.execute(self._resumed(hub, suspension, given))))

    def overdue(self, suspension: Suspension) -> Any:
        """The deadline passed: the stage cancels, saves what it can, and returns or raises."""
        return self._output(self._run(lambda hub: self.stage.overdue(self._resumed(hub, suspension, None))))

    def wait(self, suspension: Suspension) -> Event:
        """Look until something happens, on the worker."""
        return self._run(lambda hub: self._watch(hub, suspension).until_event())

    def look(self, suspension: Suspension) -> Event | None:
        """One look; None when the batch is not done."""
        found = self._run(lambda hub: self._watch(hub, suspension).look())
        return found if isinstance(found, dict) else None

    def tell(self, key: str, value: Any) -> None:
        """Push a small XCom of the running task; an empty value is not pushed."""
        if value:
            with _SOCKET:
                self.context["ti"].xcom_push(key=key, value=value)

    def _run(self, call: Callable[[Hub], Awaitable[T]]) -> T:
        async def use() -> T:
            hub = Hub(open_account_in_worker, now=self.clock.now)
            try:
                return await call(hub)
            finally:
                await hub.aclose()

        return run(use())

    def _output(self, returned: Any) -> Any:
        if isinstance(returned, Suspended):
            return returned
        return to_json(parse(self.stage.output_schema, returned, f"The output of stage {self.stage.id!r}"))

    def _watch(self, hub: Hub, suspension: Suspension) -> Watch:
        subscription = hub.subscribe(suspension.poll.interval, self.clock.sleep)
        ctx = self._resumed(subscription, suspension, None)
        return Watch(self.stage, ctx, subscription, suspension, self.files, self.clock)

    def _resumed(self, hub: Hub | Subscription, suspension: Suspension, given: Any) -> StageContext[Any]:
        return self._ctx(hub, self.files.config(self.stage), given, suspension)

    def _ctx(
        self, hub: Hub | Subscription, config: Any, given: Any, suspension: Suspension | None = None
    ) -> StageContext[Any]:
        return StageContext(
            stage_id=self.stage.id,
            key=self.place.task,
            config=config,
            storage=StageStorage(self.files.directory),
            hub=hub,
            default_conn_id=self.place.conn_id,
            poll=suspension.poll if suspension else None,
            logger=log,
            publish=self._publish,
            now=self.clock.now,
            sleep=self.clock.sleep,
            input=given,
            resume_state=suspension.state if suspension else None,
            pull=self._pull,
            upstream=tuple(sorted(self.upstream)),
            open_path=ObjectStoragePath,
            registry=self.place.registry(),
        )

    async def _publish(self, record: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self.tell, PROGRESS, record)
        except Exception:  # people look at it, nothing depends on it
            log.debug("Progress of %s was not published", self.place.task, exc_info=True)

    def _pull(self, task_id: str) -> Any:
        known = self._upstream_id(task_id)
        if known is None:
            return None
        with _SOCKET:
            value = self.context["ti"].xcom_pull(task_ids=known)
        return from_xcom(value, self.place.storage)

    def _upstream_id(self, task_id: str) -> str | None:
        """The full id of an upstream task: inside a task group, its own name is enough where only one has it."""
        if task_id in self.upstream:
            return task_id
        inside = [known for known in self.upstream if known.endswith(f".{task_id}")]
        return inside[0] if len(inside) == 1 else None
