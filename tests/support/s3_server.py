"""A local S3 (moto) that may be told to fail or to be slow, and that takes one conditional write at a time."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BUCKET = "batches"
KEY = {"key": "k", "secret": "s"}
# What S3 says when a prefix gets more requests than it can serve (S3's error responses, 2026-11).
_SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class S3Server:
    """The server, in a thread, with a bucket `batches`.

    Attributes:
        unavailable: answer 503 to every request.
        delay: seconds before each answer.
        calls: how many requests came so far.
    """

    def __init__(self) -> None:
        self.unavailable = False
        self.delay = 0.0
        self.calls = 0
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._writes = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address, for `endpoint_url`."""
        return f"http://127.0.0.1:{self._server.port}"

    def contents(self, prefix: str) -> dict[str, int]:
        """The objects below a prefix of the bucket, with their sizes in bytes."""
        files = s3fs.S3FileSystem(**KEY, endpoint_url=self.url, skip_instance_cache=True, use_listings_cache=False)
        found = files.find(f"{BUCKET}/{prefix}", detail=True)
        return {name: one["size"] for name, one in found.items()}

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.calls += 1
        if self.delay:
            time.sleep(self.delay)
        if self.unavailable:
            get_input_stream(environ).read()
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_SLOW_DOWN)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [_SLOW_DOWN]
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
            return self._moto(environ, start)
        # moto 5.2 looks for the object and then writes it, and lets another thread in between: two would be first.
        environ["wsgi.input"] = io.BytesIO(get_input_stream(environ).read())
        with self._writes:
            return self._moto(environ, start)

    def __enter__(self) -> Self:
        self._thread.start()
        # moto keeps what it has for the whole process, so another server may have made it.
        s3fs.S3FileSystem(**KEY, endpoint_url=self.url, skip_instance_cache=True).makedirs(BUCKET, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
