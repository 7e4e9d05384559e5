"""A private Redis on loopback that keeps nothing: the broker of a CeleryExecutor."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from airflow_batch_provider.demo.stack import free_port

_START_SECONDS = 60.0


def program() -> str | None:
    """The path of `redis-server`; None where Redis is not installed."""
    return shutil.which("redis-server")


class RedisServer:
    """The server, started on entry; `lose` is what a crash without persistence does to it."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="redis-"))
        self._password, self._port = secrets.token_urlsafe(16), free_port()

    @property
    def url(self) -> str:
        """Its address, for Celery's broker."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def lose(self, seconds: float) -> None:
        """Kill it with all that it holds, and start an empty one after so long."""
        self._process.kill()
        self._process.wait()
        time.sleep(seconds)
        self._start()

    def _start(self) -> None:
        program_ = program()
        assert program_ is not None
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program_, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._home, start_new_session=True
            )
        lines = ("bind 127.0.0.1", f"port {self._port}", f"requirepass {self._password}", 'save ""', "appendonly no")
        assert self._process.stdin is not None
        with self._process.stdin as settings:  # not as arguments, which others on this machine may read
            settings.write("\n".join(lines).encode())
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        import redis  # it comes with Celery only

        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                with suppress(redis.exceptions.ConnectionError):
                    client.ping()
                    return
                assert self._process.poll() is None, (self._home / "log").read_text()
                assert time.monotonic() < deadline, (self._home / "log").read_text()
                time.sleep(0.1)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)
