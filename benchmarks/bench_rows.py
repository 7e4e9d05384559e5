"""Rows per CPU-second of one ledger over real HTTP: submit, land, finish; the server is a process of its own.

Prompts of 1 KB, answers of 1.5 KB, each row checked to hold the answer to its own prompt. Processor's time of this process
alone, SDK and HTTP client included, so other processes disturb little.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness import table
from upath import UPath

from airflow_batch_provider.clock import Clock
from airflow_batch_provider.ledger import Ledger, LedgerContext, Policy, Target
from airflow_batch_provider.models import Account, Spec
from airflow_batch_provider.providers import provider_class
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.sources import request_blocks
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_batch_provider.ledger import Outcome

COUNT = int(os.environ.get("ROWS", "20000"))
ROUNDS = 3
_POLICY = Policy(
    retry_rows=0,
    in_flight=None,
    enqueued_tokens=None,
    retry_truncated=True,
    clean_up=False,
    leave_running=False,
    dedup_rows=True,
)
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["label", "score", "why"],
    "additionalProperties": False,
}
MODELS = {"anthropic": "claude-haiku-4-5", "openai": "gpt-5-mini"}
STEPS = ("submit", "land", "jsonl", "parquet")


@contextmanager
def server(kind: str, sentences: int = 18) -> Iterator[str]:
    """The URL of a server whose answers, of so many sentences of 85 bytes, are text or fit `SCHEMA`."""
    command = [sys.executable, str(Path(__file__).with_name("answer_server.py")), kind, str(sentences)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


class Task:
    """One task instance's ledger, taken through its steps one by one."""

    def __init__(self, provider: str, url: str, rows: Path, scratch: Path, schema: dict[str, Any] | None) -> None:
        self._rows = rows
        self._root = Directory(UPath(scratch))
        address = f"{url}/v1" if provider == "openai" else url
        account = Account.model_validate({"provider": provider, "api_key": "any", "base_url": address})
        self._context = {
            "root": self._root,
            "spec": Spec(model=MODELS[provider], output_schema=schema),
            "policy": _POLICY,
            "clock": Clock(),
            "label": "bench",
            "attempt": 1,
        }
        self._account = account
        self.outcome: Outcome | None = None

    def _ledger(self) -> Ledger:
        provider = provider_class(self._account.provider)(self._account)
        return Ledger(LedgerContext(provider=provider, **self._context))

    def blocks(self) -> Iterator[list[Any]]:
        """Return the requests, as a stage reads them."""
        return request_blocks(UPath(self._rows), "{text}", "id")

    async def submit(self) -> None:
        """Read, check, encode, cut, price, write, send."""
        ledger = self._ledger()
        assert ledger.current_plan(self) is None
        with ledger.draft(self) as draft:
            assert draft.commit()
        assert await ledger.advance() is not None

    async def land(self) -> None:
        """Fetch the results, write a row per request, and count them for people."""
        ledger = self._ledger()
        assert await ledger.advance() is None
        landed = ledger.landed()
        assert landed is not None
        assert landed.succeeded == COUNT, landed

    async def jsonl(self) -> None:
        """Write the results as JSON lines."""
        self.outcome = self._ledger().write_results("bench", Target(self._root, "results.jsonl"))

    async def parquet(self) -> None:
        """Write the results as Parquet."""
        self.outcome = self._ledger().write_results("bench", Target(self._root, "results.parquet"))

    def check(self) -> None:
        """Each row has the answer to its own prompt."""
        assert self.outcome is not None
        for number, row in enumerate(BatchResults(self.outcome.manifest)):
            found = row.output["score"] if isinstance(row.output, dict) else int(row.output.split()[0])
            assert (row.custom_id, row.status, found) == (f"row-{number}", "succeeded", number), row


def seconds(step: Callable[[], Any]) -> float:
    """The processor's time for one step."""
    began = time.process_time()
    asyncio.run(step())
    return time.process_time() - began


def submitted(provider: str, kind: str, rows: Path, scratch: Path) -> float:
    """Rows a CPU-second of planning and submitting alone; in as many batches as the provider needs."""
    with server(kind) as url:
        task = Task(provider, url, rows, scratch / f"{provider}-{kind}", SCHEMA if kind == "schema" else None)
        return COUNT / seconds(task.submit)


def measured(provider: str, kind: str, rows: Path, scratch: Path) -> tuple[str, ...]:
    """Rows a CPU-second of each step."""
    with server(kind) as url:
        task = Task(provider, url, rows, scratch / f"{provider}-{kind}", SCHEMA if kind == "schema" else None)
        taken = []
        for step in STEPS:
            taken.append(seconds(getattr(task, step)))
            if step in ("jsonl", "parquet"):
                task.check()
    return (provider, kind, *(f"{COUNT / used:,.0f}" for used in taken))


def write_rows(path: Path, count: int = COUNT, sentences: int = 12) -> Path:
    """A JSONL file of prompts of so many sentences of 83 bytes."""
    text = "The payload came late and the box was open, but what was in it works as it should. " * sentences
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"row-{number}", "text": f"{number} {text}"}) + "\n")
    return path


def main() -> None:
    """Measure; `--submit` only submits, three times; `--profile` shows where the time goes instead."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_rows(Path(scratch, "rows.jsonl"))
        for provider in MODELS:
            measured(provider, "text", rows, Path(scratch, "warm"))  # pays for imports and caches
        lines = [measured(provider, kind, rows, Path(scratch)) for provider in MODELS for kind in ("text", "schema")]
    _print(lines, STEPS)


def main_submit() -> None:
    """Submit only, each case in turn so that a busy moment hits all alike."""
    cases = [(provider, kind) for provider in MODELS for kind in ("text", "schema")]
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_rows(Path(scratch, "rows.jsonl"))
        rounds = [
            [submitted(*case, rows, Path(scratch, str(number))) for case in cases] for number in range(ROUNDS + 1)
        ]
    by_case = zip(cases, zip(*rounds[1:], strict=True), strict=True)  # the first round pays for imports and caches
    _print(
        [(*case, f"{median(rates):,.0f}", f"{max(rates):,.0f}") for case, rates in by_case],
        ("submit, median", "best"),
    )


def _print(lines: list[tuple[str, ...]], steps: tuple[str, ...]) -> None:
    print(f"{COUNT:,} rows, prompts of 1 KB, answers of 1.5 KB; rows per CPU-second, SDK and HTTP client included.\n")
    table(("provider", "answers", *steps), lines)


if __name__ == "__main__":
    if "--profile" in sys.argv:
        with cProfile.Profile() as profile:
            main()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    elif "--submit" in sys.argv:
        main_submit()
    else:
        main()
