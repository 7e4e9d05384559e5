"""What the benchmarks share: a job driven as Airflow would, the memory of a process, and a table."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
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
    from collections.abc import Sequence

    from airflow_batch_provider.stages.values import SuspendedState


def hub(provider: str, url: str, **options: Any) -> Hub:
    """A hub whose only account is at this address; polls still gather for a moment."""
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

    async def submit(self) -> SuspendedState:
        """Plan and submit, as the worker does before the task waits."""
        suspended = await GenerateStage().execute(self._context(StageContext))
        assert isinstance(suspended, Suspended)
        return suspended.state

    async def land(self, state: SuspendedState) -> Manifest:
        """Wait, resume, land and finish, as Airflow would but without its pauses."""
        stage = GenerateStage()
        result: Manifest | Suspended = Suspended(state=state)
        while isinstance(result, Suspended):
            state, is_ready = result.state, False
            while not is_ready:
                is_ready = (await stage.check_completion(state, self._context(CheckCompletionContext))).is_ready
            result = await stage.execute(self._context(StageContext, resume_state=state))
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


def config(rows: Path, model: str, more: dict[str, Any]) -> BatchConfig:
    """What the job is told: the rows of a file, a prompt each."""
    return BatchConfig.model_validate(
        {
            "model": model,
            "connection": ConnectionRef(conn_id="bench", provider="openai"),
            "source": Source(uri=str(rows), prompt="{text}", key="id"),
            "poll": PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(hours=1)),
            **more,
        }
    )


def forget_peak() -> None:
    """Let the most memory that this process had be counted from now on, see proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> int:
    """A figure of this process's memory, bytes: VmRSS now, VmHWM the most since that was last forgotten."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


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
