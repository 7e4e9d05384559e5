"""What a thousand waiting tasks cost whose polls are spread over the interval: start, memory, CPU, requests, lateness.

Each line is a process of its own under Airflow's TriggerRunner, against a fast server in another process. The first line
is Airflow's own part: triggers that sleep for good. To compare with another checkout, name both:
`python benchmarks/bench_polling.py . ../main`. BENCH=full measures more loads, at an interval of 30 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ROOT, table

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
HEAD = ("stage", "provider", "connections", "latency", "counts", "a record takes", "code")
COLUMNS = {
    "start_ms": "start, CPU ms",
    "kib": "KiB",
    "cpu_ms": "CPU ms/interval",
    "checks": "checks/interval",
    "sockets": "sockets",
    "requests": "requests/min",
    "p50": "late p50, s",
    "p99": "p99, s",
}


@dataclass(frozen=True)
class Load:
    """What waits.

    Attributes:
        stage: `Generate`, `Wait` (the sensor), or `Sleeper`, which is Airflow's part alone.
        accounts: connections that work, over which the tasks are spread.
        dead: a hundred more tasks wait at a connection that never answers.
        latency: of the server, seconds.
        counts: `moving` when the counts of every batch differ at every poll, else `still`.
        record: seconds that Airflow takes for each progress record, one after the other and in order with all else.
    """

    stage: str
    provider: str
    accounts: int = 1
    dead: bool = False
    latency: float = 0.0
    counts: str = "still"
    record: float = 0.0

    def shown(self) -> tuple[str, ...]:
        dead = " and a dead one" if self.dead else ""
        return (
            self.stage,
            self.provider,
            f"{self.accounts}{dead}",
            f"{self.latency:g} s",
            self.counts,
            f"{self.record:g} s",
        )


QUICK = [
    Load("Sleeper", "anthropic"),
    Load("Generate", "anthropic"),
    Load("Generate", "anthropic", record=0.01),
    Load("Generate", "openai", dead=True, latency=1.0),
    Load("Wait", "openai", accounts=5, dead=True, latency=1.0),
]
FULL = [
    Load("Sleeper", "anthropic"),
    *(
        Load("Generate", provider, dead=dead, latency=latency)
        for provider, dead, latency in product(("anthropic", "openai"), (False, True), (0.0, 1.0))
    ),
    Load("Generate", "openai", counts="moving"),
    Load("Generate", "openai", accounts=20, dead=True, latency=1.0),
    Load("Wait", "anthropic"),
    Load("Wait", "openai", latency=1.0),
]


@contextmanager
def server(settings: dict[str, Any]) -> Iterator[str]:
    """The URL of a server with these batches."""
    command = [sys.executable, str(HERE / "list_server.py"), json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def measured(code: Path, load: Load, tasks: int, interval: float) -> dict[str, float]:
    """What one load costs with one checkout of the package."""
    settings = {**asdict(load), "tasks": tasks, "interval": interval}
    with server(settings) as url:
        found = subprocess.run(
            [sys.executable, str(HERE / "polling_load.py"), json.dumps({**settings, "url": url})],
            env={**os.environ, "PYTHONPATH": str(code.resolve())},
            stdout=subprocess.PIPE,
            check=True,
        )
    costs: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return costs


def main() -> None:
    """Print a line for each load."""
    full = os.environ.get("BENCH") == "full"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("code", nargs="*", type=Path, default=[ROOT], help="checkouts of the package to measure")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=30.0 if full else 15.0, help="seconds")
    options = parser.parse_args()
    cases = list(product(FULL if full else QUICK, options.code))
    # Most of a measurement is waiting, and CPU time is counted by process, so several go side by side.
    with ThreadPoolExecutor(len(QUICK)) as pool:
        costs = pool.map(lambda case: measured(case[1], case[0], options.tasks, options.interval), cases)
        lines = [
            (*load.shown(), code.resolve().name, *(f"{cost[one]:.2f}" if one in cost else "-" for one in COLUMNS))
            for (load, code), cost in zip(cases, costs, strict=True)
        ]
    print(f"{options.tasks} tasks, one batch each, an interval of {options.interval:g} s\n")
    table((*HEAD, *COLUMNS.values()), lines)


if __name__ == "__main__":
    main()
