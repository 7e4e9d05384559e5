"""The job by `LLMBatchOperator` of apache-airflow-providers-common-ai."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from airflow.sdk.exceptions import TaskDeferred
from given import CONTEXT, COUNT, KIND, MODEL, PROVIDER, SCRATCH, Label, connect, prompts

import_module(PROVIDER)  # the SDK, imported at its first use otherwise; an import is not what is measured


class Job:
    """A list in, which is read from the file, and a file out."""

    def __init__(self) -> None:
        connect("pydanticai")
        self._operator = LLMBatchOperator(
            task_id="task",
            llm_conn_id="any",
            model_id=f"{PROVIDER}:{MODEL}",
            requests=[],
            output_type=Label if KIND == "schema" else str,
            result_path=(SCRATCH / "results").as_uri(),
            deferrable=True,
        )

    def submit(self) -> None:
        self._operator.requests = prompts()
        with suppress(TaskDeferred):
            self._operator.execute(CONTEXT)
        self._operator.requests = []  # the second half is another process, which has none

    def land(self) -> Path:
        event = {"status": "success", "batch_id": "batch", "counts": {"succeeded": COUNT}}
        manifest = self._operator.execute_complete(CONTEXT, event)
        assert manifest["counts"]["succeeded"] == COUNT, manifest
        return Path(manifest["result_uri"].removeprefix("file://"))
