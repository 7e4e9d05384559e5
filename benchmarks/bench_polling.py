"""What a thousand waiting tasks cost, whose looks are spread over the interval: requests, CPU, memory, and when they notice.

Each line is a process of its own under Airflow's TriggerRunner, against a fast server in another process. To compare
with another checkout, name it: `python benchmarks/bench_polling.py ../main`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ROOT, table

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@contextmanager
def server(provider: str, number: int, latency: float, spread: float) -> Iterator[str]:
    """The URL of a server with so many batches."""
    command = [sys.executable, str(HERE / "list_server.py"), provider, str(number), str(latency), str(spread)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def measured(
    code: Path, provider: str, options: argparse.Namespace, latency: float, *, neighbour: bool
) -> dict[str, Any]:
    """What one load costs with one checkout of the package."""
    with server(provider, options.tasks, latency, options.interval) as url:
        ids = [f"batch_{number:05d}" for number in range(options.tasks)]
        load = {"provider": provider, "url": url, "ids": ids, "interval": options.interval, "neighbour": neighbour}
        found = subprocess.run(
            [sys.executable, str(HERE / "polling_load.py"), json.dumps(load)],
            env={**os.environ, "PYTHONPATH": str(code.resolve())},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Print a line for each load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("code", nargs="*", type=Path, default=[ROOT], help="checkouts of the package to measure")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=30.0, help="seconds")
    parser.add_argument("--providers", nargs="+", default=["anthropic", "openai"])
    parser.add_argument("--latencies", nargs="+", type=float, default=[0.0, 1.0], help="seconds")
    parser.add_argument("--neighbours", nargs="+", choices=("none", "dead"), default=["none", "dead"])
    options = parser.parse_args()
    lines = []
    for provider, latency, neighbour, code in product(
        options.providers, options.latencies, options.neighbours, options.code
    ):
        cost = measured(code, provider, options, latency, neighbour=neighbour == "dead")
        name = code.resolve().name
        lines.append((provider, f"{latency:g} s", neighbour, name, *(f"{value:.2f}" for value in cost.values())))
        print(*lines[-1], file=sys.stderr, flush=True)
    print(f"{options.tasks} tasks, one batch each, one connection, an interval of {options.interval:g} s\n")
    head = (
        "provider",
        "latency",
        "neighbour",
        "code",
        "start ms",
        "KiB",
        "sockets",
        "requests/min",
        "CPU ms",
        "p50",
        "p99",
    )
    table(head, lines)


if __name__ == "__main__":
    main()
