"""What one look at many waiting tasks costs: through the shared hub, and one by one."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from harness import emulator, hub, table

from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.providers.base import Payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from airflow_batch_provider.hub import Hub
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.providers.base import BatchProvider

TASKS = 50
ROUNDS = 5
MODELS = {"anthropic": "claude-emulated-1", "openai": "gpt-emulated-1", "google": "gemini-emulated-1"}


async def bought(provider: BatchProvider, model: str, number: int) -> str:
    """The id of a new batch of one row."""
    with tempfile.TemporaryDirectory() as scratch:
        payload = packed(provider, model, number, Path(scratch, "batch.jsonl"))
        return await provider.create(await provider.prepare(payload))


def packed(provider: BatchProvider, model: str, number: int, path: Path) -> Payload:
    """One row, ready to be sent."""
    spec, tag = Spec(model=model), f"bench0000000-0-{number:05d}"
    body = json.dumps(provider.codec.encode(BatchRequest(prompt="Hello?"), spec)).encode()
    size = path.write_bytes(provider.codec.line(f"{tag}-0", body, spec) + b"\n")
    return Payload(tag=tag, label="bench", path=path, requests=1, bytes=size, first_key=f"{tag}-0", spec=spec)


def calls(url: str) -> int:
    """How many requests the emulator has answered."""
    with urlopen(f"{url}/emulator/books") as reply:
        return sum(json.load(reply)["calls"].values())


@asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """How many milliseconds the event loop did not turn, each time that it did again."""
    seen = [0.0]

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            seen.append((time.perf_counter() - began) * 1000 - 1)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()


async def rounds(url: str, look: Callable[[str], Awaitable[BatchStatus]], batch_ids: list[str]) -> tuple[float, float]:
    """Calls a round of looks, and the longest stall in a round, median, milliseconds; the first opens connections."""
    await asyncio.gather(*map(look, batch_ids))
    before, worst = await asyncio.to_thread(calls, url), []
    for _ in range(ROUNDS):
        async with stalls() as stall:
            seen = await asyncio.gather(*map(look, batch_ids))
        assert [status.batch_id for status in seen] == batch_ids
        worst.append(max(stall))
    return (await asyncio.to_thread(calls, url) - before) / ROUNDS, median(worst)


async def measured(url: str, name: str, accounts: Hub) -> list[tuple[Any, ...]]:
    """A line per way to look."""
    provider = await accounts.provider("bench")
    batch_ids = [await bought(provider, MODELS[name], number) for number in range(TASKS)]
    shared, stall = await rounds(url, lambda batch_id: accounts.status("bench", batch_id), batch_ids)
    single, single_stall = await rounds(url, provider.status, batch_ids)
    return [
        (name, "one by one", f"{single:.1f}", "1.00 x", f"{single_stall:.0f} ms"),
        ("", "hub", f"{shared:.1f}", f"{shared / single:.2f} x", f"{stall:.0f} ms"),
    ]


async def main() -> None:
    """Compare, for each provider."""
    lines = []
    with emulator("--by", "time", "--pending", "3600") as url:
        for name in MODELS:
            accounts = hub(name, url)
            lines += await measured(url, name, accounts)
            await accounts.aclose()
    print(
        f"{TASKS} tasks of one connection, each waiting for its own batch; {ROUNDS} rounds in which all look at once.\n"
        "The emulator, in another process, counts the requests it answers.\n"
    )
    table(("provider", "looks", "calls a round", "ratio", "longest stall"), lines)


if __name__ == "__main__":
    asyncio.run(main())
