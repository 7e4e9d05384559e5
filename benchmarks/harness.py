"""What the benchmarks share: an emulator in a process of its own, a job driven as Airflow would, and a table."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes that a benchmark starts

from upath import UPath  # noqa: E402 — the package is found without being installed

from airflow_batch_provider.clock import utc_now  # noqa: E402
from airflow_batch_provider.hub import Hub  # noqa: E402
from airflow_batch_provider.models import Account, ConnectionRef, Manifest  # noqa: E402
from airflow_batch_provider.stages import (  # noqa: E402
    CheckCompletionContext,
    PollConfig,
    StageContext,
    Suspended,
    TaskKey,
)
from airflow_batch_provider.stages.config import BatchConfig, Source  # noqa: E402
from airflow_batch_provider.stages.generate import GenerateStage  # noqa: E402
from airflow_batch_provider.storage import Directory, StageStorage  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_batch_provider.stages.values import SuspendedState


@contextmanager
def emulator(*pace: str) -> Iterator[str]:
    """The URL of an emulator in another process, whose batches are done at the second poll, or at the given pace."""
    command = [sys.executable, "-m", "airflow_batch_provider.emulator", "--port", "0"]
    pace = pace or ("--by", "polls", "--pending", "0", "--running", "1")
    with subprocess.Popen([*command, *pace], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[3]
        finally:
            server.terminate()


def hub(provider: str, url: str, **options: Any) -> Hub:
    """A hub whose only account is at the emulator; polls still gather for a moment."""
    address = f"{url}/v1" if provider == "openai" else url

    async def open_account(_conn_id: str) -> Account:
        return Account(provider=provider, api_key="any", base_url=address, options=options)

    return Hub(open_account, sleep=lambda _seconds: asyncio.sleep(0.01))


@dataclass(frozen=True)
class Job:
    """One task on the rows of a file."""

    hub: Hub
    root: Path
    config: BatchConfig

    async def run(self) -> Manifest:
        """Execute, wait, resume, as Airflow would but without its pauses."""
        stage = GenerateStage()
        result = await stage.execute(self._context(StageContext))
        while isinstance(result, Suspended):
            is_ready = False
            while not is_ready:  # without a pause: the emulator counts polls
                is_ready = (await stage.check_completion(result.state, self._context(CheckCompletionContext))).is_ready
            result = await stage.execute(self._context(StageContext, resume_state=result.state))
        return result

    def _context(self, of: type[Any], *, resume_state: SuspendedState | None = None) -> Any:
        async def publish(_record: dict[str, Any]) -> None: ...

        return of(
            stage_id="bench",
            key=TaskKey("dag", "run", "task"),
            config=self.config,
            storage=StageStorage(Directory(UPath(self.root))),
            hub=self.hub,
            logger=logging.getLogger("bench"),
            publish=publish,
            now=utc_now,
            **({"resume_state": resume_state} if of is StageContext else {}),
        )


def config(rows: Path, result_format: str) -> BatchConfig:
    """What the job is told: the rows of a file, a prompt each."""
    return BatchConfig.model_validate(
        {
            "model": "openai:gpt-emulated-1",
            "connection": ConnectionRef(conn_id="bench", provider="openai"),
            "source": Source(uri=str(rows), prompt="Classify: {text}", key="id"),
            "result_format": result_format,
            "poll": PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(hours=1)),
        }
    )


def write_rows(path: Path, count: int) -> Path:
    """A JSONL file of rows of about 600 bytes."""
    text = "The payload came late and the box was open, but what was in it works as it should. " * 7
    with path.open("w") as file:
        for number in range(count):
            file.write(f'{{"id": "row-{number}", "text": "{number} {text}"}}\n')
    return path


def peak_mb() -> float:
    """The most memory that this process ever had resident, in MB; not getrusage, which inherits the parent's peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head, in columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print(
            "  ".join(
                cell.rjust(width) if n else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
