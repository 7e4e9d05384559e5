"""The emulator behind a real port, in a thread or in the foreground."""

from __future__ import annotations

import asyncio
import socket
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_batch_provider.emulator.app import create_app
from airflow_batch_provider.emulator.books import books
from airflow_batch_provider.emulator.core import Emulator
from airflow_batch_provider.emulator.guard import is_loopback

if TYPE_CHECKING:
    from starlette.types import Scope

    from airflow_batch_provider.emulator.clock import Clock
    from airflow_batch_provider.emulator.faults import Faults
    from airflow_batch_provider.emulator.settings import Settings

HOST = "127.0.0.1"
PORT = 8765
_GRACE = 1.0
"""Seconds that calls under way get when the server stops."""
_OPEN = (
    "The emulator listens on {address}: everyone who reaches this machine can read the prompts that are sent to it and "
    f"change its answers. Bind {HOST} unless you mean that."
)


class _Connection(H11Protocol):
    """A connection that answers without delay, and tells when it has closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.closed = asyncio.Event()
        # uvicorn writes head and body apart: with Nagle's algorithm each answer waits 40 ms for the caller's delayed
        # acknowledgement. asyncio turns it off only for a socket that was made with `proto=IPPROTO_TCP`.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()


class _Server(uvicorn.Server):
    """uvicorn, which checks every 0.1 s whether to stop and sleeps 0.1 s while it does, without these waits."""

    def __init__(self, emulator: Emulator, *, loopback: bool) -> None:
        app = create_app(emulator, self.cut, loopback=loopback)
        config = uvicorn.Config(
            app, http=_Connection, log_config=None, access_log=False, lifespan="off", proxy_headers=False, ws="none",
            timeout_keep_alive=75, loop="asyncio", date_header=False,
        )  # fmt: skip
        super().__init__(config)
        self.serving = threading.Event()

    @property
    def connections(self) -> list[_Connection]:
        """The open connections."""
        return [connection for connection in self.server_state.connections if isinstance(connection, _Connection)]

    async def cut(self, scope: Scope) -> None:
        """Close the connection of a request once what was written has left."""
        for connection in self.connections:
            if connection.client == scope["client"]:
                connection.transport.close()
                # uvicorn answers 500 for an application that does not, unless it knows that the connection is closed.
                await connection.closed.wait()

    async def main_loop(self) -> None:
        self._loop, self._ticks = asyncio.get_running_loop(), asyncio.create_task(super().main_loop())
        self.serving.set()
        await asyncio.wait([self._ticks])
        if not self._ticks.cancelled():
            self._ticks.result()

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self.should_exit = True
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._ticks.cancel)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port; calls under way get a short time to end, then their connections are dropped."""
        for listener in [*self.servers, *(sockets or ())]:
            listener.close()
        for connection in self.connections:
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await asyncio.gather(*(connection.closed.wait() for connection in self.connections))
        for connection in self.connections:
            connection.transport.abort()
            await connection.closed.wait()


class EmulatorServer:
    """The emulator on a port of its own; use it as a context manager.

    `port` 0 takes a free one. `url` is the base for Anthropic and Gemini, `openai_url` for OpenAI. The emulator itself
    is at `emulator`; its clock, faults and books are here for short.
    """

    def __init__(
        self, settings: Settings | None = None, clock: Clock | None = None, *, host: str = HOST, port: int = 0
    ) -> None:
        self.emulator = Emulator(settings, clock)
        self._socket = socket.create_server((host, port), backlog=512)
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        loopback = is_loopback(self._address[0])
        self._server = _Server(self.emulator, loopback=loopback)
        self._thread: threading.Thread | None = None
        if not loopback:
            warnings.warn(_OPEN.format(address=self._address[0]), stacklevel=2)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """Base URL for the Anthropic and the Gemini SDK."""
        return f"http://{self._address[0]}:{self.port}"

    @property
    def anthropic_url(self) -> str:
        """`base_url` of an Anthropic client."""
        return self.url

    @property
    def openai_url(self) -> str:
        """`base_url` of an OpenAI client."""
        return f"{self.url}/v1"

    @property
    def google_url(self) -> str:
        """`http_options.base_url` of a google-genai client."""
        return self.url

    @property
    def clock(self) -> Clock:
        """The emulator's clock."""
        return self.emulator.clock

    @property
    def faults(self) -> Faults:
        """The fault plan."""
        return self.emulator.faults

    def books(self) -> dict[str, Any]:
        """Return the books, as `/emulator/books` does."""
        return books(self.emulator)

    def start(self) -> Self:
        """Serve from a thread; return when the port answers."""
        self._thread = threading.Thread(target=self._run, name="batch-emulator", daemon=True)
        self._thread.start()
        while not self._server.serving.wait(0.1):
            if not self._thread.is_alive():
                raise RuntimeError("The emulator's server thread ended before it served; see its traceback above.")
        return self

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def run(self) -> None:
        """Serve in the foreground until interrupted."""
        try:
            self._run()
        finally:
            self.emulator.close()

    def stop(self) -> None:
        """Close the port and remove the files."""
        if self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._thread = None
        self._socket.close()
        self.emulator.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
