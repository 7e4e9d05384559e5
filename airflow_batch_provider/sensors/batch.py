"""A sensor that waits for a batch which something else submitted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_batch_provider.exceptions import Unavailable, UsageError
from airflow_batch_provider.hooks.accounts import open_account_in_worker
from airflow_batch_provider.hooks.airflow_errors import AirflowFailException
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.operators import settings
from airflow_batch_provider.operators.errors import as_airflow_errors
from airflow_batch_provider.operators.legs import StageLegs
from airflow_batch_provider.operators.loop import run
from airflow_batch_provider.providers import PROVIDERS, account_ref
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.wait import WaitConfig, failure
from airflow_batch_provider.triggers.suspension import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.models import BatchStatus

_STAGE = "airflow_batch_provider.stages.wait.WaitForBatch"


class BatchSensor(StageLegs, BaseSensorOperator):
    """Waits until a batch has completed, and returns its status; fails when it failed, expired or was cancelled.

    Args:
        batch_id: the provider's id; templated.
        conn_id: Airflow connection that sees the batch; templated.
        provider: `anthropic`, `openai` or `google`; only needed for connections whose type names none.
        poll: a preset's name or a `PollConfig`; `[batch_provider] poll` by default; for `deferrable`.
        deferrable: False looks on the worker, with the sensor's own `poke_interval`, `timeout` and `mode`.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.
    """

    template_fields: Sequence[str] = ("batch_id", "conn_id")
    ui_color = "#e8f0e4"

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
            raise UsageError(f"There is no batch provider {provider!r}. Choose one of: {', '.join(PROVIDERS)}.")
        self.stage = _STAGE
        self.batch_id = batch_id
        self.conn_id: str = conn_id
        self.provider = provider
        self.poll: PollConfig = settings.poll() if poll is None else PollConfig.of(poll)
        self.deferrable = deferrable
        self.storage_path = storage_path

    def execute(self, context: Context) -> Any:
        """Wait; ends with the batch's status."""
        if not self.deferrable:
            return super().execute(context)
        return self._begin(context, self._config(), None)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 — Airflow's signature
        """One look."""
        with as_airflow_errors():
            try:
                seen = run(self._look())
            except Unavailable as error:
                self.log.warning("%s Looking again at the next poke.", error)
                return PokeReturnValue(is_done=False)
        if problem := failure(seen):
            raise AirflowFailException(problem)
        return PokeReturnValue(is_done=seen.ended, xcom_value=seen.model_dump(mode="json"))

    def _config(self) -> WaitConfig:
        ref = account_ref(self.conn_id, f"{self.provider}:" if self.provider else "")
        fields = {"batch_id": self.batch_id, "conn_id": ref, "poll": self.poll}
        with as_airflow_errors():
            config: WaitConfig = parse(WaitConfig, fields, f"Task {self.task_id!r}")
        return config

    async def _look(self) -> BatchStatus:
        config = self._config()
        hub = Hub(open_account_in_worker, sleep=lambda _seconds: asyncio.sleep(0))
        try:
            return await hub.status(config.conn_id, config.batch_id)
        finally:
            await hub.aclose()
