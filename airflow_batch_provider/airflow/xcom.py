"""A stage's output on its way to XCom: the same JSON at every size, so that every downstream task can read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory

# XComs are rows of Airflow's database, and travel through two processes and the API on each use. Airflow's own object
# storage backend for XComs takes what is large out of the database.
LARGEST_XCOM = 16 << 20

_FILE = "return_value.json"


def to_xcom(output: Any, directory: Directory) -> Any:
    """Return the output itself.

    Raises:
        UsageError: the output is not JSON, or above `LARGEST_XCOM`; it is kept in stage storage then.
    """
    try:
        data = json.dumps(output).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"The stage's output is not JSON: {error}. Return dicts, lists or pydantic models.") from error
    if len(data) > LARGEST_XCOM:
        directory.write(_FILE, data)
        raise UsageError(
            f"The stage's output has {len(data)} bytes, above the {LARGEST_XCOM} that a task may return. It is kept in "
            f"{directory.uri(_FILE)}. Save it with ctx.storage.save and return the address that this gives."
        )
    return output
