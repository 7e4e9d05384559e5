"""What a handler gets and gives: a call, a reply, and the way between a path and its handler."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from airflow_batch_provider.emulator.jobs import Job

Json = dict[str, Any]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, with the values its path carries."""

    request: Request
    params: Mapping[str, str]
    prefix: str
    """The unambiguous prefix the caller used: `/anthropic`, `/openai`, `/google` or nothing."""

    @property
    def base(self) -> str:
        """Scheme, host and prefix, as the caller wrote them."""
        return f"{self.request.url.scheme}://{self.request.headers.get('host', '127.0.0.1')}{self.prefix}"

    def query(self, *names: str) -> str | None:
        """The first query parameter of these names."""
        return next((value for name in names if (value := self.request.query_params.get(name))), None)

    def number(self, default: int, most: int, *names: str) -> int:
        """A count from the query, at least 1 and at most `most`; raises `ValueError` beyond."""
        text = self.query(*names)
        value = default if text is None else int(text)
        if not 1 <= value <= most:
            raise ValueError(f"{names[0]} must be between 1 and {most}, not {value}")
        return value

    async def json(self) -> Json:
        """The body as an object, empty when there is none; raises `ValueError` for anything else."""
        raw = await self.request.body()
        value = json.loads(raw) if raw.strip() else {}
        if not isinstance(value, dict):
            raise ValueError("the body must be a JSON object")  # noqa: TRY004 - a bad value from outside
        return value


@dataclass(slots=True)
class Reply:
    """An answer: a JSON body, or a file, or nothing but headers."""

    status: int = 200
    body: Json | None = None
    headers: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    """A file that is streamed as the body."""
    job: Job | None = None
    """The job that this call created."""


class Refused(Exception):
    """A handler's way to answer with an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A name for faults and books, and what it answers to."""

    name: str
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    keyless: bool = False
    needs: str | None = None
    """A query parameter that tells it from another route on the same path."""


def route(
    name: str, method: str, path: str, handler: Handler, *, keyless: bool = False, needs: str | None = None
) -> Route:
    """A route for a path with `{names}`; a name takes everything up to a slash or a colon."""
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(path))
    return Route(name, method, re.compile(pattern), handler, keyless, needs)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before it has a provider's shape."""

    status: int
    code: str | None = None
    message: str | None = None
    details: Any = None


class Dialect(Protocol):
    """One provider's way to talk."""

    @property
    def routes(self) -> Sequence[Route]:
        """All it answers to; the first that matches counts."""
        ...

    @property
    def status(self) -> tuple[str, ...]:
        """The way to the status word in a job's JSON."""
        ...

    def problem(self, problem: Problem) -> Reply:
        """The error as this provider words it."""
        ...

    def key(self, request: Request) -> str:
        """The API key of the caller, empty when there is none."""
        ...

    def headers(self) -> dict[str, str]:
        """Headers on every answer."""
        ...


def bearer(request: Request) -> str:
    """The token of an `Authorization: Bearer` header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def page_after(items: Sequence[_Item], limit: int, first: Callable[[_Item], bool] | None) -> tuple[list[_Item], bool]:
    """The `limit` items behind the one that `first` marks, and whether more follow; all from the start without a mark."""
    start = 0 if first is None else next((n + 1 for n, item in enumerate(items) if first(item)), len(items))
    return list(items[start : start + limit]), start + limit < len(items)
