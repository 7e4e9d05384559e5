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
    (accepted,) = [transport.get_extra_info("socket") for transport, _ in batch_emulator._connections._open.values()]
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_one_connection_carries_all_calls_of_a_client(batch_emulator, http):
    for _ in range(20):
        assert (await http.get("/emulator/books")).status_code == 200
    assert len(batch_emulator._connections._open) == 1


def test_a_server_leaves_nothing(batch_emulator_settings):
    """Its port and its files are gone when it stops."""
    with EmulatorServer(batch_emulator_settings) as server:
        folder = server.emulator.blobs.new().parent
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), 1)


def test_stopping_waits_for_no_tick(monkeypatch):
    """uvicorn looks every 0.1 s whether to stop, and sleeps 0.1 s before it does."""
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
    params = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
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
