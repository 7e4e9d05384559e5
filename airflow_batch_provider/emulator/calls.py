"""A call to a service and its answer, before they have a provider's shape."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from airflow_batch_provider.emulator.jsonl import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from airflow_batch_provider.emulator.core import File
    from airflow_batch_provider.emulator.job import Job
    from airflow_batch_provider.emulator.jsonl import Json

_PIECE = 1 << 18


class Call(Request):
    """One request to a service."""

    @property
    def prefix(self) -> str:
        """The unambiguous prefix the caller used: `/anthropic`, `/openai`, `/google` or nothing."""
        return str(self.scope.get("root_path", ""))

    @property
    def path(self) -> str:
        """The path behind the prefix."""
        return self.url.path.removeprefix(self.prefix)

    @property
    def base(self) -> str:
        """Scheme, host and prefix, as the caller wrote them."""
        return f"{self.url.scheme}://{self.headers.get('host', '127.0.0.1')}{self.prefix}"

    @property
    def bearer(self) -> str:
        """The token of an `Authorization: Bearer` header, or nothing."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def query(self, *names: str) -> str | None:
        """Return the first query parameter of these names."""
        return next((value for name in names if (value := self.query_params.get(name))), None)

    def number(self, default: int, most: int, *names: str) -> int:
        """Return a count from the query, at least 1 and at most `most`; raise `ValueError` beyond."""
        text = self.query(*names)
        value = default if text is None else int(text)
        if not 1 <= value <= most:
            raise ValueError(f"{names[0]} must be between 1 and {most}, not {value}")
        return value

    async def json(self) -> Json:
        """Return the body as an object, empty when there is none; raise `ValueError` for anything else."""
        raw = await self.body()
        value = json.loads(raw) if raw.strip() else {}
        if not isinstance(value, dict):
            raise ValueError("the body must be a JSON object")  # noqa: TRY004 - a bad value from outside
        return value

    async def answer(self, response: Response, dialect: Dialect, send: Send) -> None:
        """Send the response with the headers of the provider, once the caller has sent everything.

        An answer before that would look like a cut connection.
        """
        with suppress(ClientDisconnect, RuntimeError):  # the caller has left, or all has been read
            async for _ in self.stream():
                pass
        for name, value in dialect.headers().items():
            response.headers.setdefault(name, value)
        await response(self.scope, self.receive, send)


class Reply(Response):
    """A JSON answer, or headers only; it is rendered when it is sent, because faults change its content before."""

    media_type = "application/json; charset=utf-8"

    def __init__(
        self, content: Json | None, status: int = 200, headers: dict[str, str] | None = None, *, job: Job | None = None
    ) -> None:
        super().__init__(None, status, headers)
        self.content = content
        self.job = job
        """The job that this call created."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.content is not None:
            self.body = encode(self.content)
        self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


class Download(Response):
    """The bytes of a file.

    Starlette's `FileResponse` stops when the caller has no more to send, as every caller in the same process.
    """

    def __init__(self, path: Path, media_type: str, size: int | None = None) -> None:
        super().__init__(None, headers={"content-type": media_type})
        self.path = path
        del self.headers["content-length"]
        if size is not None:
            self.headers["content-length"] = str(size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self.path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Refused(Exception):
    """Answer with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status_code)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a service does, under its name in fault plan and books."""

    name: str
    method: str
    path: str
    """With `{names}` for its parameters."""
    handler: Callable[[Call], Awaitable[Response]]
    keyless: bool = False
    """Whether it is answered without an API key."""
    query: str | None = None
    """A query parameter that tells it from another operation on the same path."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before it has a provider's shape."""

    status: int
    code: str | None = None
    message: str | None = None
    details: Any = None


class Dialect(Protocol):
    """One provider's HTTP API."""

    name: str
    status: tuple[str, ...]
    """The path to the status word in a job's JSON."""
    operations: tuple[Operation, ...]
    """All it answers; the first that matches counts."""

    def problem(self, problem: Problem) -> Reply:
        """Return the error as this provider words it."""
        ...

    def key(self, call: Call) -> str:
        """Return the API key of the caller, empty when there is none."""
        ...

    def headers(self) -> dict[str, str]:
        """Return the headers that every answer carries."""
        ...


_Item = TypeVar("_Item", "Job", "File")


def page_after(items: Sequence[_Item], limit: int, after: str | None) -> tuple[list[_Item], bool]:
    """Return the `limit` items behind the one of that id, and whether more follow; None begins at the start."""
    start = 0 if after is None else next((n + 1 for n, item in enumerate(items) if item.id == after), len(items))
    return list(items[start : start + limit]), start + limit < len(items)


def ends(page: Sequence[Job] | Sequence[File]) -> Json:
    """Return the ids of the first and the last item of a page, as Anthropic and OpenAI say them."""
    return {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
