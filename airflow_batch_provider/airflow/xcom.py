"""What a stage returns on its way to XCom and out of it: small values travel, large ones stay in stage storage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

# XComs are rows of Airflow's database, and travel through two processes and the API on each use.
LARGEST_XCOM = 48 * 1024

_FILE = "return_value.json"


def to_xcom(output: Any, directory: Directory) -> Any:
    """Return the output itself when it is small, else `{"stage_output": uri, "bytes": n}`.

    Raises:
        UsageError: the output is not JSON.
    """
    try:
        data = json.dumps(output).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"The stage's output is not JSON: {error}. Return dicts, lists or pydantic models.") from error
    if len(data) <= LARGEST_XCOM:
        return output
    directory.write(_FILE, data)
    return {"stage_output": directory.uri(_FILE), "bytes": len(data)}


def from_xcom(value: Any, root: str) -> Any:
    """Return the output that `to_xcom` was given.

    Args:
        root: stage storage of all tasks; a reference that points elsewhere is data, and returned as it is.
    """
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 — most values are not a reference

    if not (isinstance(value, dict) and value.keys() == {"stage_output", "bytes"}):
        return value
    uri = str(value["stage_output"])
    if not uri.startswith(f"{ObjectStoragePath(root)}".rstrip("/") + "/") or "/../" in uri:
        return value
    return json.loads(ObjectStoragePath(uri).read_bytes())
