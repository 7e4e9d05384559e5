"""What a DAG file pays for importing our operators, beside what Airflow's own `dag` and `task` cost."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from harness import table

ROUNDS = 3
AIRFLOW = "from airflow.sdk import dag, task"
OURS = f"{AIRFLOW}\nfrom airflow_batch_provider.operators import BatchGenerateOperator"
CASES = {
    "Airflow's dag and task": AIRFLOW,
    "and BatchGenerateOperator": OURS,
    "and the three SDKs, if it did": f"{OURS}\nimport anthropic, openai, google.genai",
}
PROGRAM = """
import sys, time
began = time.process_time()
{code}
print(time.process_time() - began, len(sys.modules))
"""


def measured(code: str) -> tuple[float, int]:
    """Processor's seconds of the imports in a new interpreter, and how many modules are there then."""
    command = [sys.executable, "-c", PROGRAM.format(code=code)]
    seconds, modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(modules)


def main() -> None:
    """Compare, each case in turn so that a busy moment hits all alike."""
    rounds = [[measured(code) for code in CASES.values()] for _ in range(ROUNDS)]
    seconds = [median(taken for taken, _ in case) for case in zip(*rounds, strict=True)]
    modules = [count for _, count in rounds[-1]]
    print(f"Imports of a DAG file in a new interpreter: processor's time, median of {ROUNDS} rounds in turn.\n")
    lines = [
        (name, f"{taken:.2f} s", f"{taken / seconds[0]:.2f} x", f"{count:,}")
        for name, taken, count in zip(CASES, seconds, modules, strict=True)
    ]
    table(("imports", "time", "to the first", "modules"), lines)


if __name__ == "__main__":
    main()
