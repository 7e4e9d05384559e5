"""Three services on one port: the prefix of a path names the service, or else the path and the headers tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Match, Mount, Route, Router

from airflow_batch_provider.emulator.anthropic.api import AnthropicApi
from airflow_batch_provider.emulator.calls import Call, Dialect, Operation, Problem
from airflow_batch_provider.emulator.endpoint import Cut, Endpoint
from airflow_batch_provider.emulator.google.api import GoogleApi
from airflow_batch_provider.emulator.openai.api import OpenAIApi

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_batch_provider.emulator.core import Emulator


class Gateway:
    """The services under their prefixes, and all of them under `/`."""

    def __init__(self, emulator: Emulator, cut: Cut) -> None:
        dialects: tuple[Dialect, ...] = (AnthropicApi(emulator), OpenAIApi(emulator), GoogleApi(emulator))
        self._services = {dialect.name: _Service(dialect, emulator, cut) for dialect in dialects}
        self.routes = [
            *(Mount(f"/{name}", app=service) for name, service in self._services.items()),
            Mount("/", app=self),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call without prefix on to the service it means."""
        await self._services[_provider_of(Request(scope))](scope, receive, send)


class _Service(Router):
    """The operations of one provider; what it does not have is unknown in the provider's words."""

    def __init__(self, dialect: Dialect, emulator: Emulator, cut: Cut) -> None:
        routes = [_Route(operation, Endpoint(operation, dialect, emulator, cut)) for operation in dialect.operations]
        super().__init__(routes, redirect_slashes=False)
        self._dialect = dialect

    async def not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive)
        message = f"No such route in the emulator: {call.method} {call.path}"
        await call.answer(self._dialect.problem(Problem(404, message=message)), self._dialect, send)


class _Route(Route):
    """Matches by method and query too: Starlette would answer another method with its own 405."""

    def __init__(self, operation: Operation, endpoint: Endpoint) -> None:
        super().__init__(operation.path, endpoint, methods=[operation.method], name=operation.name)
        self._operation = operation

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        query = self._operation.query
        if scope["method"] != self._operation.method or (query and query not in Request(scope).query_params):
            return Match.NONE, {}
        return super().matches(scope)


def _provider_of(request: Request) -> str:
    """Return which service a path without prefix means: `/v1/files` and `/v1/batches` are OpenAI's and Google's."""
    path = request.url.path
    if request.headers.get("x-goog-api-key") or request.query_params.get("key"):
        return "google"
    if path.startswith(("/upload/", "/download/", "/v1beta/")) or ":" in path:
        return "google"
    if request.headers.get("anthropic-version") or path.startswith("/v1/messages"):
        return "anthropic"
    return "openai"
