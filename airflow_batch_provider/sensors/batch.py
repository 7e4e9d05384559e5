"""A sensor that waits for a batch which something else submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_batch_provider import loop
from airflow_batch_provider.airflow import settings
from airflow_batch_provider.airflow.connections import worker_hub
from airflow_batch_provider.airflow.exceptions import as_airflow_errors
from airflow_batch_provider.exceptions import StageFailed, Unavailable, UsageError
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.providers import PROVIDERS
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.shapes import parse
from airflow_batch_provider.stages.wait import WaitConfig, failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.models import BatchStatus


class BatchSensor(StageOperator, BaseSensorOperator):
    """Waits until a batch has completed, and returns its status; fails when it failed, expired or was cancelled.

    Args:
        batch_id: the provider's id; templated.
        conn_id: Airflow connection that sees the batch; templated.
        provider: `anthropic`, `openai` or `google`; only needed for connections whose type names none.
        poll: a preset's name or a `PollConfig`; `[batch_provider] poll` by default; for `deferrable`.
        deferrable: False polls on the worker, with the sensor's own `poke_interval`, `timeout` and `mode`.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.
    """

    template_fields: Sequence[str] = ("batch_id", "conn_id")
    ui_color = "#e8f0e4"
    stage = "airflow_batch_provider.stages.wait.WaitForBatch"

    def __init__(
        self,
        *,
        batch_id: str,
        conn_id: str,
        provider: str | None = None,
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if provider is not None and provider not in PROVIDERS:
            raise UsageError(f"{provider!r} is not a batch provider. Choose one of: {', '.join(PROVIDERS)}.")
        self.batch_id = batch_id
        self.conn_id: str = conn_id
        self.provider = provider
        self._poll = settings.poll() if poll is None else PollConfig.of(poll)
        self.deferrable = deferrable
        self.storage_path = storage_path

    def execute(self, context: Context) -> Any:
        """Wait; ends with the batch's status."""
        if not self.deferrable:
            return super().execute(context)
        return self._begin(context, self._config(), None)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 — Airflow's signature
        """Poll once."""
        with as_airflow_errors():
            try:
                seen = loop.run(self._status())
            except Unavailable as error:
                self.log.warning("%s Polling again at the next poke.", error)
                return PokeReturnValue(is_done=False)
            if problem := failure(seen):
                raise StageFailed(problem)
        return PokeReturnValue(is_done=seen.ended, xcom_value=seen.model_dump(mode="json"))

    def _config(self) -> WaitConfig:
        fields = {"batch_id": self.batch_id, "connection": self._connection, "poll": self._poll}
        with as_airflow_errors():
            config: WaitConfig = parse(WaitConfig, fields, f"Task {self.task_id!r}")
        return config

    @property
    def _connection(self) -> ConnectionRef:
        return ConnectionRef(conn_id=self.conn_id, provider=self.provider)

    async def _status(self) -> BatchStatus:
        async with worker_hub() as hub:
            provider = await hub.provider(self._connection)
            return await provider.status(self.batch_id)
