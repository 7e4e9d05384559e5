"""Rows per second of our own code, without network: planning, landing, finishing; against plain json on the same rows."""

from __future__ import annotations

import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import table, write_rows
from upath import UPath

from airflow_batch_provider.clock import Clock, utc_now
from airflow_batch_provider.ledger import Ledger, LedgerContext, Policy, Target
from airflow_batch_provider.ledger.landing import Landing, land
from airflow_batch_provider.ledger.records import Receipt
from airflow_batch_provider.models import Account, BatchStatus, Spec
from airflow_batch_provider.providers.openai.provider import OpenAIProvider
from airflow_batch_provider.sources import requests_of
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from airflow_batch_provider.models import Kind, Reply

COUNT = 10_000
_POLICY = Policy(
    retry_rows=0, in_flight=None, enqueued_tokens=None, retry_truncated=False, clean_up=False, leave_running=False
)
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}
ANSWER = json.dumps({"label": "good", "score": 5})


class Canned(OpenAIProvider):
    """OpenAI's adapter, whose results come from memory instead of the network."""

    async def results(self, batch_id: str, kind: Kind) -> AsyncGenerator[Reply, None]:
        """One answer per row, backwards: a provider keeps no order."""
        for number in reversed(range(COUNT)):
            line = _RESULT.replace(b"KEY", f"{batch_id}-{number}".encode())
            yield self.codec.decode(line, kind)


def _result() -> bytes:
    body = {
        "id": "chatcmpl-1",
        "model": "gpt-5-mini-2026-08-01",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
        "usage": {"prompt_tokens": 150, "completion_tokens": 12, "total_tokens": 162},
    }
    response = {"status_code": 200, "request_id": "r", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": "KEY", "response": response, "error": None}).encode()


_RESULT = _result()


class Task:
    """One task instance's ledger, taken through its steps one by one."""

    def __init__(self, scratch: Path, rows: Path, schema: dict[str, Any] | None) -> None:
        self._rows = rows
        self._spec = Spec(model="gpt-5-mini", output_schema=schema)
        self._root = Directory(UPath(scratch))
        self._provider = Canned(Account.model_validate({"provider": "openai", "api_key": "any"}))
        self._ledger = Ledger(
            LedgerContext(
                root=self._root,
                provider=self._provider,
                spec=self._spec,
                policy=_POLICY,
                clock=Clock(),
                label="bench",
                attempt=1,
            )
        )

    def plan(self) -> None:
        """Read, check, encode, cut, write."""
        if self._ledger.current_plan(self._requests()) is None:
            with self._ledger.draft(self._requests()) as draft:
                assert draft.commit()

    def _requests(self) -> Iterator[Any]:
        return requests_of(UPath(self._rows), "Classify: {text}", "id")

    def retry(self) -> None:
        """What another attempt does before it goes on: compare the rows with the plan."""
        self.plan()

    def land(self) -> None:
        """Read the provider's lines and write a row per request."""
        plan, (wave,) = self._ledger.plan(), self._ledger.waves()
        assert plan is not None
        (files,), tag = self._ledger.files.batches(wave), plan.tag(0, 0, 0)
        receipt = Receipt(batch_id=tag, tag=tag, requests=wave.requests, submitted_at=utc_now())
        files.add_receipt(receipt)
        landing = Landing(files, 0, receipt, self._spec)
        counts = asyncio.run(land(landing, self._provider, BatchStatus(batch_id=tag, status="completed"), utc_now()))
        assert counts == {"succeeded": COUNT}, counts

    def jsonl(self) -> None:
        """Write the results as JSON lines."""
        self._ledger.write_results("bench", Target(self._root, "results.jsonl"))

    def parquet(self) -> None:
        """Write the results as Parquet."""
        self._ledger.write_results("bench", Target(self._root, "results.parquet"))

    def yardstick(self) -> None:
        """Read the planned lines with json and write them again."""
        with self._root.writer("yardstick.jsonl") as file:
            for wave in self._ledger.waves():
                for batch in self._ledger.files.batches(wave):
                    for line in batch.request_lines():
                        file.write(json.dumps(json.loads(line)).encode() + b"\n")


def seconds(step: Callable[[], None]) -> float:
    """The processor's time for one step, which other processes disturb little."""
    began = time.process_time()
    step()
    return time.process_time() - began


def measured(name: str, schema: dict[str, Any] | None, rows: Path, scratch: Path) -> list[tuple[str, ...]]:
    """A line per step: rows a second, and how many times the yardstick it takes."""
    tasks = [Task(scratch / f"{name}-{number}", rows, schema) for number in range(2)]
    # The better of two: the first pays for imports and caches.
    taken = {
        step: min(seconds(getattr(task, step)) for task in tasks)
        for step in ("plan", "retry", "land", "jsonl", "parquet")
    }
    unit = min(seconds(task.yardstick) for task in tasks)
    return [(name, step, f"{COUNT / used:,.0f}", f"{used / unit:.1f} x") for step, used in taken.items()]


def main() -> None:
    """Measure; `--profile` shows where the time goes instead."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_rows(Path(scratch, "rows.jsonl"), COUNT)
        lines = [
            line
            for name, schema in (("text", None), ("schema", SCHEMA))
            for line in measured(name, schema, rows, Path(scratch))
        ]
    print(
        f"{COUNT:,} rows of 600 bytes through the code between the file and OpenAI's adapter; no network; processor's\n"
        "time. The unit is what reading and writing the planned lines once with Python's json takes in the same run.\n"
    )
    table(("answers", "step", "rows/s", "time"), lines)


if __name__ == "__main__":
    if "--profile" in sys.argv:
        with cProfile.Profile() as profile:
            main()
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    else:
        main()
