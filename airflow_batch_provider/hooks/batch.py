"""Hooks: one connection to one provider's batch API, usable without any operator."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow.sdk import BaseHook

from airflow_batch_provider import connection_forms, loop
from airflow_batch_provider.airflow.connections import open_account_in_worker, worker_hub
from airflow_batch_provider.client import BatchClient, BatchHandle
from airflow_batch_provider.exceptions import BatchError, UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.providers import connection_ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from airflow_batch_provider.models import BatchRequest, BatchRow, BatchStatus, Kind


class BatchHook(BaseHook):
    """Batches over one Airflow connection.

    `await hook.batch(model).submit(requests)` from async code, inside `async with hook`; `hook.submit(model, requests)`
    and its siblings from plain code, each with connections of its own that it closes again.

    Args:
        conn_id: Airflow connection; its type, or the model's prefix, names the provider.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "anthropic_default"

    def __init__(self, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id or self.default_conn_name
        self._hub = Hub(open_account_in_worker)

    def batch(self, model: str) -> BatchClient:
        """Return an awaitable client for batches of one model (`claude-…`, or `openai:gpt-…`)."""
        return BatchClient(self._hub, connection_ref(self.conn_id, model), model)

    async def __aenter__(self) -> Self:
        """Clients of `batch` share connections, which are opened when first used."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close them."""
        await self._hub.aclose()

    def submit(self, model: str, requests: Iterable[BatchRequest | dict[str, Any] | str]) -> BatchHandle:
        """Send one batch; not claimed anywhere, so a crash in the middle leaves its fate unknown (operators claim)."""
        return loop.run(self._submit(model, requests))

    def get_status(self, batch_id: str, *, model: str | None = None) -> BatchStatus:
        """Ask for the status of one batch.

        Args:
            model: only needed where the connection's type names no provider.
        """
        return loop.run(self._get_status(batch_id, model))

    def get_results(
        self,
        batch_id: str,
        *,
        model: str | None = None,
        kind: Kind | None = None,
        custom_ids: Sequence[str] = (),
    ) -> list[BatchRow]:
        """Return the rows of an ended batch, all in memory; the operators stream, and are for large ones.

        Args:
            model: only needed where the connection's type names no provider.
            kind: `embed` for vectors; by default vectors when the model's name says `embedding`, or else text.
            custom_ids: of the requests, in the order they were submitted in; without, rows are named `request-{i}`.
        """
        return loop.run(self._get_results(batch_id, model, kind, custom_ids))

    def cancel(self, batch_id: str, *, model: str | None = None) -> None:
        """Ask the provider to stop a batch.

        Args:
            model: only needed where the connection's type names no provider.
        """
        loop.run(self._cancel(batch_id, model))

    def test_connection(self) -> tuple[bool, str]:
        """Make one authenticated call that costs nothing; Airflow's *Test* button shows what it returns."""
        try:
            return True, loop.run(self._check())
        except BatchError as error:
            return False, str(error)

    def get_conn(self) -> BatchClient:
        """Not available: a client is for one model.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{type(self).__name__} has one client for each model: use batch(model).")

    @asynccontextmanager
    async def _client(self, model: str | None, kind: Kind | None = None) -> AsyncIterator[BatchClient]:
        async with worker_hub() as hub:
            yield BatchClient(hub, connection_ref(self.conn_id, model or ""), model or "", kind=kind)

    async def _submit(self, model: str, requests: Iterable[BatchRequest | dict[str, Any] | str]) -> BatchHandle:
        async with self._client(model) as client:
            return await client.submit(requests)

    async def _get_status(self, batch_id: str, model: str | None) -> BatchStatus:
        async with self._client(model) as client:
            return await client.get_status(batch_id)

    async def _get_results(
        self, batch_id: str, model: str | None, kind: Kind | None, custom_ids: Sequence[str]
    ) -> list[BatchRow]:
        async with self._client(model, kind) as client:
            return await client.get_results(batch_id, {"custom_ids": list(custom_ids)})

    async def _cancel(self, batch_id: str, model: str | None) -> None:
        async with self._client(model) as client:
            await client.cancel(batch_id)

    async def _check(self) -> str:
        async with worker_hub() as hub:
            provider = await hub.provider(ConnectionRef(conn_id=self.conn_id))
            return await provider.check()


class _TypedHook(BatchHook):
    conn_type: ClassVar[str]

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """For Airflow 3.1; later versions read provider info."""
        return connection_forms.widgets(cls.conn_type)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """For Airflow 3.1; later versions read provider info."""
        return connection_forms.legacy_behaviour(cls.conn_type)


class AnthropicBatchHook(_TypedHook):
    """Anthropic's Message Batches."""

    conn_type = "anthropic_batch"
    default_conn_name = "anthropic_default"
    hook_name = "Anthropic (batch)"


class OpenAIBatchHook(_TypedHook):
    """OpenAI's Batch API."""

    conn_type = "openai_batch"
    default_conn_name = "openai_default"
    hook_name = "OpenAI (batch)"


class GeminiBatchHook(_TypedHook):
    """The Gemini API's batch mode."""

    conn_type = "gemini_batch"
    default_conn_name = "gemini_default"
    hook_name = "Google Gemini (batch)"
