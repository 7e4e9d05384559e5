"""A fast server with the list and the single poll of Anthropic's and OpenAI's batches; it counts what it is asked.

The first part of a path names the account, `a0`, `a1`, …; batch n belongs to account n modulo their number. Requests of
the account `dead` are never answered. `GET /books` tells requests and open sockets, `GET /end?seconds=30` ends the batches
one after the other within that time and tells when each ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
MOST = {"anthropic": 1000, "openai": 100}[SETTINGS["provider"]]
IDS = [f"batch_{number:05d}" for number in range(SETTINGS["tasks"])]
ACCOUNTS = {f"a{account}": IDS[account :: SETTINGS["accounts"]] for account in range(SETTINGS["accounts"])}
CREATED = time.time() - 600
ENDS: dict[str, float] = {}
BOOKS = {"requests": 0, "dead_requests": 0, "sockets": 0}
REQUESTS = 1_000_000


def record(batch_id: str) -> dict[str, Any]:
    """The provider's record of a batch."""
    number = int(batch_id.removeprefix("batch_"))
    ended, created = ENDS.get(batch_id, float("inf")) <= time.time(), CREATED + number / 10
    done = int((time.time() - CREATED) * 100) if SETTINGS["counts"] == "moving" else 1
    if SETTINGS["provider"] == "openai":
        return {
            "id": batch_id, "object": "batch", "endpoint": "/v1/chat/completions", "errors": None, "model": "gpt-x",
            "input_file_id": "file-1", "completion_window": "24h", "status": "completed" if ended else "in_progress",
            "output_file_id": "file-2" if ended else None, "error_file_id": None, "created_at": int(created),
            "in_progress_at": int(created), "expires_at": int(created) + 86400, "finalizing_at": None,
            "completed_at": int(ENDS[batch_id]) if ended else None, "failed_at": None, "expired_at": None,
            "cancelling_at": None, "cancelled_at": None, "metadata": {"tag": "0123456789ab-0-00000", "label": "dag/run/task"},
            "request_counts": {"total": REQUESTS, "completed": REQUESTS if ended else done, "failed": 0},
        }  # fmt: skip
    when = datetime.fromtimestamp(created, UTC).isoformat()
    counts = {"processing": 0 if ended else REQUESTS, "succeeded": REQUESTS if ended else 0}
    return {
        "id": batch_id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
        "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0}, "created_at": when, "expires_at": when,
        "ended_at": datetime.fromtimestamp(ENDS[batch_id], UTC).isoformat() if ended else None,
        "cancel_initiated_at": None, "archived_at": None, "results_url": None,
    }  # fmt: skip


def listed(account: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """A page, newest first."""
    newest = ACCOUNTS[account][::-1]
    after = query.get("after_id") or query.get("after")
    start = newest.index(after[0]) + 1 if after else 0
    page = newest[start : start + min(MOST, int(query.get("limit", ["20"])[0]))]
    return {"data": [record(one) for one in page], "has_more": start + len(page) < len(newest), "last_id": page[-1]}


async def answer(target: str) -> Any:
    url = urlsplit(target)
    account, last, query = url.path.split("/")[1], url.path.rpartition("/")[2], parse_qs(url.query)
    if last == "books":
        return BOOKS
    if last == "end":
        step = float(query["seconds"][0]) / len(IDS)
        ENDS.update((one, time.time() + step * place) for place, one in enumerate(IDS))
        return ENDS
    if account == "dead":
        BOOKS["dead_requests"] += 1
        await asyncio.Event().wait()
    BOOKS["requests"] += 1
    await asyncio.sleep(SETTINGS["latency"])
    return listed(account, query) if last == "batches" else record(last)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    BOOKS["sockets"] += 1
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = json.dumps(await answer(head.split(b" ", 2)[1].decode())).encode()
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
