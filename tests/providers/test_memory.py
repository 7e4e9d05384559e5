"""Sending and reading a large batch costs no memory, and does not hold up the event loop."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

MB = 1_000_000
LINES = 20_000

# A server that reads what is sent, counts it, and forgets it; run in a process of its own, so that only the
# adapter's memory is measured.
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINE = {line!r}
BATCH = {batch!r}

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_POST(self):
        left = int(self.headers["content-length"] or 0)
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self.reply(json.dumps(BATCH).encode())
    def do_GET(self):
        if self.path.endswith(("/results", "/content")):
            self.send_response(200)
            self.send_header("content-length", str(len(LINE) * {count}))
            self.end_headers()
            for _ in range({count} // 100):
                self.wfile.write(LINE * 100)
        else:
            self.reply(json.dumps(BATCH).encode())
    def reply(self, body):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

# The measured side, in a process of its own too.
CLIENT = """
import asyncio, sys, time
from pathlib import Path
from airflow_batch_provider.models import Account, Spec
from airflow_batch_provider.providers import connect
from airflow_batch_provider.providers.base import Payload

def peak():
    # Not getrusage: its ru_maxrss is inherited from the parent process on Linux.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

async def stalls(worst):
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        worst[0] = max(worst[0], time.perf_counter() - began - 0.005)

async def main():
    name, url, path = sys.argv[1:]
    provider = connect(Account(provider=name, api_key="sk-1", base_url=url))
    file = Path(path)
    payload = Payload("t-1", "d/r/t", file, 1, file.stat().st_size, Spec(model="m"))
    await provider.check()
    before, worst = peak(), [0.0]
    watch = asyncio.create_task(stalls(worst))
    batch_id = await provider.create(await provider.prepare(payload))
    sent = peak() - before
    count = 0
    async for reply in provider.results(batch_id, "generate"):
        count += 1
    print(sent, peak() - before, count, worst[0])
    watch.cancel()
    await provider.aclose()

asyncio.run(main())
"""

COUNTS = {"processing": 0, "succeeded": LINES, "errored": 0, "canceled": 0, "expired": 0}
TEXT = "x" * 4_700
ANTHROPIC = {
    "batch": {
        "id": "b_1",
        "processing_status": "ended",
        "results_url": "http://x",
        "request_counts": COUNTS,
        "data": [],
    },
    "line": {
        "custom_id": "k",
        "result": {"type": "succeeded", "message": {"content": [{"type": "text", "text": TEXT}]}},
    },
}
BODY = {"choices": [{"finish_reason": "stop", "message": {"content": TEXT}}]}
OPENAI = {
    "batch": {"id": "b_1", "status": "completed", "output_file_id": "file-2", "data": []},
    "line": {"custom_id": "k", "response": {"status_code": 200, "body": BODY}, "error": None},
}


@contextmanager
def serving(batch: dict, line: dict):
    """The port of a server that takes everything and keeps nothing."""
    raw = json.dumps(line).encode() + b"\n"
    code = SERVER.replace("{line!r}", repr(raw)).replace("{batch!r}", repr(batch)).replace("{count}", str(LINES))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("name", "path", "wire"), [("anthropic", "", ANTHROPIC), ("openai", "/v1", OPENAI)])
def test_a_hundred_megabytes_pass_through_a_few(name, path, wire, tmp_path):
    """On the way out and on the way back; and the loop goes on turning."""
    file = tmp_path / "requests.jsonl"
    with file.open("wb") as target:
        for number in range(LINES):
            target.write(b'{"custom_id":"k-%d","params":{"text":"%b"}}\n' % (number, b"y" * 5_000))
    assert file.stat().st_size > 100 * MB
    with serving(**wire) as port:
        command = [sys.executable, "-c", CLIENT, name, f"http://127.0.0.1:{port}{path}", str(file)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    sent, read, count, stall = (float(number) for number in told)
    assert count == LINES
    assert sent < 25 * MB
    assert read < 25 * MB
    assert stall < 1.0
