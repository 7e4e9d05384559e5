"""The job by `BatchGenerateOperator`."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import TaskDeferred
from given import CONTEXT, KIND, MODEL, PROVIDER, ROWS, SCRATCH, Label, connect

from airflow_batch_provider.operators import BatchGenerateOperator

if TYPE_CHECKING:
    from pathlib import Path

import_module(PROVIDER)  # the SDK, imported at its first use otherwise; an import is not what is measured


class Job:
    """A file in, a file out."""

    def __init__(self) -> None:
        connect(f"{PROVIDER}_batch")
        os.environ["AIRFLOW__BATCH_PROVIDER__STORAGE_PATH"] = (SCRATCH / "storage").as_uri()
        self._result = SCRATCH / "results.jsonl"
        self._operator = BatchGenerateOperator(
            task_id="task",
            conn_id="any",
            model=MODEL,
            source=str(ROWS),
            prompt="{text}",
            key="id",
            output_type=Label if KIND == "schema" else None,
            result_path=str(self._result),
        )

    def submit(self) -> None:
        with suppress(TaskDeferred):
            self._operator.execute(CONTEXT)

    def land(self) -> Path:
        self._operator.execute_complete(CONTEXT)
        return self._result
