"""One job of `bench_peers.py`, in a process of its own, in the environment of the package that it measures.

Every job begins with the same JSONL file of prompts and ends with a JSONL file of answers, through what its package gives its
users: an operator's `execute` and `execute_complete`, or a model's batch methods. Where a package takes a list, reading the
file is part of its submit, as it is of ours. Imports and the wait between the two halves are not measured.
"""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"  # Airflow reads it when it is imported

from given import COUNT, JOB


def check(path: Path) -> None:
    """Every row is there, once, with the answer to its own prompt."""
    found = []
    with path.open() as file:
        for line in file:
            row = json.loads(line)
            output = row["output"]
            number = output["score"] if isinstance(output, dict) else int(output.split()[0])
            assert row["custom_id"].endswith(f"-{number}"), row["custom_id"]
            found.append(number)
    assert sorted(found) == list(range(COUNT)), f"{len(found)} of {COUNT} rows"


def resident(field: str) -> int:
    """A figure of this process's memory, bytes: VmRSS now, VmHWM the most since that was last forgotten."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def measured(step: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds of a step, the MiB that it had at most above its start, and what it returned."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak, see proc_pid_clear_refs(5)
    memory, began = resident("VmRSS"), time.process_time()
    returned = step()
    used = time.process_time() - began
    return used, (resident("VmHWM") - memory) / 2**20, returned


def main() -> None:
    """Run the job and print what it took."""
    job = import_module(f"with_{JOB['who'].replace('-', '_')}").Job()
    submit, submit_mib, _ = measured(job.submit)
    land, land_mib, path = measured(job.land)
    check(path)
    print(json.dumps({"submit": submit, "submit_mib": submit_mib, "land": land, "land_mib": land_mib}))


if __name__ == "__main__":
    main()
