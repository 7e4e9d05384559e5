"""A private PostgreSQL on loopback that keeps nothing: for Airflows with more than one triggerer."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2

from airflow_batch_provider.demo.stack import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 60.0
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_LOOPBACK_ONLY = ("listen_addresses=127.0.0.1", "unix_socket_directories=")


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; Debian keeps them off the PATH. None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda path: float(path.parent.name), default=None)


@contextmanager
def postgres(bin_: Path) -> Iterator[str]:
    """A database server while the block runs; its SQLAlchemy URL."""
    home = Path(tempfile.mkdtemp(prefix="postgres-"))  # not below pytest's folders, which no other user may enter
    try:
        with _server(bin_, home) as url:
            yield url
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _server(bin_: Path, home: Path) -> Iterator[str]:
    password, port = secrets.token_urlsafe(16), free_port()
    (home / "password").write_text(password)
    identity = _identity(home)
    data = home / "data"
    make = [bin_ / "initdb", "-D", data, "-U", "airflow", "-A", "scram-sha-256", f"--pwfile={home / 'password'}"]
    subprocess.run(
        [*make, "--no-sync", "-E", "UTF8", "--locale=C"], cwd=home, check=True, stdout=subprocess.DEVNULL, **identity
    )
    options = [word for option in (*_FAST, *_LOOPBACK_ONLY) for word in ("-c", option)]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [bin_ / "postgres", "-D", data, "-p", str(port), *options],
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **identity,
        )
    try:
        _wait_until_it_answers(server, port, password, home / "log")
        # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3.
        yield f"postgresql+psycopg2://airflow:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # "fast shutdown": it does not wait for its clients
        server.wait(30)


def _identity(home: Path) -> dict:
    """Who runs it: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    for path in (home, home / "password"):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait_until_it_answers(server: subprocess.Popen, port: int, password: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="airflow", password=password, dbname="postgres").close()
        except psycopg2.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return
