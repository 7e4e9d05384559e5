"""The port: quick to answer, quick to close, and open to this machine only."""

from __future__ import annotations

import asyncio
import socket
import threading

import httpx2
import pytest
from uvicorn import Server

from airflow_batch_provider.emulator import EmulatorServer

KEY = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


async def test_no_answer_waits_for_the_callers_acknowledgement(batch_emulator, http):
    """Head and body are two packets: with Nagle's algorithm the second waits 40 ms."""
    await http.get("/emulator/books")
    (accepted,) = [connection.transport.get_extra_info("socket") for connection in batch_emulator._server.connections]
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_one_connection_carries_all_calls_of_a_client(batch_emulator, http):
    for _ in range(20):
        assert (await http.get("/emulator/books")).status_code == 200
    assert len(batch_emulator._server.connections) == 1


def test_a_server_leaves_nothing(batch_emulator_settings):
    """Its port and its files are gone when it stops."""
    with EmulatorServer(batch_emulator_settings) as server:
        folder = server.emulator.blobs.new().parent
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), 1)


def test_stopping_waits_for_no_tick(monkeypatch):
    """uvicorn checks every 0.1 s whether to stop, and sleeps 0.1 s before it does."""
    slept = []
    sleep = asyncio.sleep

    async def recorded(seconds, *result):
        if server._server.should_exit:
            slept.append(seconds)
        return await sleep(seconds, *result)

    monkeypatch.setattr(asyncio, "sleep", recorded)
    monkeypatch.setattr(Server, "on_tick", _never)
    server = EmulatorServer()
    with server, httpx2.Client(base_url=server.url) as client:
        client.get("/emulator/books")
    assert slept == []


async def _never(_server, _counter):
    return False


def test_a_call_under_way_is_answered_before_the_port_closes(batch_emulator, http_client):
    """The lock holds the call until the server has been told to stop."""
    params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    body = {"requests": [{"custom_id": "a", "params": params}]}
    batch_id = http_client.post("/v1/messages/batches", json=body, headers=KEY).json()["id"]
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(http_client.get(f"/v1/messages/batches/{batch_id}", headers=KEY))
    )
    stopping = threading.Thread(target=batch_emulator.stop)
    calls = batch_emulator.emulator.calls
    with batch_emulator.emulator.jobs.all[batch_id].lock:
        asking.start()
        while not calls["anthropic.retrieve"]:
            pass
        stopping.start()
        while not batch_emulator._server.should_exit:
            pass
    asking.join()
    stopping.join()
    assert [answer.status_code for answer in answers] == [200]


def test_a_call_that_stalls_does_not_hold_the_server(batch_emulator, monkeypatch):
    """After its grace the server drops what is left."""
    monkeypatch.setattr("airflow_batch_provider.emulator.server._GRACE", 0.0)
    batch_emulator.faults.add("anthropic.models", "stall", seconds=3600)
    with socket.create_connection(("127.0.0.1", batch_emulator.port)) as caller:
        caller.sendall(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nanthropic-version: 1\r\nx-api-key: k\r\n\r\n")
        while not batch_emulator.emulator.calls["anthropic.models"]:
            pass
        batch_emulator.stop()
        assert caller.recv(1) == b""


@pytest.fixture
def http_client(batch_emulator):
    with httpx2.Client(base_url=batch_emulator.url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/emulator/books", "/emulator/settings"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "10.0.0.1", "[::2]", "["]
)
async def test_a_foreign_name_of_this_machine_reads_nothing(http, path, host):
    """A page whose name resolves to 127.0.0.1 (DNS rebinding) is of the same origin for the browser."""
    answer = await http.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "localhost" in answer.json()["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8765", "127.0.0.1", "127.8.9.1:1", "[::1]:8765", "emulator.localhost"]
)
async def test_names_of_this_machine_are_served(http, host):
    assert (await http.get("/emulator/books", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}, {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("POST", "settings"), ("POST", "reset"), ("DELETE", "faults")])
async def test_a_page_of_another_site_orders_nothing(http, batch_emulator, headers, method, path):
    """A form or a simple fetch of any page reaches 127.0.0.1 from its visitor's browser."""
    batch_emulator.faults.add("*", "stall")
    before = batch_emulator.emulator.settings
    answer = await http.request(method, f"/emulator/{path}", content='{"seed": 5}', headers=headers)
    assert answer.status_code == 403
    assert batch_emulator.emulator.settings == before
    assert len(batch_emulator.faults.all) == 1


async def test_the_emulators_own_page_and_programs_order(http, batch_emulator):
    for headers in ({}, {"origin": batch_emulator.url}, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}):
        assert (await http.post("/emulator/reset", headers=headers)).status_code == 200


async def test_providers_routes_take_any_host(http):
    """A container calls this machine by names of its own; these routes need an API key."""
    headers = {"host": "host.docker.internal", "authorization": "Bearer k"}
    assert (await http.get("/openai/v1/models", headers=headers)).status_code == 200


def test_an_open_port_is_told():
    """Bound beyond this machine it warns, and takes the names by which others call it."""
    with pytest.warns(UserWarning, match=r"listens on 0\.0\.0\.0: everyone"):
        server = EmulatorServer(host="0.0.0.0")
    with server:
        url = f"http://127.0.0.1:{server.port}/emulator"
        assert httpx2.get(f"{url}/books", headers={"host": "batch.example"}).status_code == 200
        assert httpx2.post(f"{url}/reset", headers={"origin": "https://evil.example"}).status_code == 403
