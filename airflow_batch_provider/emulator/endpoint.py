"""One operation of a service as an ASGI application, with the faults that are ordered for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive, Scope, Send

from airflow_batch_provider.emulator.calls import Call, Dialect, Operation, Problem, Refused, Reply

if TYPE_CHECKING:
    from starlette.responses import Response

    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.faults import Fault

NO_REPLY = Reply(None)
"""Stands for the answer to a call whose connection was cut."""

Cut = Callable[[Scope], Awaitable[None]]
"""Ends the connection of a request."""


class CutInProcess(ConnectionError):
    """Raised to a caller in the same process where a caller behind a socket sees a closed connection."""


async def cut_in_process(_scope: Scope) -> None:
    """Cut a connection that has no socket."""
    raise CutInProcess("The emulator was told to cut this connection.")


class Endpoint:
    """An ASGI application that answers the calls to one operation."""

    def __init__(self, operation: Operation, dialect: Dialect, emulator: Emulator, cut: Cut) -> None:
        self._operation = operation
        self._dialect = dialect
        self._emulator = emulator
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call = Call(scope, receive)
        self._emulator.calls[self._operation.name] += 1
        faults = self._emulator.faults.take(self._operation.name, call.path)
        answer: Response | None = await self._apply("before", faults, call)
        if answer is None:
            answer = await self._handle(call)
            self._alter(answer, faults)
            answer = await self._apply("after", faults, call) or answer
        if answer is NO_REPLY:
            return
        cutting = next((fault for fault in faults if fault.kind in ("cut_body", "short")), None)
        answer.headers["date"] = formatdate(self._emulator.clock.now(), usegmt=True)
        await call.answer(answer, self._dialect, _BodyCut(cutting, scope, send, self._cut) if cutting else send)

    async def _apply(self, when: Literal["before", "after"], faults: Sequence[Fault], call: Call) -> Reply | None:
        """Apply the faults that replace the answer, before the operation commits or after."""
        for fault in faults:
            if fault.when != when:
                continue
            if fault.kind == "stall":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "cut":
                await self._cut(call.scope)
                return NO_REPLY
            elif fault.kind in ("status", "gone"):
                status = 404 if fault.kind == "gone" else fault.status
                reply = self._dialect.problem(Problem(status, fault.code, fault.message, fault.details))
                reply.headers.update(fault.all_headers(self._emulator.clock.now()))
                return reply
        return None

    async def _handle(self, call: Call) -> Response:
        if not self._operation.keyless and (refusal := self._unauthorized(call)):
            return refusal
        try:
            return await self._operation.handler(call)
        except Refused as refused:
            return refused.reply
        except (ValueError, TypeError, AttributeError, LookupError, MultiPartException) as error:
            message = f"The request cannot be read: {type(error).__name__}: {error}"
            return self._dialect.problem(Problem(400, message=message))

    def _unauthorized(self, call: Call) -> Reply | None:
        key, keys = self._dialect.key(call), self._emulator.settings.keys
        if not key:
            return self._dialect.problem(Problem(401, message="No API key was given."))
        if key == "invalid" or (keys is not None and key not in keys):
            return self._dialect.problem(Problem(401, message="The API key is not valid."))
        return None

    def _alter(self, answer: Response, faults: Sequence[Fault]) -> None:
        """Apply the faults that change the answer or the new job."""
        if not isinstance(answer, Reply):
            return
        for fault in faults:
            if answer.job is not None:
                fault.mark(answer.job, self._emulator.clock.now())
            if answer.content is not None and answer.status_code < 400:
                fault.alter(answer.content, self._dialect.status)


class _BodyCut:
    """An ASGI `send` that leaves out what follows so many bytes or lines of the body, and cuts the connection there."""

    def __init__(self, fault: Fault, scope: Scope, send: Send, cut: Cut) -> None:
        self._bytes = fault.bytes
        self._lines = fault.lines
        self._ends_well = fault.kind == "short"
        self._scope = scope
        self._send = send
        self._cut = cut
        self._done = False

    async def __call__(self, message: Message) -> None:
        if self._done:
            return
        if message["type"] == "http.response.start":
            await self._send(self._start(message) if self._ends_well else message)
            return
        piece: bytes = message["body"]
        end = self._end(piece)
        self._done = end is not None or not message.get("more_body", False)
        is_last = self._done and self._ends_well
        await self._send({"type": "http.response.body", "body": piece[:end], "more_body": not is_last})
        if self._done and not is_last:
            await self._cut(self._scope)
        self._bytes = None if self._bytes is None else self._bytes - len(piece)
        self._lines = None if self._lines is None else self._lines - piece.count(b"\n")

    @staticmethod
    def _start(message: Message) -> Message:
        """Return the head of an answer whose length is not what it says."""
        return {**message, "headers": [pair for pair in message["headers"] if pair[0] != b"content-length"]}

    def _end(self, piece: bytes) -> int | None:
        """Return where in this piece the cut falls, if it does."""
        if self._bytes is not None and self._bytes < len(piece):
            return self._bytes
        if self._lines is None or piece.count(b"\n") < self._lines:
            return None
        at = 0
        for _ in range(self._lines):
            at = piece.index(b"\n", at) + 1
        return at
