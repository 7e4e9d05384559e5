"""Memory of whole jobs by their number of rows: it should be the same for any number.

Each job is a process of its own: the stage, from a file of rows to its results, over real HTTP against `answer_server.py`, with
OpenAI's batches of up to 50,000 rows. Prompts of 1 KB, answers of 1.5 KB. MiB are the most above what the process had when that
half of the job began, with the SDK imported. `BENCH=full` takes a million rows as well, which needs 15 GB of disk, and ten
million with prompts and answers of one sentence, which need more than 16 GB.
`ROWS=1000000` takes that number alone, and `JOB="to Parquet,"` the jobs whose name holds that.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_rows import MODELS, SCHEMA, server, write_rows
from harness import ROOT, Job, config, forget_peak, hub, resident, table

from airflow_batch_provider.airflow.heap import arrow_takes_little

if TYPE_CHECKING:
    from collections.abc import Awaitable

FULL = os.environ.get("BENCH") == "full"
ALL_COUNTS = (10_000, 100_000, *((1_000_000, 10_000_000) if FULL else ()))
COUNTS = (int(os.environ["ROWS"]),) if "ROWS" in os.environ else ALL_COUNTS
# With more rows than this, prompts and answers have one sentence instead of a dozen, so that they fit on a disk.
LONG = 1_000_000
# What a job is called → how the rows come, what is asked, and what is written.
JOBS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JSONL to JSONL, text": ("jsonl", "text", {"result_format": "jsonl"}),
    "JSONL to Parquet, schema": ("jsonl", "schema", {"result_format": "parquet"}),
    "Parquet table to Parquet table, schema": ("parquet", "schema", {"result_format": "parquet", "keep_columns": True}),
}
HEAD = ("job", "rows", "submit, MiB", "rows/CPU-s", "land, MiB", "rows/CPU-s")


def main() -> None:
    """Measure each job at each number of rows; `--plot` draws what was measured, too."""
    wanted = [name for name in JOBS if os.environ.get("JOB", "") in name]
    found: dict[str, list[tuple[int, dict[str, float]]]] = {name: [] for name in wanted}
    for count in COUNTS:
        for name in wanted:
            found[name].append((count, measured(name, count)))
    table(HEAD, [shown(name, count, taken) for name, all_ in found.items() for count, taken in all_])
    if "--plot" in sys.argv:
        from plot import lines  # noqa: PLC0415 — only here

        curves = {
            f"{name}: {half}": [(count, taken[f"{half}_mib"]) for count, taken in all_]
            for name, all_ in found.items()
            for half in ("submit", "land")
        }
        Path(__file__).with_name("memory.svg").write_text(lines("MiB above the start, by rows of one task", curves))


def shown(name: str, count: int, taken: dict[str, float]) -> tuple[str, ...]:
    """A line of the table."""
    halves = [(f"{taken[f'{half}_mib']:.0f}", f"{count / taken[half]:,.0f}") for half in ("submit", "land")]
    return (name, f"{count:,}", *(cell for half in halves for cell in half))


def measured(name: str, count: int) -> dict[str, float]:
    """CPU seconds and MiB of both halves of a job, in a process of its own."""
    source, kind, _ = JOBS[name]
    prompt, answer = (12, 18) if count <= LONG else (1, 1)
    with tempfile.TemporaryDirectory() as scratch, server(kind, answer) as url:
        rows = write_rows(Path(scratch, "rows.jsonl"), count, prompt)
        if source == "parquet":
            rows = as_parquet(rows)
        told = json.dumps({"name": name, "count": count, "url": url, "rows": str(rows), "scratch": scratch})
        found = subprocess.run(
            [sys.executable, __file__, told], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
    taken: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return taken


def as_parquet(rows: Path) -> Path:
    """The same rows as Parquet, made without having them all in memory."""
    import pyarrow as pa
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    path, schema = rows.with_suffix(".parquet"), pa.schema([("id", pa.string()), ("text", pa.string())])
    with pj.open_json(rows) as batches, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    rows.unlink()
    return path


async def job(told: dict[str, Any]) -> dict[str, float]:
    """Run one job: submit, then land, each measured."""
    _, kind, options = JOBS[told["name"]]
    more = options | ({"output_type": SCHEMA} if kind == "schema" else {})
    accounts = hub("openai", told["url"])
    job = Job(accounts, Path(told["scratch"], "storage"), config(Path(told["rows"]), MODELS["openai"], more))
    taken: dict[str, float] = {}
    await accounts.provider(job.config.connection)  # imports the SDK
    state = await half("submit", job.submit(), taken)
    manifest = await half("land", job.land(state), taken)
    await accounts.aclose()
    assert manifest.counts["succeeded"] == told["count"], manifest.counts
    return taken


async def half(name: str, step: Awaitable[Any], taken: dict[str, float]) -> Any:
    """Run one half of a job and keep what it took."""
    forget_peak()
    memory, began = resident("VmRSS"), time.process_time()
    returned = await step
    taken[name], taken[f"{name}_mib"] = time.process_time() - began, (resident("VmHWM") - memory) / 2**20
    return returned


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] != "--plot":
        with arrow_takes_little():  # as an operator does
            print(json.dumps(asyncio.run(job(json.loads(sys.argv[1])))))
    else:
        main()
