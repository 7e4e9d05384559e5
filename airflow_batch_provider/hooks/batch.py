"""Hooks: one connection to one provider's batch API, usable without any operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from airflow.sdk import BaseHook

from airflow_batch_provider import forms
from airflow_batch_provider.client import BatchClient, BatchHandle
from airflow_batch_provider.exceptions import BatchError, UsageError
from airflow_batch_provider.hooks.accounts import open_account_in_worker
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.providers import account_ref

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from airflow_batch_provider.models import BatchRequest, BatchRow, BatchStatus

T = TypeVar("T")


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
        """An awaitable client for batches of one model (`claude-…`, or `openai:gpt-…`)."""
        return BatchClient(self._hub, account_ref(self.conn_id, model), model)

    async def __aenter__(self) -> Self:
        """Clients of `batch` share connections, which are opened when first used."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close them."""
        await self._hub.aclose()

    def submit(self, model: str, requests: Iterable[BatchRequest | dict[str, Any] | str]) -> BatchHandle:
        """Send one batch; not claimed anywhere, so a crash in the middle leaves its fate unknown (operators claim)."""
        return self._run(model, lambda client: client.submit(requests))

    def get_status(self, model: str, batch_id: str) -> BatchStatus:
        """A look at one batch."""
        return self._run(model, lambda client: client.get_status(batch_id))

    def get_results(self, model: str, batch_id: str) -> list[BatchRow]:
        """The rows of an ended batch, all in memory; the operators stream, and are for large ones."""
        return self._run(model, lambda client: client.get_results(batch_id))

    def cancel(self, model: str, batch_id: str) -> None:
        """Ask the provider to stop a batch."""
        return self._run(model, lambda client: client.cancel(batch_id))

    def test_connection(self) -> tuple[bool, str]:
        """One authenticated call that costs nothing; what Airflow's *Test* button shows."""
        try:
            return True, asyncio.run(self._check())
        except BatchError as error:
            return False, str(error)

    def get_conn(self) -> BatchClient:
        """Not available: a client is for one model.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{type(self).__name__} has one client for each model: use batch(model).")

    def _run(self, model: str, call: Callable[[BatchClient], Awaitable[T]]) -> T:
        async def use() -> T:
            hub = Hub(open_account_in_worker)
            try:
                return await call(BatchClient(hub, account_ref(self.conn_id, model), model))
            finally:
                await hub.aclose()

        return asyncio.run(use())

    async def _check(self) -> str:
        hub = Hub(open_account_in_worker)
        try:
            return await (await hub.provider(self.conn_id)).check()
        finally:
            await hub.aclose()


class _TypedHook(BatchHook):
    conn_type: ClassVar[str]

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """For Airflow 3.1; later versions read provider info."""
        return forms.widgets(cls.conn_type)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """For Airflow 3.1; later versions read provider info."""
        return forms.legacy_behaviour(cls.conn_type)


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
