"""`python -m airflow_batch_provider.emulator`: serve the three batch APIs in the foreground."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import airflow_batch_provider.emulator as package
from airflow_batch_provider.emulator.faults import FaultInstruction
from airflow_batch_provider.emulator.instructions import read_instructions
from airflow_batch_provider.emulator.outcomes import Rule
from airflow_batch_provider.emulator.server import HOST, PORT, EmulatorServer
from airflow_batch_provider.emulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_batch_provider.emulator.jsonl import Json


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m airflow_batch_provider.emulator",
        description=package.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--host", default=HOST, help="address to bind (default: %(default)s, this machine only)")
    made.add_argument("--port", type=int, default=PORT, help="port, 0 takes a free one (default: %(default)s)")
    made.add_argument("--by", choices=("time", "polls"), help="what a batch progresses by (default: time)")
    made.add_argument("--pending", type=float, metavar="N", help="seconds or polls until it runs (default: 1)")
    made.add_argument("--running", type=float, metavar="N", help="seconds or polls it runs (default: 4)")
    made.add_argument("--faults", type=Path, metavar="FILE", help="JSON list of faults, as POST /emulator/faults takes")
    made.add_argument("--rules", type=Path, metavar="FILE", help="JSON list of rules, as POST /emulator/rules takes")
    made.add_argument(
        "--lenient", action="store_true", help="take models, parameters and schemas that the services refuse"
    )
    made.add_argument("--settings", type=Path, metavar="FILE", help="JSON object, as POST /emulator/settings takes")
    return made


def build(arguments: argparse.Namespace) -> EmulatorServer:
    """Return the server that the command line asks for; raise `ValueError` for a file with a wrong instruction."""
    settings = Settings()
    for changes in _instructions(arguments.settings):
        settings = settings.changed(changes)
    pace = {name: value for name in ("by", "pending", "running") if (value := getattr(arguments, name)) is not None}
    settings = settings.changed({"progress": pace, **({"lenient": True} if arguments.lenient else {})})
    faults = [FaultInstruction.read(one) for one in _instructions(arguments.faults)]
    rules = [Rule.read(one) for one in _instructions(arguments.rules)]
    server = EmulatorServer(settings, host=arguments.host, port=arguments.port)
    server.faults.extend(faults)
    server.emulator.rules += rules
    return server


def _instructions(path: Path | None) -> list[Json]:
    return read_instructions(path.read_text()) if path else []


def connections(url: str) -> list[str]:
    """Return environment variables for Airflow, one connection a provider."""
    hosts = {"anthropic": url, "openai": f"{url}/v1", "gemini": url}
    return [
        f"AIRFLOW_CONN_{name.upper()}_DEFAULT='{json.dumps({'conn_type': f'{name}_batch', 'password': 'any', 'host': host})}'"
        for name, host in hosts.items()
    ]


def main(given: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    command = parser()
    try:
        server = build(command.parse_args(given))
    except (OSError, ValueError) as error:
        command.error(str(error))
    print(f"Batch emulator at {server.url} (stop with Ctrl-C)\n\n" + "\n".join(connections(server.url)), flush=True)
    server.run()


if __name__ == "__main__":
    main()
