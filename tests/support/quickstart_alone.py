"""A script for a Python that has only the wheel: the quickstart by `airflow dags test`, and what the emulator sold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import airflow_batch_provider
from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings


def main(dags: str) -> int:
    """Return the code that the run ended with."""
    home = Path(airflow_batch_provider.__file__).parent
    print(f"{home.name} of {'the environment' if home.is_relative_to(sys.prefix) else home}", flush=True)
    with EmulatorServer(Settings(progress=Progress(pending=0.1, running=0.5, finalizing=0.1))) as emulator:
        environment = {
            **os.environ,
            **to_emulator(emulator),
            "AIRFLOW__CORE__DAGS_FOLDER": dags,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        airflow = [sys.executable, "-m", "airflow"]
        subprocess.run([*airflow, "db", "migrate"], check=True, env=environment, stdout=subprocess.DEVNULL)
        code = subprocess.run([*airflow, "dags", "test", "quickstart"], check=False, env=environment).returncode
        tell(emulator.books()["jobs"])
    return code


def tell(jobs: list[dict]) -> None:
    """A line for each provider: how many rows it billed, and whether it billed one again."""
    sold = defaultdict(list)
    for job in jobs:
        sold[job["provider"]] += job["prompts"] if job["billed"] == job["requests"] else ["unbilled"]
    for provider, prompts in sold.items():
        print(f"{provider} sold {len(prompts)} rows, {'none' if len(set(prompts)) == len(prompts) else 'some'} twice")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
