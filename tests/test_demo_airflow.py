"""The demo's Airflow, as far as it can be tried without one."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest

from airflow_batch_provider.demo.rest import AirflowRest
from airflow_batch_provider.demo.stack import AirflowStack


@pytest.fixture
def answers():
    """The status codes that an API server answers with, the first one first, and its client."""
    codes: list[int] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"left": len(codes)}).encode()
            self.send_response(codes.pop(0))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        rest = AirflowRest(f"http://127.0.0.1:{server.server_port}", "admin", "admin")
        yield codes, rest
        rest.close()
        server.shutdown()


def test_what_a_locked_sqlite_refused_is_sent_again(answers):
    """Airflow keeps it locked itself now and then, and answers 500 before it does anything."""
    codes, rest = answers
    codes += [500, 500, 200]

    assert rest.send("POST", "/dags/d/dagRuns", {}) == {"left": 1}
    assert codes == []


def test_what_was_done_though_it_got_a_500_is_taken_for_done(answers):
    """It is there already when it is sent again."""
    codes, rest = answers
    codes += [500, 409]

    assert rest.send("POST", "/connections", {"connection_id": "c"}) == {"connection_id": "c"}


@pytest.mark.parametrize(("given", "left"), [([500] * 6, [500]), ([409, 200], [200])])
def test_a_change_that_stays_refused_is_an_error(answers, given, left):
    """Whatever says more than that something broke is not sent again."""
    codes, rest = answers
    codes += given

    with pytest.raises(httpx2.HTTPStatusError, match=str(given[0])):
        rest.send("POST", "/dags/d/dagRuns", {})
    assert codes == left


def test_the_api_server_alone_gives_up_soon_on_a_locked_sqlite(tmp_path, monkeypatch):
    """The other processes wait for each other as long as a busy machine takes."""
    stack = AirflowStack(tmp_path / "home", tmp_path)
    started = {}
    monkeypatch.setattr(
        stack.processes, "start", lambda name, _command, env: started.update({name: {**stack.env, **env}})
    )

    for name in ("api-server", "scheduler"):
        stack.launch(name)

    urls = {name: env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] for name, env in started.items()}
    assert urls["api-server"].endswith("airflow.db?timeout=5")
    assert urls["scheduler"].endswith("airflow.db?timeout=60")
