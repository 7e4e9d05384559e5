"""A fast server with the list and the look of Anthropic's and OpenAI's batches; it counts what it is asked.

`GET /books` tells requests and open sockets, `GET /end` ends the batches one after the other and tells when each ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROVIDER, NUMBER, LATENCY, SPREAD = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
MOST = {"anthropic": 1000, "openai": 100}[PROVIDER]
IDS = [f"batch_{number:05d}" for number in range(NUMBER)]
CREATED = time.time() - 600
ENDS: dict[str, float] = {}
BOOKS = {"requests": 0, "sockets": 0}


def record(batch_id: str) -> dict[str, Any]:
    """The provider's record of a batch."""
    ended, created = ENDS.get(batch_id, float("inf")) <= time.time(), CREATED + IDS.index(batch_id) / 10
    if PROVIDER == "openai":
        return {
            "id": batch_id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": None, "model": "gpt-x",
            "input_file_id": "file-1", "completion_window": "24h", "status": "completed" if ended else "in_progress",
            "output_file_id": "file-2" if ended else None, "error_file_id": None, "created_at": int(created),
            "in_progress_at": int(created), "expires_at": int(created) + 86400, "finalizing_at": None,
            "completed_at": int(time.time()) if ended else None, "failed_at": None, "expired_at": None,
            "cancelling_at": None, "cancelled_at": None, "request_counts": {"total": 100, "completed": 1, "failed": 0},
            "metadata": {"tag": "0123456789ab-0-00000", "label": "dag/run/task"},
        }  # fmt: skip
    when, running = datetime.fromtimestamp(created, UTC).isoformat(), 0 if ended else 100
    counts = {"processing": running, "succeeded": 100 - running, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": batch_id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts, "created_at": when, "expires_at": when, "ended_at": when if ended else None,
        "cancel_initiated_at": None, "archived_at": None, "results_url": None,
    }  # fmt: skip


def listed(query: dict[str, list[str]]) -> dict[str, Any]:
    """A page, newest first."""
    newest = IDS[::-1]
    after = query.get("after_id") or query.get("after")
    start = newest.index(after[0]) + 1 if after else 0
    page = newest[start : start + min(MOST, int(query.get("limit", ["20"])[0]))]
    return {"data": [record(one) for one in page], "has_more": start + len(page) < NUMBER, "last_id": page[-1]}


def answer(target: str) -> Any:
    url = urlsplit(target)
    last = url.path.rpartition("/")[2]
    if last == "books":
        return BOOKS
    if last == "end":
        now = time.time()
        ENDS.update((one, now + SPREAD * place / NUMBER) for place, one in enumerate(IDS))
        return ENDS
    BOOKS["requests"] += 1
    return listed(parse_qs(url.query)) if last == "batches" else record(last)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    BOOKS["sockets"] += 1
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            target = head.split(b" ", 2)[1].decode()
            if "batches" in target:
                await asyncio.sleep(LATENCY)
            body = json.dumps(answer(target)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        BOOKS["sockets"] -= 1
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
