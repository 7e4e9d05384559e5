"""A private PostgreSQL on loopback that keeps nothing: for Airflows with more than one scheduler or triggerer."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import psycopg2

from airflow_batch_provider.demo.stack import free_port

_START_SECONDS = 60.0
# A cluster opens more connections than the 100 that PostgreSQL allows by itself.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")
_LOOPBACK_ONLY = ("listen_addresses=127.0.0.1", "unix_socket_directories=")


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; Debian keeps them off the PATH. None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda path: float(path.parent.name), default=None)


class Postgres:
    """A database server, started on entry; it keeps nothing after exit.

    Args:
        bin_: the folder of its programs.

    Attributes:
        url: SQLAlchemy's address of its database.
    """

    def __init__(self, bin_: Path) -> None:
        self._bin = bin_
        self._home = Path(tempfile.mkdtemp(prefix="postgres-"))  # not below pytest's, which no other user may enter
        self._password, self._port = secrets.token_urlsafe(16), free_port()
        self._user = _identity(self._home)
        # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3.
        self.url = f"postgresql+psycopg2://airflow:{self._password}@127.0.0.1:{self._port}/postgres"

    def restart(self, seconds: float = 0.0) -> None:
        """End it, with all connections to it, and start it again after so long."""
        self._stop()
        time.sleep(seconds)
        self._start()

    def query(self, statement: str, *values: object) -> list[tuple]:
        """The rows of a query."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def _connect(self):
        return psycopg2.connect(self.url.replace("+psycopg2", ""))

    def _make(self) -> None:
        password = self._home / "password"
        password.write_text(self._password)
        if self._user:
            os.chown(password, self._user["user"], self._user["group"])
        make = [self._bin / "initdb", "-D", self._home / "data", "-U", "airflow", "-A", "scram-sha-256"]
        make += [f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(make, cwd=self._home, check=True, stdout=subprocess.DEVNULL, **self._user)

    def _start(self) -> None:
        options = [word for option in (*_FAST, *_LOOPBACK_ONLY) for word in ("-c", option)]
        with (self._home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self._home / "data", "-p", str(self._port), *options],
                cwd=self._home,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,
            )
        self._wait_until_it_answers()

    def _stop(self) -> None:
        self._server.send_signal(signal.SIGINT)  # "fast shutdown": it does not wait for its clients
        self._server.wait(30)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._connect().close()
            except psycopg2.OperationalError:
                log = (self._home / "log").read_text()
                assert self._server.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
            else:
                return

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, self._home, ignore_errors=True)
            self._make()
            self._start()
            undo.callback(self._stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


def _identity(home: Path) -> dict:
    """Who runs it: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(home, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
