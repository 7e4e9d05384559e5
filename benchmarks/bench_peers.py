"""The same job by this package and by its peers: rows per CPU-second and memory, from a file of prompts to a file of answers.

Each job is a process of its own in the environment of its package, against one server (`answer_server.py`) that has answered
before it is asked. Jobs run in turn, three times with `BENCH=full`, so that a busy moment hits all alike. Every answer is checked
to be its own prompt's. The peers live in `.venv-peers`, which `make bench` makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench_rows import COUNT, server, write_rows
from harness import ROOT, table

PEERS = ROOT / ".venv-peers" / "bin" / "python"
ROUNDS = 3 if os.environ.get("BENCH") == "full" else 1
HEAD = ("provider", "answers", "package", "submit", "ours is", "MiB", "land", "ours is", "MiB")


@dataclass(frozen=True)
class Job:
    """What is asked of whom.

    Attributes:
        who: `ours`, `common-ai` (the operator `LLMBatchOperator`) or `pydantic-ai` (its models' batch methods).
        answers: `text`, or `schema`: a model of three fields.
    """

    provider: str
    answers: str
    who: str

    def run(self, rows: Path) -> dict[str, float]:
        """CPU seconds and MiB above the start of both halves, in a process of its own."""
        with server(self.answers) as url, tempfile.TemporaryDirectory() as scratch:
            told = {"who": self.who, "provider": self.provider, "answers": self.answers, "url": url}
            job = {**told, "scratch": scratch, "rows": str(rows), "count": str(COUNT)}
            found = subprocess.run(
                [sys.executable if self.who == "ours" else str(PEERS), "benchmarks/peers/job.py", json.dumps(job)],
                cwd=ROOT,
                env={**os.environ, "AIRFLOW_HOME": scratch},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        taken: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
        return taken


# Its batches speak OpenAI's Responses, which the server does not.
_UNSERVED = ("openai", "pydantic-ai")
JOBS = [
    Job(provider, answers, who)
    for provider in ("anthropic", "openai")
    for answers in ("text", "schema")
    for who in ("ours", "common-ai", "pydantic-ai")
    if (provider, who) != _UNSERVED
]


def shown(job: Job, taken: dict[Job, dict[str, float]]) -> tuple[str, ...]:
    """A line of the table; the ratios are how many times as many rows ours does in a CPU-second."""
    mine, ours = taken[job], taken[Job(job.provider, job.answers, "ours")]
    cells = [
        cell
        for half in ("submit", "land")
        for cell in (
            f"{COUNT / mine[half]:,.0f}",
            "" if job.who == "ours" else f"{mine[half] / ours[half]:.1f} x",
            f"{mine[f'{half}_mib']:.0f}",
        )
    ]
    return (job.provider, job.answers, job.who, *cells)


def main() -> None:
    """Measure all jobs in turn, and print the medians of the rounds."""
    if not PEERS.exists():
        sys.exit(f"{PEERS} was not found: `make bench` makes the environment of the peers.")
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_rows(Path(scratch, "rows.jsonl"))
        rounds = [{job: job.run(rows) for job in JOBS} for _ in range(ROUNDS)]
    taken = {job: {name: median(one[job][name] for one in rounds) for name in rounds[0][job]} for job in JOBS}
    print(
        f"{COUNT:,} rows, prompts of 1 KB, answers of 1.5 KB; rows per CPU-second, and MiB above the start of the half; "
        f"rounds: {ROUNDS}.\n"
    )
    table(HEAD, [shown(job, taken) for job in JOBS])


if __name__ == "__main__":
    main()
