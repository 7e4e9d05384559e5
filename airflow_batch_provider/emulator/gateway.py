"""One port for three services: finds the dialect and the route of a request, and lets faults happen around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from airflow_batch_provider.emulator.anthropic.api import AnthropicApi
from airflow_batch_provider.emulator.google.api import GoogleApi
from airflow_batch_provider.emulator.openai.api import OpenAIApi
from airflow_batch_provider.emulator.wire import Call, Dialect, Problem, Refused, Reply, Route

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.faults import Fault

_PIECE = 1 << 18

SILENCE = Reply(status=0)
"""What a call gets whose connection was cut."""

Cut = Callable[[Scope], Awaitable[None]]


class Severed(ConnectionError):
    """What a caller in the same process sees where a caller behind a socket sees a closed connection."""


async def sever(_scope: Scope) -> None:
    """Cut a connection that is no socket."""
    raise Severed("The emulator was told to cut this connection.")


class Gateway:
    """The ASGI application of the three services."""

    def __init__(self, emulator: Emulator, cut: Cut = sever) -> None:
        self._emulator = emulator
        self._cut = cut
        self._dialects: dict[str, Dialect] = {
            "anthropic": AnthropicApi(emulator),
            "openai": OpenAIApi(emulator),
            "google": GoogleApi(emulator),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        dialect, path, prefix = self._address(request)
        if (found := _match(dialect.routes, request, path)) is None:
            await _drain(request)
            problem = Problem(404, message=f"No such route in the emulator: {request.method} {path}")
            await self._send(dialect, dialect.problem(problem), [], scope, send)
            return
        route, params = found
        self._emulator.calls[route.name] += 1
        await self._answer(dialect, route, Call(request, params, prefix), path, send)

    async def _answer(self, dialect: Dialect, route: Route, call: Call, path: str, send: Send) -> None:
        scope = call.request.scope
        faults = self._emulator.faults.take(route.name, path)
        reply = await self._strike(dialect, [fault for fault in faults if fault.when == "before"], call)
        if reply is None:
            reply = await self._handle(dialect, route, call)
            for fault in faults:
                self._bend(fault, reply, dialect)
            late = [fault for fault in faults if fault.when == "after"]
            reply = await self._strike(dialect, late, call) or reply
        if reply is not SILENCE:
            await self._send(dialect, reply, faults, scope, send)

    async def _strike(self, dialect: Dialect, faults: Sequence[Fault], call: Call) -> Reply | None:
        """Let the faults happen that replace an answer."""
        for fault in faults:
            if fault.kind == "stall":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "cut":
                await self._cut(call.request.scope)
                return SILENCE
            elif fault.kind in ("status", "gone"):
                await _drain(call.request)
                status = 404 if fault.kind == "gone" else fault.status
                reply = dialect.problem(Problem(status, fault.code, fault.message, fault.details))
                reply.headers |= fault.all_headers(self._emulator.clock.now())
                return reply
        return None

    async def _handle(self, dialect: Dialect, route: Route, call: Call) -> Reply:
        if not route.keyless and (refusal := self._stranger(dialect, call.request)):
            await _drain(call.request)
            return refusal
        try:
            return await route.handler(call)
        except Refused as refused:
            await _drain(call.request)
            return refused.reply
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            await _drain(call.request)
            return dialect.problem(Problem(400, message=f"The request cannot be read: {type(error).__name__}: {error}"))

    def _stranger(self, dialect: Dialect, request: Request) -> Reply | None:
        key, keys = dialect.key(request), self._emulator.settings.keys
        if not key:
            return dialect.problem(Problem(401, message="No API key was given."))
        if key == "invalid" or (keys is not None and key not in keys):
            return dialect.problem(Problem(401, message="The API key is not valid."))
        return None

    def _bend(self, fault: Fault, reply: Reply, dialect: Dialect) -> None:
        if reply.job is not None:
            fault.mark(reply.job, self._emulator.clock.now())
        if reply.body is not None and reply.status < 400:
            fault.alter(reply.body, dialect.status)

    def _address(self, request: Request) -> tuple[Dialect, str, str]:
        path = request.url.path
        for name, dialect in self._dialects.items():
            if path.startswith(f"/{name}/"):
                rest = path.removeprefix(f"/{name}")
                return dialect, rest, f"/{name}"
        return self._dialects[_speaks(request, path)], path, ""

    async def _send(self, dialect: Dialect, reply: Reply, faults: Sequence[Fault], scope: Scope, send: Send) -> None:
        body = (
            b"" if reply.body is None else json.dumps(reply.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
        headers = {"content-type": "application/json; charset=utf-8", **dialect.headers(), **reply.headers}
        if reply.path is None:
            headers["content-length"] = str(len(body))
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        cutter = next((fault for fault in faults if fault.kind == "cut_body"), None)
        source = _pieces(reply.path) if reply.path else _one(body)
        async for piece, whole in _shortened(source, cutter):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not whole:
                await self._cut(scope)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _match(routes: Sequence[Route], request: Request, path: str) -> tuple[Route, dict[str, str]] | None:
    for route in routes:
        if route.method != request.method or (route.needs is not None and route.needs not in request.query_params):
            continue
        if match := route.pattern.fullmatch(path):
            return route, match.groupdict()
    return None


def _speaks(request: Request, path: str) -> str:
    """Which service a path without prefix means: `/v1/files` and `/v1/batches` are OpenAI's and Google's."""
    if request.headers.get("x-goog-api-key") or request.query_params.get("key"):
        return "google"
    if path.startswith(("/upload/", "/download/", "/v1beta/")) or ":" in path:
        return "google"
    if request.headers.get("anthropic-version") or path.startswith("/v1/messages"):
        return "anthropic"
    return "openai"


async def _drain(request: Request) -> None:
    """Read what the caller still sends: an answer before that would look like a cut connection."""
    try:
        async for _ in request.stream():
            pass
    except (ClientDisconnect, RuntimeError):
        return


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _shortened(source: AsyncIterator[bytes], cutter: Fault | None) -> AsyncIterator[tuple[bytes, bool]]:
    """The pieces with True, up to where the cutter cuts: that piece comes with False."""
    if cutter is None:
        async for piece in source:
            yield piece, True
        return
    left, lines = cutter.bytes, cutter.lines
    async for piece in source:
        end = _end(piece, left, lines)
        if end is not None:
            yield piece[:end], False
            return
        left = None if left is None else left - len(piece)
        lines = None if lines is None else lines - piece.count(b"\n")
        yield piece, True
    yield b"", False


def _end(piece: bytes, left: int | None, lines: int | None) -> int | None:
    """Where in this piece the cut falls, if it does."""
    if left is not None and left < len(piece):
        return left
    if lines is None or piece.count(b"\n") < lines:
        return None
    at = 0
    for _ in range(lines):
        at = piece.index(b"\n", at) + 1
    return at
