"""What a job of `bench_peers.py` is given: where its rows and its server are, and what stands in for Airflow's context."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict

JOB: dict[str, str] = json.loads(sys.argv[1])
PROVIDER, KIND, SCRATCH = JOB["provider"], JOB["answers"], Path(JOB["scratch"])
ROWS, COUNT = Path(JOB["rows"]), int(JOB["count"])
MODEL = {"anthropic": "claude-haiku-4-5", "openai": "gpt-5-mini"}[PROVIDER]
ADDRESS = JOB["url"] + ("/v1" if PROVIDER == "openai" else "")


class Label(BaseModel):
    """What every structured answer of `answer_server.py` holds."""

    model_config = ConfigDict(extra="forbid")

    label: str
    score: int
    why: str


class TaskInstance(SimpleNamespace):
    """A running task, as far as an operator asks."""

    def xcom_push(self, key: str, value: Any) -> None: ...


_TI = TaskInstance(dag_id="dag", run_id="run", task_id="task", map_index=-1, try_number=1)
CONTEXT: Any = {"ti": _TI, "task_instance": _TI}


def prompts() -> list[str]:
    """Every prompt, in memory, for those who want a list."""
    with ROWS.open() as file:
        return [json.loads(line)["text"] for line in file]


def connect(conn_type: str) -> None:
    """Make the connection `any` to the server."""
    os.environ["AIRFLOW_CONN_ANY"] = json.dumps({"conn_type": conn_type, "password": "any", "host": ADDRESS})
