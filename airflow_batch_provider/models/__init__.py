"""The values that everything else passes around: small, frozen, in our own words.

Provider words are translated into these at the edge of `providers/<name>.py`; Airflow's at the edge of `hooks/` and
`operators/`.
"""

from __future__ import annotations

from airflow_batch_provider.models.accounts import Account, ConnectionRef
from airflow_batch_provider.models.answers import REFUSED, ROW_STATUSES, BatchRow, Reply, RowError, RowStatus
from airflow_batch_provider.models.batches import ENDED, BatchState, BatchStatus, RequestCounts
from airflow_batch_provider.models.manifest import Cost, ErrorDigest, ErrorReason, Manifest, TableColumns
from airflow_batch_provider.models.requests import LONGEST_ID, BadRow, BatchRequest, Kind, PlainRequest, Spec
from airflow_batch_provider.models.tasks import TaskKey
from airflow_batch_provider.usage import Usage

__all__ = [
    "ENDED",
    "LONGEST_ID",
    "REFUSED",
    "ROW_STATUSES",
    "Account",
    "BadRow",
    "BatchRequest",
    "BatchRow",
    "BatchState",
    "BatchStatus",
    "ConnectionRef",
    "Cost",
    "ErrorDigest",
    "ErrorReason",
    "Kind",
    "Manifest",
    "PlainRequest",
    "Reply",
    "RequestCounts",
    "RowError",
    "RowStatus",
    "Spec",
    "TableColumns",
    "TaskKey",
    "Usage",
]
