"""A server that takes batches and has answered them at once, so quick that it is not what a benchmark measures.

It speaks as much of Anthropic's and OpenAI's batch APIs as one ledger needs, in a process of its own, and answers every
request with the number that its prompt begins with, so that each answer can be told from all others.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

_ASKED = re.compile(rb'"custom_id": ?"([^"]+)".*?"(?:content|text)": ?"(\d+) ')
_NUMBERED = re.compile(rb"(?:file|batch|out)-(\d+)")
_TOOL = re.compile(rb'"tool_choice":\{[^}]*"name":"([^"]+)"')
_TEXT = 'the answer is long and says \\"so\\" in many words, of which no two lines are alike. '
_BLOCK = 1 << 20
# Bytes at the start of a body that may name a file; the body of a batch of Anthropic's is longer, and has no number there.
_SMALL = 1000


class Server:
    """One account; every batch is done when it is looked at. Files and batches are numbered from 0, in the order they come."""

    def __init__(self, scratch: Path, answer: str) -> None:
        self._scratch = scratch
        self._answer = answer.encode()
        self._requests: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while head := await _head(reader):
            method, path = head.split(b" ", 2)[:2]
            body = await _body(reader, head)
            number = self._number(path, body)
            if method == b"POST" and self._takes(path):
                number = self._answer_all(body, anthropic=b"messages" in path)
            if path.endswith((b"/results", b"/content")):
                await self._send_results(writer, number)
            else:
                reply = json.dumps(self._reply(path.decode(), number)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(reply), reply)
                )
            await writer.drain()

    @staticmethod
    def _takes(path: bytes) -> bool:
        return path in (b"/v1/messages/batches", b"/v1/files")

    @staticmethod
    def _number(path: bytes, body: bytes) -> int:
        """Return which batch is meant: by the path, or by the file that it is made of."""
        found = _NUMBERED.search(path) or _NUMBERED.search(body[:_SMALL])
        return int(found[1]) if found else 0

    def _answer_all(self, body: bytes, *, anthropic: bool) -> int:
        line = _OPENAI
        if anthropic:
            tool = _TOOL.search(body)
            line = _ANTHROPIC if tool is None else _ANTHROPIC_TOOL.replace(b"TOOL", tool[1])
        answer = json.loads(b'"%b"' % self._answer).encode() if b"tool_use" in line else self._answer
        number, requests = len(self._requests), 0
        with self._results(number).open("wb") as file:
            for found in _ASKED.finditer(body):
                requests += 1
                file.write(
                    line.replace(b"KEY", found[1]).replace(b"ANSWER", answer.replace(b"NUMBER", found[2])) + b"\n"
                )
        self._requests.append(requests)
        return number

    def _results(self, number: int) -> Path:
        return self._scratch / f"results-{number}.jsonl"

    async def _send_results(self, writer: asyncio.StreamWriter, number: int) -> None:
        results = self._results(number)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % results.stat().st_size)
        with results.open("rb") as file:
            while block := file.read(_BLOCK):
                writer.write(block)
                await writer.drain()

    def _reply(self, path: str, number: int) -> dict[str, object]:
        requests = self._requests[number] if self._requests else 0
        if path.startswith("/v1/messages"):
            counts = {"processing": 0, "succeeded": requests, "errored": 0, "canceled": 0, "expired": 0}
            told = {
                "processing_status": "ended",
                "request_counts": counts,
                "results_url": f"/v1/messages/batches/batch-{number}/results",
                "data": [],
            }
            times = {"created_at": "2026-11-26T10:00:00Z", "ended_at": "2026-11-26T10:00:01Z"}
            return {"id": f"batch-{number}", **times, **told}
        counts = {"total": requests, "completed": requests, "failed": 0}
        if path.startswith("/v1/files"):
            return {
                "id": f"file-{number}",
                "object": "file",
                "bytes": 1,
                "created_at": 1,
                "filename": "f",
                "purpose": "batch",
                "data": [],
            }
        return {
            "id": f"batch-{number}",
            "status": "completed",
            "request_counts": counts,
            "output_file_id": f"out-{number}",
            "data": [],
            "created_at": 1,
        }


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length:
        return await reader.readexactly(int(length[1]))
    parts: list[bytes] = []
    while b"chunked" in head.lower() and (size := int(await reader.readline(), 16)):
        parts.append((await reader.readexactly(size + 2))[:-2])
    if parts:
        await reader.readline()
    return b"".join(parts)


_OPENAI = json.dumps(
    {
        "id": "batch_req_1",
        "custom_id": "KEY",
        "response": {
            "status_code": 200,
            "request_id": "r",
            "body": {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-5-mini-2026-08-01",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "ANSWER", "refusal": None, "annotations": []},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 250,
                    "completion_tokens": 300,
                    "total_tokens": 550,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 0},
                },
                "service_tier": "default",
            },
        },
        "error": None,
    }
).encode()
_ANTHROPIC = json.dumps(
    {
        "custom_id": "KEY",
        "result": {
            "type": "succeeded",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-4-5-20251001",
                "content": [{"type": "text", "text": "ANSWER"}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 250,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                    "output_tokens": 300,
                    "service_tier": "batch",
                },
            },
        },
    }
).encode()

# A forced tool, by which some clients ask for a structured answer.
_ANTHROPIC_TOOL = _ANTHROPIC.replace(
    b'{"type": "text", "text": "ANSWER"}',
    b'{"type": "tool_use", "id": "toolu_1", "name": "TOOL", "input": ANSWER}',
)


def _answers(kind: str, sentences: int) -> str:
    text = _TEXT * sentences
    if kind == "text":
        return "NUMBER " + text
    inner = text.replace("\\", "\\\\\\")
    return '{\\"label\\": \\"good\\", \\"score\\": NUMBER, \\"why\\": \\"' + inner + '\\"}'


async def main(kind: str, sentences: int) -> None:
    """Serve answers of so many sentences of 85 bytes on a free port of loopback, and print it, until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    with tempfile.TemporaryDirectory() as scratch:
        served = Server(Path(scratch), _answers(kind, sentences))
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0, limit=_BLOCK)
        print(server.sockets[0].getsockname()[1], flush=True)
        await stopped.wait()
    os._exit(0)  # connections that are open need no farewell


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
